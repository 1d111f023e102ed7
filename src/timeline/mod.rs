//! The timeline: events of all listeners, grouped by machine, stored, and sent to subscribers.
//!
//! [`Timeline`] takes [`Event`]s from a bounded queue. Recording an event never blocks: when the queue is full, the
//! event is dropped and counted. One thread ([`mod@writer`]) assigns events to machines ([`mod@index`]), sends
//! updates to subscribers, and writes the history file ([`mod@history`]). [`BootProgress`] is the state of a
//! machine's boot session, and its [`Verdict`] sums that state up in one line.
//!
//! Memory holds a few hundred bytes per machine, enough for lists. Events are read from the history file; DHCP requests whose
//! machine has sent nothing else since are in memory, and in a log of that file ([`mod@dhcp_log`]).

mod boot_result;
mod boot_stage;
mod boot_state;
mod bounds;
mod compaction;
mod describe;
mod dhcp_after_boot;
mod dhcp_log;
mod dhcp_progress;
mod dhcp_verdict;
mod encoding;
mod history;
mod index;
mod log_table;
mod loop_detector;
mod machine;
mod machine_id;
mod milestones;
mod no_network_boot;
mod outbox;
mod peers;
mod pending_writes;
mod progress;
mod progress_texts;
mod recent;
mod record;
mod record_usage;
mod reloads;
mod replay;
mod requesters;
mod shared;
mod statistics;
mod statistics_table;
mod storm;
#[cfg(test)]
mod tests;
mod traces;
mod verdict;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tokio::sync::{broadcast, oneshot, watch};

use crate::model::{CardSighting, InstanceName};
use crate::telemetry::{Event, EventKind, Metrics, PowerOnTimes};
pub use boot_result::BootResult;
pub use boot_stage::BootStage;
pub use boot_state::{BootState, Verdict};
use bounds::Bounds;
pub use describe::{TimelineEntry, describe};
pub use dhcp_after_boot::DhcpAfterBoot;
pub use dhcp_progress::{DhcpProgress, LeaseReply, OtherOffer};
use history::{History, HistoryError};
use index::MachineIndex;
pub use loop_detector::{CountedCard, LoopDelay, LoopDetector};
pub use machine::Machine;
pub use machine_id::{MachineId, MachineIdError};
pub use milestones::{BootMilestones, BootPhase, PhaseSpan};
use outbox::Outbox;
pub use outbox::{EventPosition, OutboxPage};
pub use peers::{PeerBatch, PeerProgress};
pub use progress::{BootProgress, StepFailure};
pub use reloads::ReloadMemory;
use shared::TimelineShared;
pub use statistics::{BootOverview, BootSummary, BootWindows, UpSummary};
pub use storm::BootStorm;
pub use traces::{BootTrace, MedianPhases, trace_boots};
use writer::{HistoryWriter, WriterJob};

/// Capacity of the queue to the writer thread, in batches of events. Further events are dropped.
const QUEUE_CAPACITY: usize = 8192;
/// Bytes of events in the queue.
const QUEUE_BYTES: usize = 8 << 20;
/// Updates that a subscriber may lag behind. Older ones are skipped, and the subscriber learns how many.
const SUBSCRIBER_CAPACITY: usize = 1024;
/// Delay before a batch of another instance is put into a full queue again.
const QUEUE_RETRY_DELAY: Duration = Duration::from_millis(50);
/// Time limit for the final commit at shutdown.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The timelines of all machines. Cheap to clone: clones share their state.
#[derive(Debug, Clone)]
pub struct Timeline {
    shared: Arc<TimelineShared>,
    jobs: SyncSender<WriterJob>,
}

/// A message to subscribers: an event, and the machine's resulting state.
#[derive(Debug, Clone, Serialize)]
pub struct Update {
    /// The machine after the event.
    pub machine: Machine,
    /// The event with its description.
    pub event: TimelineEntry,
}

impl Timeline {
    /// Opens the timeline with the history file at `path`, and loads its machines. On an error, the error is logged
    /// and opening is retried later. `None`: events are kept in memory only.
    ///
    /// Blocks while machines are loaded: about 50 ms for ten thousand.
    pub fn open_blocking(path: Option<&Path>, metrics: Metrics) -> Self {
        Self::with_bounds(path, metrics, Bounds::default(), None)
    }

    /// Opens the timeline of an instance of a cluster: its events bear its name, are numbered for the other instances,
    /// and are joined with theirs.
    pub fn open_instance_blocking(path: Option<&Path>, metrics: Metrics, own: InstanceName) -> Self {
        Self::with_bounds(path, metrics, Bounds::default(), Some(own))
    }

