//! [`TimelineShared`]: the state that the timeline and its writer share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, watch};

use super::Update;
use super::history::History;
use super::index::MachineIndex;
use super::loop_detector::{CountedCard, LoopDetector};
use super::machine_id::MachineId;
use super::outbox::Outbox;
use super::peers::PeerProgress;
use super::reloads::ReloadMemory;
use crate::model::{BootOutcome, InstanceName};
use crate::telemetry::{Event, EventKind, Metrics};

#[derive(Debug)]
pub(super) struct TimelineShared {
    pub(super) index: RwLock<MachineIndex>,
    /// `None` without a history file, or while the file is failing. Open for reading only while the disk refuses writes.
    pub(super) history: RwLock<Option<History>>,
    /// Whether a history file is configured.
    pub(super) has_file: bool,
    pub(super) updates: broadcast::Sender<Arc<Update>>,
    pub(super) queued_events: AtomicUsize,
    pub(super) queued_bytes: AtomicUsize,
    pub(super) dropped_events: AtomicU64,
    pub(super) metrics: Metrics,
    pub(super) loop_detector: Arc<LoopDetector>,
    pub(super) reload_memory: Arc<ReloadMemory>,
    /// This instance of a cluster; `None` without a cluster.
    pub(super) own: Option<InstanceName>,
    /// The events for the other instances; `None` without a cluster.
    pub(super) outbox: Option<Mutex<Outbox>>,
    /// Changes when the outbox has more to serve.
    pub(super) outbox_changes: watch::Sender<()>,
    /// How far the events of the other instances have been joined, by name.
    pub(super) peers: Mutex<BTreeMap<String, PeerProgress>>,
}

impl TimelineShared {
    /// Counts an event that leaves the queue without being recorded.
    pub(super) fn drop_event(&self, bytes: usize) {
        self.queued_events.fetch_sub(1, Ordering::Relaxed);
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.dropped_events.fetch_add(1, Ordering::Relaxed);
    }

    /// A machine's events, oldest first. Fails if the file cannot be read.
    pub(super) fn read_events(&self, id: MachineId) -> Result<Vec<Event>, redb::Error> {
        let Some(record_id) = self.index.read().get(id).map(|(record_id, _)| record_id) else {
            return Ok(Vec::new());
        };
        let history = self.history.read();
        let committed = history.as_ref().map(|history| history.events(record_id)).transpose()?;
        drop(history);
        Ok(self.merge_events(id, committed.unwrap_or_default()))
    }

    /// The committed events of a machine, and those that are not in the file yet, oldest first.
    pub(super) fn merge_events(&self, id: MachineId, committed: Vec<(u64, Event)>) -> Vec<Event> {
        let mut events: BTreeMap<_, _> =
            committed.into_iter().map(|(number, event)| (number, Some(event))).collect();
        let index = self.index.read();
        let Some((record_id, _)) = index.get(id) else { return Vec::new() };
        let range = (record_id, 0)..=(record_id, u64::MAX);
        events.extend(
            index.dhcp_log().of_record(record_id).map(|((_, number), event)| (*number, Some(event.clone()))),
        );
        let in_commit = index.in_commit.events.range(range.clone());
        // `None` marks a deleted event.
        let uncommitted = in_commit.chain(index.uncommitted.events.range(range));
        events.extend(uncommitted.map(|((_, number), event)| (*number, event.clone())));
        drop(index);
        let mut events: Vec<Event> = events.into_values().flatten().collect();
        // Events that were moved here from an IP address, or arrived late, have higher numbers than older events.
        events.sort_by_key(|event| event.at);
        events
    }

    /// Serves the events up to now to the other instances.
    pub(super) fn serve_outbox(&self, change: fn(&mut Outbox) -> bool) {
        if let Some(outbox) = &self.outbox
            && change(&mut outbox.lock())
        {
            self.outbox_changes.send_replace(());
        }
    }

    /// Updates the memory of loops and loads with an event of another instance.
    pub(super) fn learn_joined(&self, event: &Event, now: Timestamp, instant: Instant) {
        self.reload_memory.observe_joined(event);
        let age = now.duration_since(event.at).try_into().unwrap_or_default();
        let (Some(mac), Some(at)) = (event.mac, instant.checked_sub(age)) else { return };
        match &event.kind {
            EventKind::BootReport { step: Some(step), rc, .. } if step.is_success(rc.as_deref()) => {
                self.loop_detector.reset(mac, at);
            }
            EventKind::BootRequest(request)
                if request.attempt == 1 && (request.outcome == BootOutcome::Boot || request.held) =>
            {
                let Some(journey) = &request.journey else { return };
                let card = CountedCard { mac, is_confirmed: request.attached_card.is_some() };
                self.loop_detector.observe_session(card, journey, at, instant);
            }
            _ => {}
        }
    }
}
