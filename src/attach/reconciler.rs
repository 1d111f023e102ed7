//! [`Reconciler`]: a background task that drives attachment records to completion without a boot request.
//!
//! * It detaches volumes that are no longer wanted, and retries until Cinder agrees, across restarts.
//! * It follows up pending exports: an export that happened is completed, and in any case repeated. That also shows
//!   whether an unavailable backend has recovered.
//! * It adopts the orphan of an interrupted create, or deletes the record if there is none.
//! * It probes Cinder while the circuit breaker is open.
//!
//! Work arrives through the store's change feed, so writers of records need not know the reconciler.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use super::breaker::CircuitScope;
use super::monitored_cinder::MonitoredCinder;
use super::single_flight::SingleFlight;
use super::state::State;
use super::work_queue::{RecordKey, RunResult, WorkQueue, has_pending_work, is_settling};
use crate::model::AttachmentState;
use crate::store::{AttachmentChanges, Revision};

/// Records that are reconciled concurrently.
const MAX_CONCURRENT_RECORDS: usize = 8;
/// The interval of housekeeping, which includes probes of Cinder.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(3);
/// The delay after a failure of the store.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(5);

/// The reconciler's position in the change feed, and its work.
#[derive(Debug)]
pub(super) struct Reconciler {
    state: Arc<State>,
    flights: Arc<SingleFlight>,
    revision: Revision,
    queue: WorkQueue,
    /// One task per record; each returns the key of its record, and how its run ended.
    running: JoinSet<(RecordKey, RunResult)>,
    /// At most one probe of Cinder.
    probes: JoinSet<()>,
    had_outage: bool,
    /// Whether the feed has shown all records that existed when the reconciler started.
    has_caught_up: bool,
}

impl Reconciler {
    pub(super) fn new(state: Arc<State>, flights: Arc<SingleFlight>) -> Self {
        Self {
            queue: WorkQueue::new(state.windows.grace_period),
            state,
            flights,
            // Revision 0 precedes all records, so the first read returns them all.
            revision: 0,
            running: JoinSet::new(),
            probes: JoinSet::new(),
            had_outage: false,
            has_caught_up: false,
        }
    }

    /// Runs until dropped.
    pub(super) async fn run(mut self) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING_INTERVAL);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.start_due();
            let next_due = self
                .queue
                .next_due()
                .filter(|_| self.running.len() < MAX_CONCURRENT_RECORDS && self.can_work());
            tokio::select! {
                changes = self.state.records.wait_for_change(self.revision) => match changes {
                    Ok(AttachmentChanges { records, revision, is_latest, is_full_list }) => {
                        self.revision = revision;
                        // The records of a start and of a list may be old.
                        let is_new = self.has_caught_up && !is_full_list;
                        self.has_caught_up |= is_latest;
                        for record in records {
                            self.state.record_ages.note(&record, is_new);
                            self.queue.update(&record);
                        }
                    }
                    Err(error) => {
                        tracing::error!(error = %error, "cannot read attachment records");
                        tokio::time::sleep(STORE_RETRY_DELAY).await;
                    }
                },
                Some(result) = self.running.join_next() => {
                    if let Ok((key, result)) = result {
                        self.queue.finish(key, result);
                    }
                },
                () = sleep_until(next_due.unwrap_or_else(Instant::now)), if next_due.is_some() => {}
                _ = housekeeping.tick() => self.keep_house(),
            }
        }
    }

    /// Whether a Cinder is configured, and the store accepts the records of changes.
    fn can_work(&self) -> bool {
        self.state.is_configured() && self.state.records.check_writable().is_ok()
    }

    fn start_due(&mut self) {
        let Some(cinder) = self.state.cinder().filter(|_| self.can_work()) else { return };
        let limit = MAX_CONCURRENT_RECORDS.saturating_sub(self.running.len());
        for key in self.queue.take_due(limit) {
            let state = Arc::clone(&self.state);
            let cinder = state.monitor(cinder.clone());
            self.running.spawn(async move {
                // A separate task: after a panic, the record is retried.
                let task = tokio::spawn({
                    let key = key.clone();
                    async move { reconcile_record(&state, &cinder, &key).await }
                });
                (key, task.await.unwrap_or(RunResult::Failed))
            });
        }
    }

    fn keep_house(&mut self) {
        self.flights.evict_idle();
        self.state.findings.evict_old();
        self.state.record_ages.evict_old(&self.state.windows);
        let has_outage = self.state.outage().is_some() || self.state.records.check_writable().is_err();
        if self.had_outage && !has_outage {
            // The outage ended: back-off delays caused by it are void.
            self.queue.reset_backoff();
        }
        self.had_outage = has_outage;
        while self.probes.try_join_next().is_some() {}
        if self.probes.is_empty() {
            self.probes.spawn(probe_endpoint(Arc::clone(&self.state)));
        }
    }
}

/// Sends Cinder a cheap request while the endpoint circuit is open.
async fn probe_endpoint(state: Arc<State>) {
    let Some(cinder) = state.cinder() else { return };
    if let Ok(Some(_probe)) = state.breaker.try_probe(&CircuitScope::Endpoint) {
        // The breaker is informed; the response itself does not matter.
        drop(state.monitor(cinder).ping().await);
    }
}

/// Does the pending work of a record.
async fn reconcile_record(state: &State, cinder: &MonitoredCinder, key: &RecordKey) -> RunResult {
    let (node, volume) = key;
    let claim = match state.claims.try_claim_attachment(*node, volume).await {
        Ok(Some(claim)) => claim,
        // Another task finishes the work, or the next run does.
        Ok(None) => return RunResult::Claimed,
        Err(error) => {
            tracing::error!(%error, "cannot claim attachment");
            return RunResult::Failed;
        }
    };
    let attacher = state.attacher(cinder, claim);
    let record = match state.records.get(*node, volume).await {
        Ok(Some(record)) if has_pending_work(&record) => record,
        Ok(_) => return RunResult::Done,
        Err(error) => {
            tracing::error!(error = %error, "cannot read attachment record");
            return RunResult::Failed;
        }
    };
    if state.outage().is_some() {
        return RunResult::Failed;
    }
    if is_settling(&record) {
        let age = state.record_ages.late_export_age(&record);
        if let Some(remaining) = state.windows.late_request.checked_sub(age).filter(|time| !time.is_zero()) {
            return RunResult::Early(remaining);
        }
    }
    let result = match record.state {
        AttachmentState::Attached if is_settling(&record) => {
            attacher.settle_export(&record).await.map(|()| true)
        }
        AttachmentState::Detaching => attacher.detach(&record).await.map(|()| true),
        AttachmentState::Intended => attacher.adopt_orphan(&record).await,
        AttachmentState::Reserved | AttachmentState::Attached => {
            attacher.repeat_export(&record).await.map(|()| true)
        }
    };
    match result {
        Ok(true) => RunResult::Done,
        Ok(false) => RunResult::Failed,
        Err(_) if attacher.has_lost_claim() => RunResult::Claimed,
        Err(error) => {
            let reason = error.into_reason();
            tracing::warn!(%node, volume, reason, state = ?record.state, "cannot reconcile attachment yet");
            // Cinder asks the Compute service before it deletes the attachment of a server.
            let is_blocked = record.state == AttachmentState::Detaching && record.server().is_some();
            if is_blocked { RunResult::Blocked } else { RunResult::Failed }
        }
    }
}
