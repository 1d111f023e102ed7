//! The reconciler: a background task that drives attachment records to completion without a boot request.
//!
//! * It detaches volumes that are no longer wanted, and retries until Cinder agrees, across restarts.
//! * It follows up pending exports: an export that happened is completed, and in any case repeated. That also shows
//!   whether an unavailable backend has recovered.
//! * It adopts the orphan of an interrupted create, or deletes the record if there is none.
//! * It probes Cinder while the circuit breaker is open.
//!
//! Work arrives through the store's change feed, so writers of records need not know the reconciler.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::breaker::CircuitScope;
use super::error::{AttachError, classify};
use super::volume::AttachmentWorker;
use super::{Attach, State};
use crate::cinder::CinderError;
use crate::model::{Attachment, AttachmentState};

/// Records that are reconciled concurrently.
const MAX_CONCURRENT_RECORDS: usize = 8;
/// The back-off after failures: the first delay, which doubles, and the longest.
const INITIAL_BACKOFF: Duration = Duration::from_secs(2);
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// How long a boot request keeps its record to itself.
const GRACE_PERIOD: Duration = Duration::from_secs(10);
/// The interval of housekeeping, which includes probes of Cinder.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(3);
/// The delay after a failure of the store.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(5);

type Key = (Uuid, String);

/// A record in the work queue.
#[derive(Debug, Clone, Copy)]
struct WorkItem {
    due_at: Instant,
    failures: u32,
    is_running: bool,
    /// The delay before the next run, if the record changed during this run.
    requeue_after: Option<Duration>,
}

impl WorkItem {
    fn after(delay: Duration) -> Self {
        Self { due_at: Instant::now() + delay, failures: 0, is_running: false, requeue_after: None }
    }

    fn after_failure(self) -> Self {
        let delay = INITIAL_BACKOFF.saturating_mul(1 << self.failures.min(10)).min(MAX_BACKOFF);
        Self { failures: self.failures.saturating_add(1), ..Self::after(delay) }
    }
}

/// Whether a record needs the reconciler.
fn has_pending_work(record: &Attachment) -> bool {
    record.state == AttachmentState::Detaching
        || record.state == AttachmentState::Intended
        || record.pending_export
}

impl Attach {
    /// Runs the reconciler until `stop` is cancelled.
    pub async fn reconcile(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.run_loop()).await;
    }

    async fn run_loop(&self) {
        let mut queue: HashMap<Key, WorkItem> = HashMap::new();
        // Revision 0 precedes all records, so the first read returns them all.
        let mut revision = 0;
        let mut running: JoinSet<(Key, bool)> = JoinSet::new();
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING_INTERVAL);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut probes: JoinSet<()> = JoinSet::new();
        let mut outage_before = false;
        loop {
            self.start_due(&mut queue, &mut running);
            let next_due = queue.values().filter(|item| !item.is_running).map(|item| item.due_at).min();
            let next_due =
                next_due.filter(|_| running.len() < MAX_CONCURRENT_RECORDS && self.is_configured());
            tokio::select! {
                changes = self.0.records.wait_for_change(revision) => match changes {
                    Ok((records, new_revision)) => {
                        revision = new_revision;
                        for record in records {
                            enqueue(&mut queue, &record);
                        }
                    }
                    Err(error) => {
                        tracing::error!(error = %error, "cannot read attachment records");
                        tokio::time::sleep(STORE_RETRY_DELAY).await;
                    }
                },
                Some(result) = running.join_next() => {
                    if let Ok((key, is_done)) = result {
                        match queue.remove(&key) {
                            Some(WorkItem { requeue_after: Some(delay), .. }) if is_done || delay.is_zero() => {
                                queue.insert(key, WorkItem::after(delay));
                            }
                            Some(item) if !is_done => drop(queue.insert(key, item.after_failure())),
                            _ => {}
                        }
                    }
                },
                () = sleep_until(next_due.unwrap_or_else(Instant::now)), if next_due.is_some() => {}
                _ = housekeeping.tick() => {
                    self.evict_idle();
                    let outage_now = self.cinder_outage().is_some();
                    if outage_before && !outage_now {
                        // The outage ended: back-off delays caused by it are void.
                        for item in queue.values_mut() {
                            (item.due_at, item.failures) = (Instant::now(), 0);
                        }
                    }
                    outage_before = outage_now;
                    while probes.try_join_next().is_some() {}
                    if probes.is_empty() {
                        probes.spawn(self.clone().probe_endpoint());
                    }
                }
            }
        }
    }

    fn start_due(&self, queue: &mut HashMap<Key, WorkItem>, running: &mut JoinSet<(Key, bool)>) {
        let Some(worker) = self.worker() else { return };
        let now = Instant::now();
        let mut ready: Vec<_> =
            queue.iter_mut().filter(|(_, item)| !item.is_running && item.due_at <= now).collect();
        // The longest overdue item comes first, so that no item starves.
        ready.sort_by_key(|(_, item)| item.due_at);
        for (key, item) in ready.into_iter().take(MAX_CONCURRENT_RECORDS.saturating_sub(running.len())) {
            item.is_running = true;
            let (state, worker, key) = (self.0.clone(), worker.clone(), key.clone());
            running.spawn(async move {
                // A separate task: after a panic, the record is retried.
                let task = tokio::spawn({
                    let key = key.clone();
                    async move { reconcile_record(&state, &worker, &key).await }
                });
                (key, task.await.unwrap_or(false))
            });
        }
    }

    /// Sends Cinder a cheap request while the endpoint circuit is open.
    async fn probe_endpoint(self) {
        let Some(worker) = self.worker() else { return };
        if let Ok(Some(_probe)) = self.0.breaker.try_probe(&CircuitScope::Endpoint) {
            // `report` informs the breaker; the response itself does not matter.
            drop(worker.report(worker.cinder.ping().await));
        }
    }
}

