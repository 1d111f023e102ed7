//! [`DhcpLog`]: a write-ahead log of DHCP requests.
//!
//! A machine that sends a DHCP request reads a file next, as a rule. Its record and its events are written then. Until
//! that, its requests are in the log: a few rows of a commit have the requests of all machines. At the start, the log
//! brings the records up to date.
//!
//! An entry is obsolete once the record in the file is beyond its number. A full log is cleared, after all records with
//! requests in the log were written. In a cluster, requests may arrive late, and are written like other events.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::history::{decode, encode};
use super::index::MachineIndex;
use super::pending_writes::EventKey;
use super::record::RecordId;
use crate::model::Mac;
use crate::telemetry::{DhcpEvent, Event, EventKind};

/// The rows of the log as JSON, by number.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("dhcp_log");
/// Most entries of a row.
const ROW_ENTRIES: usize = 256;
/// Most different requests of a row that an entry is compared with.
const MAX_COMPARISONS: usize = 16;

/// The requests in the log whose machines were not written since.
#[derive(Debug, Default)]
pub(super) struct DhcpLog {
    requests: BTreeMap<EventKey, Event>,
    /// Bytes of all requests in the log, obsolete ones included.
    bytes: usize,
    /// The changes for the next commit.
    writes: LogWrites,
}

/// The changes of the log for one commit.
#[derive(Debug, Default)]
pub(super) struct LogWrites {
    /// Whether the log is cleared first.
    is_cleared: bool,
    /// Records that were evicted: earlier entries do not bring them back.
    evicted: Vec<RecordId>,
    /// The requests to add.
    added: Vec<EventKey>,
}

/// A row of the log.
#[derive(Debug, Default, Serialize, Deserialize)]
struct LogRow<'a> {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    evicted: Vec<RecordId>,
    /// The different requests, without nodes.
    #[serde(default)]
    requests: Vec<DhcpEvent>,
    #[serde(default)]
    entries: Vec<LogEntry<'a>>,
}

/// A request: record, number, time in seconds and nanoseconds, MAC address, IP address, the index of the request in the row,
/// and the node with its name.
#[derive(Debug, Serialize, Deserialize)]
struct LogEntry<'a>(RecordId, u64, i64, i32, Mac, Option<IpAddr>, usize, Option<Uuid>, Option<Cow<'a, str>>);

impl DhcpLog {
    /// Adds a request, which the next commit writes.
    pub(super) fn push(&mut self, key: EventKey, event: Event) {
        self.writes.added.push(key);
        self.count(&event);
        self.requests.insert(key, event);
    }

    /// Adds a request that the file has, and that was counted.
    pub(super) fn restore(&mut self, key: EventKey, event: Event) {
        self.requests.insert(key, event);
    }

    /// Counts the bytes of a request in the log.
    pub(super) fn count(&mut self, event: &Event) {
        self.bytes += event.byte_size();
    }

    /// The requests of a record, by number.
    pub(super) fn of_record(&self, id: RecordId) -> impl DoubleEndedIterator<Item = (&EventKey, &Event)> {
        self.requests.range((id, 0)..=(id, u64::MAX))
    }

    /// Whether the record has the same request at most `window` before.
    pub(super) fn has_repeat(&self, id: RecordId, event: &Event, window: SignedDuration) -> bool {
        self.of_record(id)
            .rev()
            .take_while(|(_, earlier)| event.at.duration_since(earlier.at).abs() < window)
            .any(|(_, earlier)| earlier.is_repeat_of(event))
    }

    /// Takes the requests of a record, which are written with it.
    pub(super) fn take(&mut self, id: RecordId) -> Vec<(EventKey, Event)> {
        let keys: Vec<_> = self.of_record(id).map(|(key, _)| *key).collect();
        keys.into_iter().filter_map(|key| self.requests.remove_entry(&key)).collect()
    }

    /// Forgets an evicted record.
    pub(super) fn evict(&mut self, id: RecordId) {
        drop(self.take(id));
        if self.bytes > 0 {
            self.writes.evicted.push(id);
        }
    }

    /// Whether the log must be cleared.
    pub(super) fn is_full(&self, max_bytes: usize) -> bool {
        self.bytes > max_bytes
    }

