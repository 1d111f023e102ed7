//! [`DhcpLog`]: a write-ahead log of DHCP requests.
//!
//! After a DHCP request, a machine reads a file as a rule: a record written for the request would be written again soon.
//! The request is appended to the log instead, and a row of the log has the requests of many machines. The next event of
//! another kind writes the record with all events. At the start, the log brings the records up to date.
//!
//! An entry is obsolete once the record in the file is beyond its number. The commit that clears a full log writes all
//! records with requests in the log. In a cluster, requests may arrive late, and are written like other events.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::record::{EventKey, RecordId};
use crate::model::Mac;
use crate::telemetry::{DhcpEvent, Event, EventKind};

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
    pub(super) is_cleared: bool,
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
struct LogEntry<'a>(
    RecordId,
    u64,
    i64,
    i32,
    [u8; 6],
    Option<IpAddr>,
    usize,
    Option<Uuid>,
    Option<Cow<'a, str>>,
);

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

    /// Takes the requests of a record that is about to be written.
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

    /// Clears the log. Returns the requests of all records that must be written.
    pub(super) fn clear(&mut self) -> BTreeMap<EventKey, Event> {
        self.bytes = 0;
        self.writes = LogWrites { is_cleared: true, ..LogWrites::default() };
        std::mem::take(&mut self.requests)
    }

    /// The changes for the next commit.
    pub(super) fn take_writes(&mut self) -> LogWrites {
        std::mem::take(&mut self.writes)
    }

    /// The rows for the changes of a commit, as JSON. A request whose machine is written in the same commit has no entry.
    pub(super) fn rows(&self, writes: &LogWrites) -> Vec<Vec<u8>> {
        let mut rows: Vec<_> = writes.added.chunks(ROW_ENTRIES).map(|keys| self.row(keys)).collect();
        if !writes.evicted.is_empty() {
            rows.insert(0, LogRow { evicted: writes.evicted.clone(), ..LogRow::default() });
        }
        rows.retain(|row| !row.evicted.is_empty() || !row.entries.is_empty());
        // Cannot fail: all map keys are strings.
        rows.iter().filter_map(|row| serde_json::to_vec(row).ok()).collect()
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
            let entry = LogEntry(
                *id,
                *number,
                seconds,
                nanoseconds,
                mac.to_bytes(),
                event.address,
                index,
                request.node,
                name,
            );
            row.entries.push(entry);
        }
        row
    }
}

/// The evicted records and the requests of a row. An unreadable row is logged and skipped.
pub(super) fn parse_row(row: &[u8]) -> (Vec<RecordId>, Vec<(EventKey, Event)>) {
    let row = serde_json::from_slice(row)
        .inspect_err(|error| tracing::debug!(%error, "skipped an unreadable row of the history's log"));
    let LogRow { evicted, requests, entries } = row.unwrap_or_default();
    (evicted, entries.into_iter().filter_map(|entry| entry.into_event(&requests)).collect())
}

impl LogEntry<'_> {
    /// The key and the event; `None` if the entry is damaged.
    fn into_event(self, requests: &[DhcpEvent]) -> Option<(EventKey, Event)> {
        let Self(id, number, seconds, nanoseconds, mac, address, index, node, name) = self;
        let at = Timestamp::new(seconds, nanoseconds).ok()?;
        let request = DhcpEvent { node, name: name.map(Cow::into_owned), ..requests.get(index)?.clone() };
        Some(((id, number), Event::new(at, Some(Mac::new(mac)), address, EventKind::Dhcp(request))))
    }
}