fn key(record: &Attachment) -> Key {
    (record.node, record.volume.clone())
}

/// Queues a changed record, or removes it from the queue.
fn enqueue(queue: &mut HashMap<Key, WorkItem>, record: &Attachment) {
    let key = key(record);
    let delay = if record.state == AttachmentState::Detaching { Duration::ZERO } else { GRACE_PERIOD };
    match queue.get_mut(&key) {
        // The running task may be acting on the previous revision.
        Some(item) if item.is_running => item.requeue_after = has_pending_work(record).then_some(delay),
        Some(_) if !has_pending_work(record) => drop(queue.remove(&key)),
        Some(item) => item.due_at = item.due_at.min(Instant::now() + delay),
        None if has_pending_work(record) => drop(queue.insert(key, WorkItem::after(delay))),
        None => {}
    }
}

/// Does the pending work of a record. Returns whether none is left.
async fn reconcile_record(state: &State, worker: &AttachmentWorker, key: &Key) -> bool {
    let (node, volume) = key;
    // Another task holds the lock: it finishes the work, or the next run does.
    let Some(_guard) = state.locks.try_lock(*node, volume) else { return false };
    let record = match worker.records.get(*node, volume).await {
        Ok(Some(record)) if has_pending_work(&record) => record,
        Ok(_) => return true,
        Err(error) => {
            tracing::error!(error = %error, "cannot read attachment record");
            return false;
        }
    };
    if worker.breaker.check(&CircuitScope::Endpoint).is_err() {
        return false;
    }
    let result = match record.state {
        AttachmentState::Detaching => worker.detach(&record).await.map(|()| true),
        AttachmentState::Intended => worker.adopt_orphan(&record).await,
        AttachmentState::Reserved | AttachmentState::Attached => repeat_export(worker, &record).await,
    };
    match result {
        Ok(is_done) => is_done,
        Err(
            AttachError::Unavailable(reason) | AttachError::Transient(reason) | AttachError::Refused(reason),
        ) => {
            tracing::warn!(%node, volume, reason, state = ?record.state, "cannot reconcile attachment yet");
            false
        }
    }
}

/// Follows up a pending export: completes the attachment if the export happened, then exports again in any case. Only
/// a response to an export holds the current connection. The new export follows any earlier one still in progress.
async fn repeat_export(worker: &AttachmentWorker, record: &Attachment) -> Result<bool, AttachError> {
    let Some(id) = &record.cinder_id else { return Ok(true) };
    let attachment = match worker.report(worker.cinder.attachment(id).await) {
        Ok(attachment) => attachment,
        Err(error) => return handle_error(worker, record, error).await,
    };
    if attachment.status == "attaching" {
        // The export happened: the machine may be using the volume already.
        if let Err(error) = worker.report(worker.cinder.complete(id).await) {
            return handle_error(worker, record, error).await;
        }
    }
    let Some(connector) = &record.connector else { return Ok(true) };
    // An unavailable backend needs only one of its volumes as a probe.
    let scope = record.volume_type.clone().map(CircuitScope::Backend);
    let _probe = match &scope {
        Some(scope) => worker.breaker.try_probe(scope).map_err(AttachError::Unavailable)?,
        None => None,
    };
    if worker.export(record, connector).await?.is_none() {
        worker.delete_stale(record).await?;
    }
    Ok(true)
}

/// On an error from Cinder other than an outage: drops the cached connection; on 404 also deletes a stale record.
async fn handle_error(
    worker: &AttachmentWorker,
    record: &Attachment,
    error: CinderError,
) -> Result<bool, AttachError> {
    if let CinderError::Unavailable(reason) = error {
        return Err(AttachError::Unavailable(reason));
    }
    worker.clear_connection(record, record.pending_export).await?;
    match error {
        CinderError::NotFound(_) => worker.delete_stale(record).await.map(|()| true),
        refusal => Err(classify(&record.volume, refusal)),
    }
}
