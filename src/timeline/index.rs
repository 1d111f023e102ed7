//! [`MachineIndex`]: assigns events to machines, and bounds how many are stored. No I/O: writes are handed out.
//!
//! TFTP requests and `/boot.ipxe` reveal an IP address, not a machine. Such an event is filed under its address. A
//! boot request from the same address within [`SESSION_GAP`] identifies the machine. Then the events move to its
//! timeline.
//! An event with a MAC address, for example from the neighbour table, is filed under that machine at once.
//!
//! Bounds: events per machine, machines, and events in total. Above a bound, records are evicted in this order: IP
//! addresses that never became a machine, machines without a node, machines with a node. Within a group, the least
//! recently seen goes first. So a client with forged addresses evicts only its own records.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::progress::{BootProgress, SESSION_GAP};
use crate::model::{BootOutcome, Mac, Platform};
use crate::telemetry::{BootRequestEvent, Event, EventKind};

/// Equal events of a machine within this time are merged into one with a count.
const REPEAT_WINDOW: SignedDuration = SignedDuration::from_secs(1);
/// Recent events kept per machine, which can still be merged or moved.
pub(super) const RECENT_CAPACITY: usize = 32;

/// Limits of the history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) events_per_machine: u64,
    pub(super) events: u64,
    pub(super) machines: usize,
}

impl Default for Bounds {
    /// A hundred events are about twenty boot sessions. A full history takes about 100 MB on disk.
    fn default() -> Self {
        Self { events_per_machine: 100, events: 400_000, machines: 16_384 }
    }
}

/// Id of a machine in the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum MachineId {
    /// MAC address of the network card the machine boots with.
    Mac(Mac),
    /// IP address of an unidentified machine.
    Address(IpAddr),
}

/// The text is neither a MAC address nor an IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a MAC address or an IP address")]
pub struct MachineIdError;

/// Number of a machine record in the history file.
pub(super) type RecordId = u64;

/// Key of an event in the history file: machine record, and number within it.
pub(super) type EventKey = (RecordId, u64);

/// The data of a machine, held in memory and in the history file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MachineRecord {
    pub(super) id: MachineId,
    /// Last source IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) uuid: Option<Uuid>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "Platform::deserialize_known"
    )]
    pub(super) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) arch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) host_name_bytes: Option<usize>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) macs: Vec<Mac>,
    pub(super) first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    /// Number of the next event.
    pub(super) next_event: u64,
    /// Number of stored events.
    pub(super) event_count: u64,
    pub(super) progress: BootProgress,
}

/// Changes for one commit.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    /// Events to write; `None` deletes.
    pub(super) events: BTreeMap<EventKey, Option<Event>>,
    /// Machine records to write; `None` deletes the record and all its events.
    pub(super) records: BTreeMap<RecordId, Option<MachineRecord>>,
}

/// All machine records, and the changes not yet committed.
#[derive(Debug, Default)]
pub(super) struct MachineIndex {
    bounds: Bounds,
    records: HashMap<RecordId, MachineRecord>,
    record_ids: HashMap<MachineId, RecordId>,
    /// Records in the order of their eviction.
    eviction_order: BTreeSet<(u8, Timestamp, RecordId)>,
    /// Recent events by number, which can still be merged or moved.
    recent: HashMap<RecordId, Vec<(u64, Event)>>,
    last_record_id: RecordId,
    event_count: u64,
    /// Changes for the next commit.
    pub(super) uncommitted: PendingWrites,
    /// Changes of the commit in progress.
    pub(super) in_commit: PendingWrites,
}

impl MachineIndex {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Adds a record from the history file.
    pub(super) fn restore(&mut self, record_id: RecordId, record: MachineRecord) {
        self.last_record_id = self.last_record_id.max(record_id);
        self.event_count += record.event_count;
        self.record_ids.insert(record.id, record_id);
        self.eviction_order.insert(record.eviction_rank(record_id));
        self.records.insert(record_id, record);
    }

    /// Adds an event. Returns its machine; `None` for an event with neither MAC nor IP address.
    pub(super) fn insert(&mut self, event: &Event) -> Option<MachineId> {
        let id = event.mac.map(MachineId::Mac).or(event.address.map(MachineId::Address))?;
        if let (MachineId::Mac(_), Some(address), EventKind::BootRequest(_)) =
            (id, event.address, &event.kind)
        {
            self.move_events(address, id, event.at);
        }
        let record_id = self.find_or_create(id, event);
        if self.merge(record_id, event) {
            return Some(id);
        }
        self.append(record_id, event.clone());
        self.evict(record_id);
        Some(id)
    }

