//! DHCP requests in the [`MachineIndex`]: runs of them, and those in the [`DhcpLog`].

use super::MachineIndex;
use crate::telemetry::{Event, EventKind};
use crate::timeline::dhcp_log::DhcpLog;
use crate::timeline::machine_id::MachineId;
use crate::timeline::pending_writes::PendingWrites;
use crate::timeline::record::{EventKey, MachineRecord, RecordId};

/// Most DHCP requests in a row that are stored; the last one then stands for all further ones. They may be forged, and must
/// not push the other events of a machine out of its timeline.
const MAX_DHCP_RUN: u32 = 16;

impl MachineIndex {
    /// Adds a DHCP request from the log in the history file, unless the record is beyond it.
    pub(in crate::timeline) fn restore_logged(&mut self, key: EventKey, event: Event) {
        let ((record_id, number), Some(mac)) = (key, event.mac) else { return };
        self.dhcp_log.count(&event);
        self.last_record_id = self.last_record_id.max(record_id);
        let id = MachineId::Mac(mac);
        if !self.records.contains_key(&record_id) {
            if self.record_ids.contains_key(&id) {
                return;
            }
            self.record_ids.insert(id, record_id);
            self.add_record(record_id, MachineRecord::new(id, &event));
        }
        if self.records.get(&record_id).is_none_or(|record| record.id != id || number < record.next_event) {
            return;
        }
        self.apply_logged(key, &event);
        self.dhcp_log.restore(key, event);
    }

    /// Removes a record that was evicted after its requests were logged.
    pub(in crate::timeline) fn evict_logged(&mut self, record_id: RecordId) {
        self.remove_record(record_id);
        self.uncommitted = PendingWrites::default();
        self.dhcp_log.take_writes();
    }

    /// Replaces the last DHCP request after [`MAX_DHCP_RUN`] in a row. Returns whether the event is such a request.
    pub(super) fn replace_last_dhcp(&mut self, record_id: RecordId, event: &Event) -> bool {
        let run = self.records.get(&record_id).map_or(0, |record| record.dhcp_run);
        if run < MAX_DHCP_RUN || !matches!(event.kind, EventKind::Dhcp(_)) {
            return false;
        }
        let event = Event { count: run - MAX_DHCP_RUN + 2, ..event.clone() };
        let mut number = 0;
        let own = self.own.clone();
        self.update_record(record_id, |record| {
            record.progress.apply(&event);
            record.update(&event, own.as_ref());
            record.dhcp_run = run.saturating_add(1);
            number = record.next_event - 1;
        });
        self.uncommitted.events.insert((record_id, number), Some(event.clone()));
        self.recent.replace(record_id, number, event);
        true
    }

    /// Appends a DHCP request to the log, if nothing else of its machine is about to be written. Returns whether it was.
    pub(super) fn append_to_log(&mut self, record_id: RecordId, event: &Event) -> bool {
        let Some(number) = self.records.get(&record_id).map(|record| record.next_event) else { return false };
        let is_single = matches!(event.kind, EventKind::Dhcp(_)) && event.mac.is_some() && event.count == 1;
        let has_room = number < self.bounds.events_per_machine;
        if !is_single || !has_room || self.own.is_some() || self.uncommitted.records.contains(&record_id) {
            return false;
        }
        self.apply_logged((record_id, number), event);
        self.dhcp_log.push((record_id, number), event.clone());
        true
    }

    /// Updates a record with a DHCP request in the log.
    fn apply_logged(&mut self, (record_id, number): EventKey, event: &Event) {
        self.update_in_memory(record_id, |record| {
            if record.next_event > 0 {
                record.progress.apply(event);
            }
            record.update(event, None);
            record.next_event = number + 1;
            record.count_event(event);
        });
    }

    /// Moves the DHCP requests of a record from the log to the next commit, which writes the record too.
    pub(super) fn write_out(&mut self, record_id: RecordId) {
        for (key, event) in self.dhcp_log.take(record_id) {
            self.recent.push(record_id, key.1, event.clone());
            self.uncommitted.events.insert(key, Some(event));
            self.uncommitted.records.insert(record_id);
        }
    }

    /// Moves all DHCP requests from the log to the next commit.
    pub(in crate::timeline) fn write_out_log(&mut self) {
        for (key, event) in self.dhcp_log.clear() {
            self.uncommitted.events.insert(key, Some(event));
            self.uncommitted.records.insert(key.0);
        }
    }

    /// Hands out the changes of the log for the next commit.
    pub(in crate::timeline) fn prepare_log_commit(&mut self) {
        if self.dhcp_log.is_full(self.bounds.log_bytes) {
            self.write_out_log();
        }
        self.uncommitted.log = self.dhcp_log.take_writes();
    }

    /// The log of DHCP requests.
    pub(in crate::timeline) fn dhcp_log(&self) -> &DhcpLog {
        &self.dhcp_log
    }

    /// The events to write with the next commit.
    pub(in crate::timeline) fn pending_events(&self) -> impl Iterator<Item = (EventKey, &Event)> {
        self.uncommitted.events.iter().filter_map(|(key, event)| Some((*key, event.as_ref()?)))
    }
}
