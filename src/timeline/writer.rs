//! The history thread: assigns events to machines, sends updates to subscribers, and commits to the history file.
//!
//! Group commit: at most ten commits a second, for any number of events, and one a second for DHCP requests alone. If the
//! file fails, events still reach the index and subscribers. They are missing from the file, which is reopened after a
//! while.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::compaction;
use super::describe::describe_event;
use super::history::{History, HistoryError};
use super::index::{Inserted, MachineIndex, ReachedMilestone};
use super::outbox::{EventPosition, Outbox};
use super::peers::{MAX_PEERS, PeerBatch, PeerProgress};
use super::pending_writes::PendingWrites;
use super::shared::TimelineShared;
use super::{Machine, MachineId, Update};
use crate::telemetry::{Event, EventKind};

/// Minimum time between two commits.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
/// The same, while all uncommitted events are DHCP requests: a boot has many, and others tell how it went on.
const DHCP_COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of uncommitted events that cause a commit before the interval has passed.
const COMMIT_BYTES: usize = 4 << 20;
/// Delay before a failed file is reopened.
const REOPEN_DELAY: Duration = Duration::from_secs(30);

/// A job for the thread.
pub(super) enum WriterJob {
    Events(Vec<Event>),
    /// Join the events of another instance, and confirm.
    Join(Box<PeerBatch>, oneshot::Sender<()>),
    /// Commit the remaining events, confirm, and exit.
    Close(SyncSender<()>),
}

pub(super) struct HistoryWriter {
    pub(super) shared: Arc<TimelineShared>,
    pub(super) path: Option<PathBuf>,
    /// Earliest time to reopen a failed file.
    pub(super) retry_at: Option<Instant>,
    pub(super) last_commit: Instant,
    pub(super) uncommitted_events: u64,
    pub(super) uncommitted_bytes: usize,
    /// Whether all uncommitted events are DHCP requests.
    pub(super) has_only_dhcp: bool,
    /// The milestones of boots that the last event has reached.
    pub(super) reached: Vec<ReachedMilestone>,
}

impl HistoryWriter {
    pub(super) fn run(mut self, jobs: Receiver<WriterJob>) {
        self.compact();
        loop {
            let job = if self.uncommitted_events == 0 {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(self.commit_interval().saturating_sub(self.last_commit.elapsed()))
            };
            match job {
                Ok(WriterJob::Events(events)) => {
                    for event in events {
                        let bytes = event.byte_size();
                        self.process(event);
                        self.shared.queued_events.fetch_sub(1, Ordering::Relaxed);
                        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                    }
                }
                Ok(WriterJob::Join(batch, done)) => {
                    self.join(*batch);
                    // The task may have been cancelled.
                    let _ = done.send(());
                }
                Ok(WriterJob::Close(done)) => {
                    self.commit();
                    *self.shared.history.write() = None;
                    // The receiver may have timed out.
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.commit(),
            }
            let is_due =
                self.last_commit.elapsed() >= self.commit_interval() || self.uncommitted_bytes > COMMIT_BYTES;
            if self.uncommitted_events > 0 && is_due {
                self.commit();
            }
        }
    }

    fn commit_interval(&self) -> Duration {
        if self.has_only_dhcp { DHCP_COMMIT_INTERVAL } else { COMMIT_INTERVAL }
    }

    /// Compacts the file if it is too large for its contents.
    fn compact(&self) {
        let Some(path) = &self.path else { return };
        if self.shared.history.read().as_ref().is_none_or(History::is_read_only) {
            return;
        }
        let started_at = Instant::now();
        match compaction::compact(path, &self.shared.history, &self.shared.index) {
            Ok(None) => {}
            Ok(Some((bytes_before, bytes_after))) => {
                let duration_ms = started_at.elapsed().as_millis() as u64;
                tracing::info!(bytes_before, bytes_after, duration_ms, "history compacted");
            }
            Err(error) => {
                tracing::error!(%error, "cannot compact the history; the file stays as it is");
            }
        }
    }

    /// Adds an event of this instance to the index, numbers it for the others, and sends the update to subscribers.
    fn process(&mut self, event: Event) {
        let Some(Inserted { id, is_late }) = self.insert(&event, MachineIndex::insert) else { return };
        if let Some(outbox) = &self.shared.outbox {
            outbox.lock().push(&event);
        }
        for milestone in self.reached.drain(..) {
            milestone.observe(&self.shared.metrics);
        }
        if is_late {
            self.replay(id);
        }
        self.send_update(id, event);
    }

    /// Adds an event to the index.
    fn insert(
        &mut self,
        event: &Event,
        insert: fn(&mut MachineIndex, &Event) -> Option<Inserted>,
    ) -> Option<Inserted> {
        let mut index = self.shared.index.write();
        let inserted = insert(&mut index, event)?;
        for class in index.evicted.drain(..) {
            self.shared.metrics.count_history_eviction(class.as_label());
        }
        self.reached.append(&mut index.reached);
        let is_dhcp = matches!(event.kind, EventKind::Dhcp(_));
        self.has_only_dhcp = is_dhcp && (self.uncommitted_events == 0 || self.has_only_dhcp);
        self.uncommitted_events += 1;
        self.uncommitted_bytes += event.byte_size();
        Some(inserted)
    }

    fn send_update(&self, id: MachineId, event: Event) {
        if self.shared.updates.receiver_count() == 0 {
            return;
        }
        let index = self.shared.index.read();
        let Some((_, record)) = index.get(id) else { return };
        let event = describe_event(event, &record.progress.hooks);
        let update = Update { machine: Machine::new(record, Timestamp::now()), event };
        drop(index);
        // The last subscriber may have gone in the meantime.
        let _ = self.shared.updates.send(Arc::new(update));
    }

    /// Joins the events of another instance that have not been joined before.
    fn join(&mut self, batch: PeerBatch) {
        let (now, started_at) = (Timestamp::now(), Instant::now());
        let name = batch.instance.as_str().to_owned();
        let mut progress = {
            let peers = self.shared.peers.lock();
            peers.get(&name).cloned().unwrap_or_else(|| PeerProgress::new(now))
        };
        let stream = batch.end.map_or(0, |end| end.stream);
        let (mut late, mut joined) = (BTreeSet::new(), Vec::new());
        for (number, event) in &batch.events {
            if progress.has_joined(EventPosition { stream, number: *number }) {
                continue;
            }
            let event =
                Event { instance: Some(batch.instance.clone()), at: event.at.min(now), ..event.clone() };
            self.shared.learn_joined(&event, now, started_at);
            let Some(Inserted { id, is_late }) = self.insert(&event, MachineIndex::join) else { continue };
            if is_late {
                late.insert(id);
            }
            joined.push((id, event));
        }
        for id in late {
            self.replay(id);
        }
        // The other instance has observed them.
        self.reached.clear();
        self.shared.metrics.count_joined_events(joined.len() as u64);
        for (id, event) in joined {
            self.send_update(id, event);
        }
        if progress.note(&batch, now) {
            self.shared.index.write().uncommitted.peers.insert(name.clone(), Some(progress.clone()));
            // The place is committed, even if the batch had no event.
            self.uncommitted_events = self.uncommitted_events.max(1);
        }
        let mut peers = self.shared.peers.lock();
        peers.insert(name, progress);
        if peers.len() > MAX_PEERS {
            let oldest = peers.iter().min_by_key(|(_, progress)| progress.heard_at);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                peers.remove(&name);
                self.shared.index.write().uncommitted.peers.insert(name, None);
            }
        }
    }