    fn with_bounds(path: Option<&Path>, metrics: Metrics, bounds: Bounds, own: Option<InstanceName>) -> Self {
        let mut index = MachineIndex::new(bounds);
        if let Some(own) = &own {
            index.join_cluster(own.clone());
        }
        let history = path.and_then(|path| {
            let result = open_history(path, &mut index);
            result.inspect_err(writer::log_unavailable).ok().or_else(|| {
                // The records must be known before new ones get numbers.
                open_read_only_history(path, &mut index).ok()
            })
        });
        let outbox = own.as_ref().map(|_| {
            let outbox = history.as_ref().and_then(|history| history.load_outbox().ok().flatten());
            Mutex::new(outbox.unwrap_or_else(Outbox::new))
        });
        let peers = history.as_ref().filter(|_| own.is_some()).and_then(|history| history.load_peers().ok());
        let retry_at = history.as_ref().is_none_or(History::is_read_only).then(Instant::now);
        let shared = Arc::new(TimelineShared {
            index: RwLock::new(index),
            history: RwLock::new(history),
            has_file: path.is_some(),
            updates: broadcast::Sender::new(SUBSCRIBER_CAPACITY),
            queued_events: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            dropped_events: AtomicU64::new(0),
            metrics,
            loop_detector: Arc::default(),
            reload_memory: Arc::default(),
            own,
            outbox,
            outbox_changes: watch::Sender::new(()),
            peers: Mutex::new(peers.unwrap_or_default()),
        });
        let (jobs, receiver) = sync_channel(QUEUE_CAPACITY);
        let writer = HistoryWriter {
            shared: Arc::clone(&shared),
            path: path.map(Path::to_owned),
            retry_at,
            last_commit: Instant::now(),
            uncommitted_events: 0,
            uncommitted_bytes: 0,
            has_only_dhcp: false,
            reached: Vec::new(),
        };
        let result = std::thread::Builder::new().name("history".into()).spawn(move || writer.run(receiver));
        if let Err(error) = result {
            tracing::error!(%error, "cannot start the history thread: events are not recorded");
        }
        Self { shared, jobs }
    }

    /// Records an event and counts it in the metrics. Never blocks.
    pub fn record(&self, event: Event) {
        self.record_all(vec![event]);
    }