    /// Moves recent events of an IP address to the machine that uses the address now.
    fn move_events(&mut self, address: IpAddr, to: MachineId, now: Timestamp) {
        let Some(&from) = self.record_ids.get(&MachineId::Address(address)) else { return };
        let recent = self.recent.remove(&from).unwrap_or_default();
        let (movable, others): (Vec<_>, Vec<_>) =
            recent.into_iter().partition(|(_, event)| now.duration_since(event.at) < SESSION_GAP);
        if let Some(record) = self.records.get_mut(&from) {
            record.event_count = record.event_count.saturating_sub(movable.len() as u64);
            self.event_count = self.event_count.saturating_sub(movable.len() as u64);
            if record.event_count == 0 {
                self.remove_record(from);
            } else {
                self.uncommitted.records.insert(from, Some(record.clone()));
                self.recent.insert(from, others);
            }
        }
        for (number, event) in movable {
            self.uncommitted.events.insert((from, number), None);
            let record_id = self.find_or_create(to, &event);
            self.append(record_id, event);
        }
    }

    fn find_or_create(&mut self, id: MachineId, first: &Event) -> RecordId {
        if let Some(record_id) = self.record_ids.get(&id) {
            return *record_id;
        }
        self.last_record_id += 1;
        let record_id = self.last_record_id;
        let record = MachineRecord {
            id,
            address: first.address,
            node: None,
            name: None,
            uuid: None,
            platform: None,
            arch: None,
            host_name_bytes: None,
            macs: Vec::new(),
            first_seen: first.at,
            last_seen: first.at,
            next_event: 0,
            event_count: 0,
            progress: BootProgress::new(first),
        };
        self.record_ids.insert(id, record_id);
        self.eviction_order.insert(record.eviction_rank(record_id));
        self.records.insert(record_id, record);
        record_id
    }

    /// Merges a repeated event, or a repeated wait, into a recent event. Returns whether the event was merged.
    fn merge(&mut self, record_id: RecordId, event: &Event) -> bool {
        let recent = self.recent.entry(record_id).or_default();
        if let Some((number, last)) = recent.last_mut()
            && let (Some(last_wait), Some(wait)) = (as_wait(last), as_wait(event))
            && (&last_wait.journey, last_wait.attempt) == (&wait.journey, wait.attempt)
        {
            last.count = last.count.saturating_add(event.count);
            last.kind = event.kind.clone();
            self.uncommitted.events.insert((record_id, *number), Some(last.clone()));
            if let Some(record) = self.records.get_mut(&record_id) {
                self.eviction_order.remove(&record.eviction_rank(record_id));
                record.progress.apply(event);
                record.update(event);
                self.eviction_order.insert(record.eviction_rank(record_id));
                self.uncommitted.records.insert(record_id, Some(record.clone()));
            }
            return true;
        }
        let original = recent
            .iter_mut()
            .rev()
            .take_while(|(_, earlier)| event.at.duration_since(earlier.at) < REPEAT_WINDOW)
            .find(|(_, earlier)| earlier.is_repeat_of(event));
        let Some((number, earlier)) = original else { return false };
        earlier.count = earlier.count.saturating_add(event.count);
        self.uncommitted.events.insert((record_id, *number), Some(earlier.clone()));
        true
    }

    fn append(&mut self, record_id: RecordId, event: Event) {
        let Some(record) = self.records.get_mut(&record_id) else { return };
        self.eviction_order.remove(&record.eviction_rank(record_id));
        if record.next_event > 0 {
            record.progress.apply(&event);
        }
        record.update(&event);
        let number = record.next_event;
        record.next_event += 1;
        record.event_count += 1;
        self.event_count += 1;
        if let Some(oldest) = number.checked_sub(self.bounds.events_per_machine) {
            // The oldest event may have been moved to another machine. Then the count is slightly too low, no more.
            self.uncommitted.events.insert((record_id, oldest), None);
            record.event_count = record.event_count.min(self.bounds.events_per_machine);
            self.event_count -= 1;
        }
        self.eviction_order.insert(record.eviction_rank(record_id));
        self.uncommitted.records.insert(record_id, Some(record.clone()));
        self.uncommitted.events.insert((record_id, number), Some(event.clone()));
        let recent = self.recent.entry(record_id).or_default();
        recent.push((number, event));
        if recent.len() > RECENT_CAPACITY {
            recent.remove(0);
        }
    }

