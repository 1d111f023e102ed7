//! [`Readiness`]: whether this instance should get boot requests.

use std::time::Duration;

use tokio::time::timeout;

use super::Operator;
use crate::store::{Freshness, NO_SPACE, StoreAccess};

/// The deadline for the store's response.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether this instance should get boot requests, and what speaks against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether the store responds.
    pub store: StoreReadiness,
    /// Whether the instance has a session in the store, without which it can claim no work.
    pub has_session: bool,
    /// Whether the shutdown was requested.
    pub is_stopping: bool,
}

/// The response of the store to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreReadiness {
    /// It responds, and accepts changes.
    Available,
    /// It responds, and accepts no changes. Boots go on from recorded attachments.
    ReadOnly,
    /// The shared store responds, but has no space left for changes and sessions.
    NoSpace,
    /// The shared store has not responded for this time; `None`: not since the first start.
    Away(Option<Duration>),
    /// The read has failed.
    Failed,
    /// The read takes too long.
    TimedOut,
}

impl Readiness {
    /// Whether the instance is ready.
    pub fn is_ready(&self) -> bool {
        self.store.is_available() && self.has_session && !self.is_stopping
    }
}

impl StoreReadiness {
    fn is_available(&self) -> bool {
        matches!(self, Self::Available | Self::ReadOnly | Self::NoSpace)
    }
}

impl std::fmt::Display for StoreReadiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Available => f.write_str("ok"),
            Self::ReadOnly => f.write_str("read-only"),
            Self::NoSpace => f.write_str("read-only: etcd has no space left (NOSPACE)"),
            Self::Away(Some(age)) => write!(f, "is away for {} s", age.as_secs()),
            Self::Away(None) => f.write_str("is away, and was never read"),
            Self::Failed => f.write_str("error"),
            Self::TimedOut => f.write_str("timeout"),
        }
    }
}

impl Operator {
    /// Checks whether this instance should get boot requests. Takes two seconds at most.
    pub async fn check_readiness(&self) -> Readiness {
        let read = timeout(STORE_TIMEOUT, self.check_store()).await;
        let store = match (read, self.inventory.freshness()) {
            (Ok(Ok(_)), _) => match self.store_access() {
                StoreAccess::ReadWrite => StoreReadiness::Available,
                StoreAccess::ReadOnly(reason) if reason == NO_SPACE => StoreReadiness::NoSpace,
                StoreAccess::ReadOnly(_) => StoreReadiness::ReadOnly,
            },
            (_, Freshness::Stale { age, .. }) => StoreReadiness::Away((age < Duration::MAX).then_some(age)),
            (Ok(Err(_)), Freshness::Fresh) => StoreReadiness::Failed,
            (Err(_), Freshness::Fresh) => StoreReadiness::TimedOut,
        };
        Readiness {
            store,
            has_session: self.inventory.cluster().has_session(),
            is_stopping: self.appliance.leaving.is_cancelled(),
        }
    }
}
