//! [`PendingWrites`]: the changes for one commit to the history file.

use std::collections::{BTreeMap, BTreeSet};

use super::dhcp_log::LogWrites;
use super::outbox::OutboxWrites;
use super::peers::PeerProgress;
use super::record::{EventKey, RecordId};
use crate::telemetry::Event;

/// Changes for one commit.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    /// Events to write; `None` deletes.
    pub(super) events: BTreeMap<EventKey, Option<Event>>,
    /// Machine records to write. A record that is gone by then is deleted with all its events.
    pub(super) records: BTreeSet<RecordId>,
    /// The progress of other instances, by name; `None` deletes.
    pub(super) peers: BTreeMap<String, Option<PeerProgress>>,
    /// The steps of the boot statistics to write. A step that is gone by then is deleted.
    pub(super) statistics: BTreeSet<i64>,
    /// The changes of the log of DHCP requests.
    pub(super) log: LogWrites,
    /// The changes of the outbox.
    pub(super) outbox: Option<OutboxWrites>,
}