    /// Evicts records until the bounds hold, but never the record that was just updated.
    fn evict(&mut self, updated: RecordId) {
        while self.records.len() > self.bounds.machines || self.event_count > self.bounds.events {
            let mut candidates = self.eviction_order.iter().copied();
            let Some((_, _, record_id)) = candidates.find(|(_, _, other)| *other != updated) else { return };
            self.remove_record(record_id);
        }
    }

    fn remove_record(&mut self, record_id: RecordId) {
        let Some(record) = self.records.remove(&record_id) else { return };
        self.eviction_order.remove(&record.eviction_rank(record_id));
        self.record_ids.remove(&record.id);
        self.recent.remove(&record_id);
        self.event_count = self.event_count.saturating_sub(record.event_count);
        self.uncommitted.events.retain(|(of, _), _| *of != record_id);
        self.uncommitted.records.insert(record_id, None);
    }

    /// Drops recent events that can neither be merged nor moved any more.
    pub(super) fn expire_recent(&mut self, now: Timestamp) {
        let records = &self.records;
        self.recent.retain(|record_id, recent| {
            let Some(record) = records.get(record_id) else { return false };
            // Repeated waits of a machine are merged for as long as the machine waits.
            let is_long_lived = matches!(record.id, MachineId::Address(_))
                || recent.last().is_some_and(|(_, event)| as_wait(event).is_some());
            if is_long_lived && now.duration_since(record.last_seen) < SESSION_GAP {
                return true;
            }
            recent.retain(|(_, event)| now.duration_since(event.at) < REPEAT_WINDOW);
            !recent.is_empty()
        });
    }

    /// A machine's record and its number.
    pub(super) fn get(&self, id: MachineId) -> Option<(RecordId, &MachineRecord)> {
        let record_id = *self.record_ids.get(&id)?;
        Some((record_id, self.records.get(&record_id)?))
    }

    /// All records, unordered.
    pub(super) fn records(&self) -> impl Iterator<Item = &MachineRecord> {
        self.records.values()
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}

/// The boot request, if its outcome is `wait`.
fn as_wait(event: &Event) -> Option<&BootRequestEvent> {
    match &event.kind {
        EventKind::BootRequest(request) if request.outcome == BootOutcome::Wait => Some(request),
        _ => None,
    }
}

impl MachineRecord {
    /// Sort key for eviction: IP addresses, machines without a node, machines with one; least recently seen first.
    fn eviction_rank(&self, record_id: RecordId) -> (u8, Timestamp, RecordId) {
        let rank = match (self.id, self.node) {
            (MachineId::Address(_), _) => 0,
            (MachineId::Mac(_), None) => 1,
            (MachineId::Mac(_), Some(_)) => 2,
        };
        (rank, self.last_seen, record_id)
    }

    fn update(&mut self, event: &Event) {
        self.last_seen = self.last_seen.max(event.at);
        self.first_seen = self.first_seen.min(event.at);
        self.address = event.address.or(self.address);
        if let EventKind::BootRequest(request) = &event.kind {
            self.node = request.node;
            self.name.clone_from(&request.name);
            self.macs.clone_from(&request.macs);
            self.uuid = request.uuid.or(self.uuid);
            self.platform = request.platform.or(self.platform);
            self.arch = request.arch.clone().or(self.arch.take());
            self.host_name_bytes = request.host_name_bytes.or(self.host_name_bytes);
        }
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl FromStr for MachineId {
    type Err = MachineIdError;

    fn from_str(text: &str) -> Result<Self, MachineIdError> {
        let mac = text.parse().map(Self::Mac);
        mac.or_else(|_| text.parse::<IpAddr>().map(|address| Self::Address(address.to_canonical())))
            .map_err(|_| MachineIdError)
    }
}

impl From<MachineId> for String {
    fn from(id: MachineId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for MachineId {
    type Error = MachineIdError;

    fn try_from(text: String) -> Result<Self, MachineIdError> {
        text.parse()
    }
}
