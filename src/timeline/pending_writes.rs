//! [`PendingWrites`]: the changes for one commit to the history file.

use std::collections::BTreeMap;

use super::outbox::OutboxWrites;
use super::peers::PeerProgress;
use super::record::{MachineRecord, RecordId};
use crate::telemetry::Event;

/// Key of an event in the history file: machine record, and number within it.
pub(super) type EventKey = (RecordId, u64);

/// Changes for one commit.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    /// Events to write; `None` deletes.
    pub(super) events: BTreeMap<EventKey, Option<Event>>,
    /// Machine records to write; `None` deletes the record and all its events.
    pub(super) records: BTreeMap<RecordId, Option<MachineRecord>>,
    /// The progress of other instances, by name; `None` deletes.
    pub(super) peers: BTreeMap<String, Option<PeerProgress>>,
    /// The changes of the outbox.
    pub(super) outbox: Option<OutboxWrites>,
}
