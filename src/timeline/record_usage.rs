//! [`RecordUsage`]: how much the records of the timeline hold together, for its bounds.

use super::record::{EvictionClass, MachineRecord};

/// How much all records hold together.
#[derive(Debug, Default)]
pub(super) struct RecordUsage {
    pub(super) events: u64,
    pub(super) bytes: u64,
    pub(super) stranger_bytes: u64,
}

impl RecordUsage {
    pub(super) fn add(&mut self, record: &MachineRecord) {
        self.events += record.event_count;
        self.bytes += record.byte_size();
        if record.class() < EvictionClass::Node {
            self.stranger_bytes += record.byte_size();
        }
    }

    pub(super) fn subtract(&mut self, record: &MachineRecord) {
        self.events -= record.event_count;
        self.bytes -= record.byte_size();
        if record.class() < EvictionClass::Node {
            self.stranger_bytes -= record.byte_size();
        }
    }
}