    /// Records events like [`Timeline::record`], with one wake-up of the writer thread for all.
    pub fn record_all(&self, mut events: Vec<Event>) {
        let shared = &self.shared;
        events.retain_mut(|event| {
            event.instance.clone_from(&shared.own);
            self.observe(event);
            let bytes = event.byte_size();
            shared.queued_events.fetch_add(1, Ordering::Relaxed);
            let is_full = shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES;
            if is_full {
                shared.drop_event(bytes);
            }
            !is_full
        });
        if events.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) =
            self.jobs.try_send(WriterJob::Events(events))
            && let WriterJob::Events(events) = job
        {
            for event in &events {
                shared.drop_event(event.byte_size());
            }
        }
    }

    /// Updates the metrics and the detectors.
    fn observe(&self, event: &Event) {
        event.update_metrics(&self.shared.metrics);
        if let (Some(mac), EventKind::BootReport { step: Some(step), rc, .. }) = (event.mac, &event.kind)
            && step.is_success(rc.as_deref())
        {
            self.shared.loop_detector.reset(mac, Instant::now());
        }
        self.shared.reload_memory.observe(event);
    }

    /// Counts an event in the metrics without recording it.
    pub fn count_only(&self, event: &Event) {
        event.update_metrics(&self.shared.metrics);
    }

    /// The metrics that count the events.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The loop detector. Reports of hooked volumes reset it.
    pub fn loop_detector(&self) -> Arc<LoopDetector> {
        Arc::clone(&self.shared.loop_detector)
    }

    /// The memory of loads. Every event that is recorded updates it.
    pub fn reload_memory(&self) -> Arc<ReloadMemory> {
        Arc::clone(&self.shared.reload_memory)
    }

    /// Subscribes to updates from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Update>> {
        self.shared.updates.subscribe()
    }

    /// Number of subscribers.
    pub fn subscriber_count(&self) -> usize {
        self.shared.updates.receiver_count()
    }

    /// The machines that pass `filter`, most recently seen first.
    pub fn machines(&self, filter: impl Fn(&Machine) -> bool) -> Vec<Machine> {
        let now = Timestamp::now();
        let index = self.shared.index.read();
        let mut machines: Vec<_> =
            index.records().map(|record| Machine::new(record, now)).filter(filter).collect();
        drop(index);
        machines.sort_by(|a, b| b.last_seen.cmp(&a.last_seen).then(a.id.cmp(&b.id)));
        machines
    }

    /// The last sighting of each machine's card on an attached network.
    pub fn card_sightings(&self) -> Vec<CardSighting> {
        self.shared.index.read().records().filter_map(|record| record.sighting).collect()
    }

    /// Number of machines in each state.
    pub fn count_by_state(&self) -> Vec<(BootState, usize)> {
        let now = Timestamp::now();
        let mut counts = BootState::ALL.map(|state| (state, 0));
        let index = self.shared.index.read();
        for record in index.records() {
            let state = Verdict::new(&record.progress, now).state;
            counts.iter_mut().filter(|(other, _)| *other == state).for_each(|(_, count)| *count += 1);
        }
        counts.to_vec()
    }

    /// The boots of all nodes, past and present.
    pub fn summarize_boots(&self) -> BootOverview {
        self.shared.index.read().summarize_boots(Timestamp::now())
    }

    /// When machines were switched on, for the time from the power-on to *up*.
    pub fn power_on_times(&self) -> PowerOnTimes {
        self.shared.index.read().power_on_times.clone()
    }

    /// Number of machines.
    pub fn len(&self) -> usize {
        self.shared.index.read().len()
    }

    /// Whether there is no machine.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The machine with this id.
    pub fn machine(&self, id: MachineId) -> Option<Machine> {
        let index = self.shared.index.read();
        index.get(id).map(|(_, record)| Machine::new(record, Timestamp::now()))
    }

    /// A machine's events, oldest first.
    ///
    /// Blocks while the history file is read.
    pub fn events_blocking(&self, id: MachineId) -> Vec<Event> {
        let events = self.shared.read_events(id);
        events.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the history");
            self.shared.merge_events(id, Vec::new())
        })
    }

    /// The events of this instance after a place, for another instance. Without a place, all that are left.
    pub fn outbox_page(&self, after: Option<EventPosition>) -> OutboxPage {
        let empty = OutboxPage { end: after, has_gap: false, events: Vec::new() };
        self.shared.outbox.as_ref().map_or(empty, |outbox| outbox.lock().page(after))
    }

    /// Changes when there is more for the other instances.
    pub fn outbox_changes(&self) -> watch::Receiver<()> {
        self.shared.outbox_changes.subscribe()
    }

    /// Joins events of another instance, each once. They count in no metric of events, and are not for third instances.
    /// Returns after they are in the timeline; at the next commit, they and the place after them are in the file.
    pub async fn join(&self, batch: PeerBatch) {
        let (done, joined) = oneshot::channel();
        let mut job = WriterJob::Join(Box::new(batch), done);
        // The queue is shared with the events of this instance, which never wait.
        while let Err(TrySendError::Full(rejected)) = self.jobs.try_send(job) {
            job = rejected;
            tokio::time::sleep(QUEUE_RETRY_DELAY).await;
        }
        let _ = joined.await;
    }

    /// How far the events of the other instances have been joined, by name.
    pub fn peer_progress(&self) -> BTreeMap<String, PeerProgress> {
        self.shared.peers.lock().clone()
    }

    /// This instance of a cluster; `None` without a cluster.
    pub fn own_instance(&self) -> Option<&InstanceName> {
        self.shared.own.as_ref()
    }

    /// Events in the queue.
    pub fn queued_events(&self) -> usize {
        self.shared.queued_events.load(Ordering::Relaxed)
    }

    /// Events missing from the file, since the start.
    pub fn dropped_events(&self) -> u64 {
        self.shared.dropped_events.load(Ordering::Relaxed)
    }

    /// Whether events are being recorded as configured.
    pub fn is_recording(&self) -> bool {
        !self.shared.has_file
            || self.shared.history.read().as_ref().is_some_and(|history| !history.is_read_only())
    }

    /// Commits the remaining events and closes the file, within [`CLOSE_TIMEOUT`].
    pub fn close_blocking(&self) {
        let (done, closed) = sync_channel(1);
        if self.jobs.send(WriterJob::Close(done)).is_ok() {
            let _ = closed.recv_timeout(CLOSE_TIMEOUT);
        }
    }
}

/// Opens the file for writing and loads its records. A file with damaged records is set aside.
fn open_history(path: &Path, index: &mut MachineIndex) -> Result<History, HistoryError> {
    let history = History::open(path)?;
    if let Err(error) = history.load(index) {
        drop(history);
        History::set_aside(path, error.into())?;
        return History::open(path);
    }
    Ok(history)
}

/// Opens the file for reading, on a disk that accepts no writes, and loads its records.
fn open_read_only_history(path: &Path, index: &mut MachineIndex) -> Result<History, HistoryError> {
    let history = History::open_read_only(path)?;
    history.load(index)?;
    Ok(history)
}
