//! [`MachineIndex`]: assigns events to machines, and bounds how many are stored. No I/O: writes are handed out.
//!
//! TFTP requests and `/boot.ipxe` reveal an IP address, not a machine. Such an event is filed under its address. A
//! boot request from the same address within [`SESSION_GAP`] identifies the machine. Then the events move to its
//! timeline.
//! An event with a MAC address, for example from the neighbour table, is filed under that machine at once.
//!
//! Bounds: events per machine, machines, events in total, and bytes. Above a bound, records are evicted in this order:
//! IP addresses that never became a machine, machines without a node, machines with a node. Within a group, the least
//! recently seen goes first. So a client with forged addresses evicts only its own records. The first two groups have a
//! share of the bytes: what a stranger sends does not fill the history, even if there is room.

mod boots;
mod dhcp_requests;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use boots::BootChange;
pub(super) use boots::ReachedMilestone;

use super::bounds::Bounds;
use super::dhcp_log::DhcpLog;
use super::machine_id::MachineId;
use super::pending_writes::PendingWrites;
use super::progress::SESSION_GAP;
use super::recent::{REPEAT_WINDOW, RecentEvents};
use super::record::{EvictionClass, MachineRecord, RecordId};
use super::record_usage::RecordUsage;
use super::requesters::{Requesters, is_of_machine};
use super::statistics::BootStatistics;
use crate::model::InstanceName;
use crate::telemetry::{Event, EventKind, PowerOnTimes};

/// How far the clock goes back before the times of records are corrected. Events of several tasks arrive out of order
/// by less than that.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(1);

/// All machine records, and the changes not yet committed.
#[derive(Debug, Default)]
pub(super) struct MachineIndex {
    bounds: Bounds,
    /// Boxed: the table moves its values when it grows.
    records: HashMap<RecordId, Box<MachineRecord>>,
    record_ids: HashMap<MachineId, RecordId>,
    /// Records in the order of their eviction.
    eviction_order: BTreeSet<(EvictionClass, Timestamp, RecordId)>,
    usage: RecordUsage,
    recent: RecentEvents,
    dhcp_log: DhcpLog,
    statistics: BootStatistics,
    /// When volboot switched machines on.
    pub(super) power_on_times: PowerOnTimes,
    last_record_id: RecordId,
    /// This instance of a cluster; `None` without a cluster.
    own: Option<InstanceName>,
    /// The last requester of each address, for events of other instances that arrive late.
    requesters: Requesters,
    /// Time of the last inserted event.
    clock: Timestamp,
    /// Changes for the next commit.
    pub(super) uncommitted: PendingWrites,
    /// Changes of the commit in progress.
    pub(super) in_commit: PendingWrites,
    /// The machines that were evicted since the last look.
    pub(super) evicted: Vec<EvictionClass>,
    /// The milestones that boots have reached since the last look.
    pub(super) reached: Vec<ReachedMilestone>,
}

/// The result of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inserted {
    pub(super) id: MachineId,
    /// Whether the machine has later events: its state must be replayed.
    pub(super) is_late: bool,
}

impl MachineIndex {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Events of other instances will be joined with those of this one.
    pub(super) fn join_cluster(&mut self, own: InstanceName) {
        self.own = Some(own);
    }

    /// Adds a record from the history file. Its times are not after `now`: the clock may have been wrong.
    pub(super) fn restore(&mut self, record_id: RecordId, mut record: MachineRecord, now: Timestamp) {
        self.last_record_id = self.last_record_id.max(record_id);
        record.correct_times(now);
        record.progress.cut_texts();
        self.record_ids.insert(record.id, record_id);
        self.add_record(record_id, record);
    }

    /// Adds an event of this instance. Returns its machine; `None` for an event with neither MAC nor IP address.
    pub(super) fn insert(&mut self, event: &Event) -> Option<Inserted> {
        self.follow_clock(event.at);
        self.join(event)
    }

