//! [`EtcdHealth`]: when etcd last responded, and why it does not.

use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::store::contract::{Freshness, NO_SPACE, Revision, SharedStatus, StoreAccess};

/// The age of the last barrier up to which the store is fresh. Barriers follow one another every second at least.
const FRESH: Duration = Duration::from_secs(3);

/// What is known of etcd.
#[derive(Debug)]
pub(super) struct EtcdHealth(Mutex<HealthState>);

#[derive(Debug)]
struct HealthState {
    last_barrier: Option<Instant>,
    /// The last response before the start, by the wall clock of this host.
    heard: Option<SystemTime>,
    cause: String,
    has_no_space: bool,
    is_reported: bool,
    reachable: usize,
    revision: Revision,
    compacted: Revision,
}

impl EtcdHealth {
    pub(super) fn new(heard: Option<SystemTime>) -> Self {
        Self(Mutex::new(HealthState {
            last_barrier: None,
            heard,
            cause: "etcd has not responded since the start".into(),
            has_no_space: false,
            is_reported: false,
            reachable: 0,
            revision: 0,
            compacted: 0,
        }))
    }

    /// Notes a barrier.
    pub(super) fn succeed(&self, asked_at: Instant) {
        let mut state = self.0.lock();
        state.last_barrier = Some(asked_at);
        state.heard = Some(SystemTime::now());
        if std::mem::take(&mut state.is_reported) {
            tracing::info!("etcd responds again");
        }
    }

    /// Notes a failure.
    pub(super) fn fail(&self, cause: &str) {
        let mut state = self.0.lock();
        cause.clone_into(&mut state.cause);
        // The failure of one member is no outage.
        if state.last_barrier.is_some_and(|last| last.elapsed() <= FRESH) {
            tracing::debug!(cause, "call of etcd failed");
            return;
        }
        if !std::mem::replace(&mut state.is_reported, true) {
            tracing::warn!(
                cause,
                "etcd does not respond: changes are refused, reads show the last known records"
            );
        }
    }

    /// The cause of the last failure.
    pub(super) fn cause(&self) -> String {
        self.0.lock().cause.clone()
    }

    /// Notes whether etcd has refused a write for lack of space.
    pub(super) fn set_no_space(&self, has_no_space: bool) {
        let before = std::mem::replace(&mut self.0.lock().has_no_space, has_no_space);
        match (before, has_no_space) {
            (false, true) => tracing::error!("etcd has no space left (NOSPACE): changes are refused"),
            (true, false) => tracing::info!("etcd has space again"),
            _ => {}
        }
    }

    pub(super) fn has_no_space(&self) -> bool {
        self.0.lock().has_no_space
    }

    /// Notes how many members respond, and the latest revision of etcd.
    pub(super) fn set_members(&self, reachable: usize, revision: Revision) {
        let mut state = self.0.lock();
        state.reachable = reachable;
        // Without an answer, the last known one.
        state.revision = if reachable == 0 { state.revision } else { revision };
    }

    /// Notes the last compacted revision.
    pub(super) fn set_compacted(&self, revision: Revision) {
        self.0.lock().compacted = revision;
    }

    /// The status for operators. `members` are configured.
    pub(super) fn status(&self, members: usize, has_session: bool) -> SharedStatus {
        let age = match self.freshness() {
            Freshness::Fresh => self.0.lock().last_barrier.map_or(Duration::ZERO, |last| last.elapsed()),
            Freshness::Stale { age, .. } => age,
        };
        let state = self.0.lock();
        SharedStatus {
            age,
            has_session,
            has_no_space: state.has_no_space,
            members,
            reachable: state.reachable,
            revision: state.revision,
            compacted: state.compacted,
        }
    }

    /// The time of the last response, for the mirror.
    pub(super) fn heard(&self) -> Option<SystemTime> {
        self.0.lock().heard
    }

    pub(super) fn freshness(&self) -> Freshness {
        let state = self.0.lock();
        let age = match (state.last_barrier, state.heard) {
            (Some(last), _) if last.elapsed() <= FRESH => return Freshness::Fresh,
            (Some(last), _) => last.elapsed(),
            (None, Some(heard)) => heard.elapsed().unwrap_or_default(),
            (None, None) => Duration::MAX,
        };
        Freshness::Stale { age, reason: state.cause.clone() }
    }

    pub(super) fn access(&self) -> StoreAccess {
        match self.freshness() {
            Freshness::Stale { reason, .. } => StoreAccess::ReadOnly(reason),
            Freshness::Fresh if self.has_no_space() => StoreAccess::ReadOnly(NO_SPACE.into()),
            Freshness::Fresh => StoreAccess::ReadWrite,
        }
    }
}