    /// Rebuilds the state of a machine in the order of time, after a late event.
    fn replay(&self, id: MachineId) {
        match self.shared.read_events(id) {
            Ok(events) => self.shared.index.write().replay(id, &events),
            Err(error) => {
                tracing::error!(%error, "cannot read the history: a machine's state lacks an event");
            }
        }
    }

    fn commit(&mut self) {
        if self.uncommitted_events == 0 {
            return;
        }
        let events = std::mem::take(&mut self.uncommitted_events);
        self.uncommitted_bytes = 0;
        self.last_commit = Instant::now();
        {
            let mut index = self.shared.index.write();
            index.expire_recent(Timestamp::now());
            index.expire_statistics(Timestamp::now());
            index.prepare_log_commit();
            if self.path.is_none() {
                // Without a file, events stay in memory.
                index.uncommitted.events.retain(|_, event| event.is_some());
                index.uncommitted.records.clear();
                index.uncommitted.statistics.clear();
                index.uncommitted.peers.clear();
                drop(index);
                self.shared.serve_outbox(Outbox::serve_from_memory);
                return;
            }
            index.uncommitted.outbox =
                self.shared.outbox.as_ref().map(|outbox| outbox.lock().pending_writes());
            index.in_commit = std::mem::take(&mut index.uncommitted);
        }
        self.reopen();
        let result = {
            let history = self.shared.history.read();
            let index = self.shared.index.read();
            // Readers of the index continue during the commit. This thread is the only writer.
            let history = history.as_ref().filter(|history| !history.is_read_only());
            history.map(|history| history.write(&index))
        };
        match result {
            Some(Ok(())) => {
                self.shared.metrics.count_history_commit();
                self.shared.serve_outbox(Outbox::confirm_writes);
            }
            Some(Err(error)) => {
                tracing::error!(%error, "cannot write the history: events are not recorded");
                *self.shared.history.write() = None;
                let is_set_aside =
                    self.path.as_ref().is_some_and(|path| History::set_aside(path, error.into()).is_ok());
                if is_set_aside {
                    self.retry_at = Some(Instant::now());
                } else {
                    self.fall_back();
                    self.retry_at = Some(Instant::now() + REOPEN_DELAY);
                }
                self.shared.dropped_events.fetch_add(events, Ordering::Relaxed);
                self.shared.serve_outbox(Outbox::serve_from_memory);
            }
            None => {
                self.shared.dropped_events.fetch_add(events, Ordering::Relaxed);
                self.shared.serve_outbox(Outbox::serve_from_memory);
            }
        }
        let mut index = self.shared.index.write();
        index.in_commit = PendingWrites::default();
    }

    /// Reopens a failed file once its delay has passed.
    fn reopen(&mut self) {
        let (Some(path), Some(retry_at)) = (&self.path, self.retry_at) else { return };
        if Instant::now() < retry_at {
            return;
        }
        match History::open(path) {
            Ok(history) => {
                self.retry_at = None;
                *self.shared.history.write() = Some(history);
                tracing::info!("history reopened: events are recorded again");
            }
            Err(error) => {
                log_unavailable(&error);
                self.fall_back();
                self.retry_at = Some(Instant::now() + REOPEN_DELAY);
            }
        }
    }

    /// Opens the file for reading after a failure: redb refuses all operations of the failed database.
    fn fall_back(&self) {
        let Some(path) = &self.path else { return };
        let mut history = self.shared.history.write();
        // First, for its lock.
        *history = None;
        *history = History::open_read_only(path).ok();
    }
}

pub(super) fn log_unavailable(error: &HistoryError) {
    tracing::error!(%error, "cannot open the history: machines boot, but events are not recorded");
}