    /// Adds an event of another instance, which may be older than the last event.
    pub(super) fn join(&mut self, event: &Event) -> Option<Inserted> {
        let id = event.mac.map(MachineId::Mac).or(event.address.map(MachineId::Address))?;
        let id = self.find_later_requester(event).unwrap_or(id);
        if let (MachineId::Mac(_), Some(address), EventKind::BootRequest(_)) =
            (id, event.address, &event.kind)
        {
            self.move_events(address, id, event.at);
            if self.own.is_some() {
                self.requesters.note(address, id, event.at);
            }
        }
        let record_id = self.find_or_create(id, event);
        let is_late = self.is_late(record_id, event);
        if self.merge(record_id, event, is_late) || !is_late && self.replace_last_dhcp(record_id, event) {
            return Some(Inserted { id, is_late: false });
        }
        if !self.append_to_log(record_id, event) {
            self.append_with(record_id, event.clone(), !is_late);
        }
        self.evict(Some(record_id));
        self.trim_recent(record_id);
        Some(Inserted { id, is_late })
    }

    /// Whether an event is older than the state of the machine. Without a cluster, events arrive in order, and the clock
    /// was set back if they do not.
    fn is_late(&self, record_id: RecordId, event: &Event) -> bool {
        let Some(own) = &self.own else { return false };
        let Some(record) = self.records.get(&record_id) else { return false };
        let is_joined = event.instance.as_ref().is_some_and(|instance| instance != own);
        let lateness = record.progress.updated_at.duration_since(event.at);
        record.next_event > 0 && lateness.is_positive() && (is_joined || lateness < CLOCK_TOLERANCE)
    }

    /// The machine that requested its script from the address of an event after the event: an event of another instance
    /// that would have been moved to the machine, had it arrived in time.
    fn find_later_requester(&self, event: &Event) -> Option<MachineId> {
        if self.own.is_none() || event.mac.is_some() {
            return None;
        }
        let (machine, requested_at) = self.requesters.find(event.address?)?;
        let lead = requested_at.duration_since(event.at);
        let is_of_session = !lead.is_negative() && lead < SESSION_GAP;
        (is_of_session && is_of_machine(event, machine)).then_some(machine)
    }

    /// Rebuilds the state of a machine from its events in the order of time, after a late one was added.
    pub(super) fn replay(&mut self, id: MachineId, events: &[Event]) {
        let Some(&record_id) = self.record_ids.get(&id) else { return };
        let own = self.own.clone();
        self.update_record(record_id, |record| record.replay(events, own.as_ref()));
    }

    /// Corrects the times of all records after the clock was set back. Otherwise a machine seen by a clock that was
    /// wrong would count as the last one seen until that time comes.
    fn follow_clock(&mut self, now: Timestamp) {
        let is_set_back = now.duration_since(self.clock) < -CLOCK_TOLERANCE;
        self.clock = now;
        if !is_set_back {
            return;
        }
        let late = self.records.iter().filter(|(_, record)| record.is_after(now)).map(|(id, _)| *id);
        for record_id in late.collect::<Vec<_>>() {
            self.update_record(record_id, |record| record.correct_times(now));
        }
    }

    /// Moves recent events of an IP address to the machine that uses the address now, except for claims to be another
    /// machine.
    fn move_events(&mut self, address: IpAddr, to: MachineId, now: Timestamp) {
        let Some(&from) = self.record_ids.get(&MachineId::Address(address)) else { return };
        let (movable, others): (Vec<_>, Vec<_>) =
            self.recent.remove(from).into_iter().partition(|(_, event)| {
                now.duration_since(event.at).abs() < SESSION_GAP && is_of_machine(event, to)
            });
        self.update_record(from, |record| record.discount_events(&movable));
        if self.records.get(&from).is_some_and(|record| record.event_count == 0) {
            self.remove_record(from);
        } else {
            for (number, event) in others {
                self.recent.push(from, number, event);
            }
        }
        for (number, event) in movable {
            self.uncommitted.events.insert((from, number), None);
            let record_id = self.find_or_create(to, &event);
            self.append_moved(record_id, event);
        }
    }