    /// Clears the log. Returns the records with requests in it, which must be written.
    pub(super) fn clear(&mut self) -> BTreeMap<EventKey, Event> {
        self.bytes = 0;
        self.writes = LogWrites { is_cleared: true, ..LogWrites::default() };
        std::mem::take(&mut self.requests)
    }

    /// The changes for the next commit.
    pub(super) fn take_writes(&mut self) -> LogWrites {
        std::mem::take(&mut self.writes)
    }

    /// The rows for the changes of a commit. A request whose machine is written in the same commit has no entry.
    fn rows(&self, writes: &LogWrites) -> Vec<LogRow<'_>> {
        let mut rows: Vec<_> = writes.added.chunks(ROW_ENTRIES).map(|keys| self.row(keys)).collect();
        if !writes.evicted.is_empty() {
            rows.insert(0, LogRow { evicted: writes.evicted.clone(), ..LogRow::default() });
        }
        rows.retain(|row| !row.evicted.is_empty() || !row.entries.is_empty());
        rows
    }

    fn row(&self, keys: &[EventKey]) -> LogRow<'_> {
        let mut row = LogRow::default();
        for (id, number) in keys {
            let Some(event) = self.requests.get(&(*id, *number)) else { continue };
            let (EventKind::Dhcp(request), Some(mac)) = (&event.kind, event.mac) else { continue };
            let mut earlier = row.requests.iter().enumerate().rev().take(MAX_COMPARISONS);
            let index = earlier.find(|(_, other)| request.is_same_request(other)).map(|(index, _)| index);
            let index = index.unwrap_or_else(|| {
                row.requests.push(DhcpEvent { node: None, name: None, ..request.clone() });
                row.requests.len() - 1
            });
            let (seconds, nanoseconds) = (event.at.as_second(), event.at.subsec_nanosecond());
            let name = request.name.as_deref().map(Cow::Borrowed);
            let entry =
                LogEntry(*id, *number, seconds, nanoseconds, mac, event.address, index, request.node, name);
            row.entries.push(entry);
        }
        row
    }
}

impl LogEntry<'_> {
    /// The key and the event; `None` if the entry is damaged.
    fn into_event(self, requests: &[DhcpEvent]) -> Option<(EventKey, Event)> {
        let Self(id, number, seconds, nanoseconds, mac, address, index, node, name) = self;
        let at = Timestamp::new(seconds, nanoseconds).ok()?;
        let request = DhcpEvent { node, name: name.map(Cow::into_owned), ..requests.get(index)?.clone() };
        Some(((id, number), Event::new(at, Some(mac), address, EventKind::Dhcp(request))))
    }
}

/// Creates the table.
pub(super) fn prepare(write: &redb::WriteTransaction) -> Result<(), redb::Error> {
    write.open_table(LOG)?;
    Ok(())
}

/// Writes the changes of the commit in progress.
pub(super) fn write(write: &redb::WriteTransaction, index: &MachineIndex) -> Result<(), redb::Error> {
    let writes = &index.in_commit.log;
    let rows = index.dhcp_log().rows(writes);
    if rows.is_empty() && !writes.is_cleared {
        return Ok(());
    }
    let mut table = write.open_table(LOG)?;
    if writes.is_cleared {
        table.retain(|_, _| false)?;
    }
    let mut number = table.last()?.map_or(0, |(number, _)| number.value());
    for row in rows {
        number += 1;
        table.insert(number, encode(&row).as_slice())?;
    }
    Ok(())
}

/// Brings the index up to date with the log.
pub(super) fn load(
    database: &redb::Database,
    index: &mut MachineIndex,
    now: Timestamp,
) -> Result<(), redb::Error> {
    let table = database.begin_read()?.open_table(LOG)?;
    for row in table.iter()? {
        let (_, row) = row?;
        let Some(LogRow { evicted, requests, entries }) = decode(row.value()) else { continue };
        evicted.into_iter().for_each(|id| index.evict_logged(id));
        for (key, event) in entries.into_iter().filter_map(|entry| entry.into_event(&requests)) {
            index.restore_logged(key, Event { at: event.at.min(now), ..event });
        }
    }
    Ok(())
}
