//! [`StoreOutage`]: what boots while the shared store does not respond.
//!
//! Nothing is written then, so nothing is attached and nothing detached: every change in Cinder has a record before it.
//! The last known records may be old: the volume may have moved to another node. A machine boots if all of this holds:
//!
//! * Cinder still shows the recorded attachment as attached, with the recorded connection. A deleted attachment is gone
//!   from Cinder, even if old records still have it.
//! * This card hooked the volume through this attachment, at the last boot that any instance knows of.
//! * The last response of the store is not older than `last_known_max_age`.
//! * The node's last known state permits a boot.
//!
//! Otherwise the machine waits. `when_store_is_away = "last-known"` replaces the first two conditions while Cinder is
//! unavailable too, and permits boots whose connections are in the records. `"wait"` permits nothing.

use std::fmt;
use std::time::Duration;

use super::Attach;
use super::outcome;
use super::resolution::Resolution;
use crate::config::StoreOutagePolicy;
use crate::model::{AttachmentState, Mac};
use crate::store::Freshness;
use uuid::Uuid;

/// The shared store does not respond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOutage {
    /// The time since the last response.
    age: Duration,
    reason: String,
    policy: StoreOutagePolicy,
    max_age: Duration,
}

impl StoreOutage {
    /// Why no machine boots from its volumes at all, as a sentence.
    pub fn find_obstacle(&self) -> Option<String> {
        if self.policy == StoreOutagePolicy::Wait {
            return Some(format!("{self}; boots wait for it (when_store_is_away)"));
        }
        (self.age > self.max_age)
            .then(|| format!("{self}; the last known records are older than last_known_max_age"))
    }

    /// Whether last known records suffice where nothing can confirm them.
    pub fn trusts_last_known(&self) -> bool {
        self.policy == StoreOutagePolicy::LastKnown
    }

    /// The maximum age of a connection while Cinder is unavailable as well.
    pub(super) fn max_age(&self) -> Duration {
        self.max_age
    }

    /// The cause.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for StoreOutage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store does not respond ({})", self.reason)
    }
}

/// Why nothing can be written.
#[derive(Debug)]
pub(super) enum WriteObstacle {
    /// The store is read-only, for this reason. Its records are current.
    ReadOnly(String),
    /// Its records may be old.
    Outage(StoreOutage),
}

impl WriteObstacle {
    /// The store's state, for the source of a connection.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::ReadOnly(reason) => reason.clone(),
            Self::Outage(outage) => format!("it does not respond: {}", outage.reason()),
        }
    }

    /// The response when `reason` speaks against a recorded connection.
    pub(super) fn wait(&self, reason: &str) -> Resolution {
        match self {
            Self::ReadOnly(store) => outcome::wait_for_writable_store(store, reason),
            Self::Outage(outage) => outcome::wait_for_store(outage, reason),
        }
    }

    /// Whether the record's last hook has to be the card's.
    pub(super) fn requires_hook(&self) -> bool {
        match self {
            Self::ReadOnly(_) => false,
            Self::Outage(_) => true,
        }
    }
}

impl Attach {
    /// The outage of the shared store, if it does not respond.
    pub fn store_outage(&self) -> Option<StoreOutage> {
        let policy = *self.policy.read();
        match self.state.records.freshness() {
            Freshness::Fresh => None,
            Freshness::Stale { age, reason } => Some(StoreOutage {
                age,
                reason,
                policy: policy.when_store_is_away,
                max_age: policy.store_max_age,
            }),
        }
    }

    /// Notes the card through which a machine reported its volumes as hooked. Writes only if another card did so before.
    pub async fn note_hooked(&self, node: Uuid, card: Mac) {
        for record in self.attachments(node).await {
            if record.state != AttachmentState::Attached || record.hooked_by == Some(card) {
                continue;
            }
            let change = self.state.records.change(&record, |record| record.hooked_by = Some(card));
            if let Err(error) = change.await {
                tracing::debug!(%error, %node, volume = record.volume, "cannot note the card of a hook");
            }
        }
    }
}