    fn find_or_create(&mut self, id: MachineId, first: &Event) -> RecordId {
        if let Some(record_id) = self.record_ids.get(&id) {
            return *record_id;
        }
        self.last_record_id += 1;
        let record_id = self.last_record_id;
        self.record_ids.insert(id, record_id);
        self.add_record(record_id, MachineRecord::new(id, first));
        record_id
    }

    /// Merges a repeated event, or a repeated wait, into a recent event. Returns whether the event was merged.
    fn merge(&mut self, record_id: RecordId, event: &Event, is_late: bool) -> bool {
        if matches!(event.kind, EventKind::Dhcp(_))
            && self.dhcp_log.has_repeat(record_id, event, REPEAT_WINDOW)
        {
            self.write_out(record_id);
        }
        if !is_late && let Some((number, merged)) = self.recent.merge_wait(record_id, event) {
            self.uncommitted.events.insert((record_id, number), Some(merged.clone()));
            let own = self.own.clone();
            self.update_record(record_id, |record| {
                record.progress.apply(event);
                record.update(event, own.as_ref());
            });
            return true;
        }
        let Some((number, merged)) = self.recent.merge_repeat(record_id, event) else { return false };
        self.uncommitted.events.insert((record_id, number), Some(merged.clone()));
        true
    }

    /// Appends an event that was filed under an IP address before. If the machine has later events, the state of its
    /// boot session is beyond this event.
    fn append_moved(&mut self, record_id: RecordId, event: Event) {
        let is_late =
            self.records.get(&record_id).is_some_and(|record| event.at < record.progress.updated_at);
        self.append_with(record_id, event, !is_late);
    }

    fn append_with(&mut self, record_id: RecordId, event: Event, updates_progress: bool) {
        let Some(number) = self.records.get(&record_id).map(|record| record.next_event) else { return };
        // The oldest event may have been moved to another machine. Then the count is slightly too low, no more.
        let oldest = number.checked_sub(self.bounds.events_per_machine);
        let (own, power_on_times) = (self.own.clone(), self.power_on_times.clone());
        let mut change = BootChange::default();
        self.update_record(record_id, |record| {
            if record.next_event > 0 && updates_progress {
                change = BootChange::apply(record, &event);
            }
            record.update(&event, own.as_ref());
            record.find_power_on(&event, &power_on_times);
            record.next_event += 1;
            if oldest.is_some() {
                record.discount_oldest_event();
            }
            record.count_event(&event);
        });
        self.count_boots(change);
        if let Some(oldest) = oldest {
            self.uncommitted.events.insert((record_id, oldest), None);
        }
        self.uncommitted.events.insert((record_id, number), Some(event.clone()));
        self.recent.push(record_id, number, event);
    }

    /// Adds a new record to the order of eviction and to the sums.
    fn add_record(&mut self, record_id: RecordId, record: MachineRecord) {
        self.eviction_order.insert(record.eviction_rank(record_id));
        self.usage.add(&record);
        self.records.insert(record_id, Box::new(record));
    }

    /// Updates a record like [`Self::update_in_memory`], and writes it with the next commit.
    fn update_record(&mut self, record_id: RecordId, update: impl FnOnce(&mut MachineRecord)) {
        self.write_out(record_id);
        if self.update_in_memory(record_id, update) {
            self.uncommitted.records.insert(record_id);
        }
    }

    /// Updates a record, its place in the order of eviction, and the sums. Returns whether there is such a record.
    fn update_in_memory(&mut self, record_id: RecordId, update: impl FnOnce(&mut MachineRecord)) -> bool {
        let Some(record) = self.records.get_mut(&record_id) else { return false };
        let rank = record.eviction_rank(record_id);
        self.usage.subtract(record);
        update(record);
        self.usage.add(record);
        let new_rank = record.eviction_rank(record_id);
        if new_rank != rank {
            self.eviction_order.remove(&rank);
            self.eviction_order.insert(new_rank);
        }
        true
    }

    /// Evicts records until the bounds hold, but never the record that was just updated.
    fn evict(&mut self, updated: Option<RecordId>) {
        while let Some((class, record_id)) = self.find_victim(updated) {
            self.remove_record(record_id);
            self.evicted.push(class);
        }
    }

    /// The next record to evict; `None` if the bounds hold.
    fn find_victim(&self, updated: Option<RecordId>) -> Option<(EvictionClass, RecordId)> {
        let Bounds { events, machines, bytes, stranger_bytes, .. } = self.bounds;
        let is_full = self.records.len() > machines || self.usage.events > events || self.usage.bytes > bytes;
        let is_strangers_share_full = self.usage.stranger_bytes > stranger_bytes;
        let mut candidates = self.eviction_order.iter().map(|(class, _, record_id)| (*class, *record_id));
        let first = candidates.find(|(_, record_id)| Some(*record_id) != updated)?;
        (is_full || is_strangers_share_full && first.0 < EvictionClass::Node).then_some(first)
    }

    fn remove_record(&mut self, record_id: RecordId) {
        let Some(record) = self.records.remove(&record_id) else { return };
        self.eviction_order.remove(&record.eviction_rank(record_id));
        self.usage.subtract(&record);
        self.record_ids.remove(&record.id);
        self.recent.remove(record_id);
        self.dhcp_log.evict(record_id);
        let keys = self.uncommitted.events.range((record_id, 0)..=(record_id, u64::MAX));
        for key in keys.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.uncommitted.events.remove(&key);
        }
        self.uncommitted.records.insert(record_id);
    }

    /// Drops recent events above their bound, those of the first candidates for eviction first. Halving the bytes makes
    /// the scan rare.
    fn trim_recent(&mut self, updated: RecordId) {
        if self.recent.bytes() <= self.bounds.recent_bytes {
            return;
        }
        for (_, _, record_id) in &self.eviction_order {
            if self.recent.bytes() <= self.bounds.recent_bytes / 2 {
                return;
            }
            if *record_id != updated {
                self.recent.remove(*record_id);
            }
        }
    }

    /// Drops recent events that can neither be merged nor moved any more.
    pub(super) fn expire_recent(&mut self, now: Timestamp) {
        self.recent.expire(&self.records, now);
    }

    /// Sets the sizes of events as the file has them, and evicts what exceeds the bounds.
    pub(super) fn set_event_sizes(&mut self, sizes: &HashMap<RecordId, u64>) {
        for record_id in self.records.keys().copied().collect::<Vec<_>>() {
            let bytes = sizes.get(&record_id).copied().unwrap_or_default();
            self.update_record(record_id, |record| record.event_bytes = bytes);
        }
        self.evict(None);
    }

    /// About how many bytes all records and events take; `None` if a version that did not count them wrote some.
    pub(super) fn known_bytes(&self) -> Option<u64> {
        let is_known = |record: &MachineRecord| record.event_count == 0 || record.event_bytes > 0;
        self.records().all(is_known).then_some(self.usage.bytes)
    }

    /// About how many bytes the recent events take.
    #[cfg(test)]
    pub(super) fn recent_bytes(&self) -> usize {
        self.recent.bytes()
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// A machine's record and its number.
    pub(super) fn get(&self, id: MachineId) -> Option<(RecordId, &MachineRecord)> {
        let record_id = *self.record_ids.get(&id)?;
        Some((record_id, self.record(record_id)?))
    }

    /// The record with this number.
    pub(super) fn record(&self, record_id: RecordId) -> Option<&MachineRecord> {
        self.records.get(&record_id).map(Box::as_ref)
    }

    /// All records with their numbers, unordered.
    pub(super) fn numbered_records(&self) -> impl Iterator<Item = (RecordId, &MachineRecord)> {
        self.records.iter().map(|(record_id, record)| (*record_id, &**record))
    }

    /// All records, unordered.
    pub(super) fn records(&self) -> impl Iterator<Item = &MachineRecord> {
        self.records.values().map(Box::as_ref)
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}
