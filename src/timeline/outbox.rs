//! [`Outbox`]: the numbered events of this instance, for the other instances of the cluster.
//!
//! Numbers grow by one, also over restarts: a number names one event for ever. So an event is served only after the
//! commit of its number, as a crash would give an uncommitted number away again. While the history fails, the outbox
//! begins another *stream* of numbers, which ends with the process, and serves its events from memory.
//!
//! The outbox is bounded in bytes. The oldest events leave, and an instance that was away for longer lacks them.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::telemetry::Event;

/// Bytes of encoded events in the outbox.
const MAX_BYTES: usize = 8 << 20;
/// Bytes of encoded events in a page, unless one event alone has more.
const PAGE_BYTES: usize = 256 << 10;

/// A place in the events of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPosition {
    /// The stream of numbers.
    pub stream: u64,
    /// The number of the last event that was read.
    pub number: u64,
}

/// A page of numbered events, all of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxPage {
    /// The place after the page; `None` if the outbox has never had an event.
    pub end: Option<EventPosition>,
    /// Whether events between the requested place and the page are lost.
    pub has_gap: bool,
    /// The events as JSON, by number.
    pub events: Vec<(u64, Arc<str>)>,
}

/// The changes of the outbox for one commit.
#[derive(Debug, Default, Clone)]
pub(super) struct OutboxWrites {
    /// The events to write, as JSON.
    pub(super) put: Vec<(EventPosition, Arc<str>)>,
    /// Events below this number have left.
    pub(super) delete_below: u64,
    /// The stream of further numbers; `None`: no change.
    pub(super) stream: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Outbox {
    stream: u64,
    /// Whether no file has the stream.
    is_volatile: bool,
    entries: VecDeque<(EventPosition, Arc<str>)>,
    bytes: usize,
    next_number: u64,
    /// Events below this number are served.
    served_below: u64,
    /// Events from this number on are in no file.
    unwritten_from: u64,
    max_bytes: usize,
}

impl Outbox {
    /// An empty outbox, with a stream that no file has.
    pub(super) fn new() -> Self {
        Self {
            stream: new_stream(),
            is_volatile: true,
            entries: VecDeque::new(),
            bytes: 0,
            next_number: 1,
            served_below: 1,
            unwritten_from: 1,
            max_bytes: MAX_BYTES,
        }
    }

    /// The outbox as the file has it. If the file is read-only, further numbers are of a stream that ends with the
    /// process.
    pub(super) fn restore(
        stream: u64,
        entries: VecDeque<(EventPosition, Arc<str>)>,
        is_read_only: bool,
    ) -> Self {
        let bytes = entries.iter().map(|(_, event)| event.len()).sum();
        let next_number = entries.back().map_or(0, |(position, _)| position.number) + 1;
        let outbox = Self {
            stream: if is_read_only { new_stream() } else { stream },
            is_volatile: is_read_only,
            entries,
            bytes,
            next_number,
            served_below: next_number,
            unwritten_from: next_number,
            max_bytes: MAX_BYTES,
        };
        outbox.trimmed()
    }

    #[cfg(test)]
    pub(super) fn with_max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }.trimmed()
    }

    fn trimmed(mut self) -> Self {
        self.trim();
        self
    }

    /// Numbers an event. It is served after the next commit.
    pub(super) fn push(&mut self, event: &Event) {
        // Cannot fail: all map keys are strings.
        let Ok(text) = serde_json::to_string(event) else { return };
        let position = EventPosition { stream: self.stream, number: self.next_number };
        self.next_number += 1;
        self.bytes += text.len();
        self.entries.push_back((position, text.into()));
        self.trim();
    }

    fn trim(&mut self) {
        while self.bytes > self.max_bytes
            && let Some((_, event)) = self.entries.pop_front()
        {
            self.bytes -= event.len();
        }
    }

    /// The changes since the last commit.
    pub(super) fn pending_writes(&self) -> OutboxWrites {
        let unwritten = self.entries.iter().filter(|(position, _)| position.number >= self.unwritten_from);
        OutboxWrites {
            put: unwritten.cloned().collect(),
            delete_below: self.entries.front().map_or(self.next_number, |(position, _)| position.number),
            stream: self.is_volatile.then_some(self.stream),
        }
    }

    /// All changes up to now are in the file. Returns whether there is more to serve.
    pub(super) fn confirm_writes(&mut self) -> bool {
        self.is_volatile = false;
        self.unwritten_from = self.next_number;
        self.serve_all()
    }

    /// The file fails, or there is none: the events that were not served yet move to a stream that ends with the
    /// process. Returns whether there is more to serve.
    pub(super) fn serve_from_memory(&mut self) -> bool {
        if !self.is_volatile {
            self.is_volatile = true;
            self.stream = new_stream();
            for (position, _) in self.entries.iter_mut().rev() {
                if position.number < self.served_below {
                    break;
                }
                position.stream = self.stream;
            }
        }
        self.serve_all()
    }

    fn serve_all(&mut self) -> bool {
        let has_more = self.served_below < self.next_number;
        self.served_below = self.next_number;
        has_more
    }

    /// A place that no file and no crash explains: the file is an older copy. Its numbers name other events, so a new
    /// stream begins.
    fn is_ahead(&self, after: EventPosition) -> bool {
        after.stream == self.stream && after.number >= self.next_number
    }

    /// The events after a place; without a place, all.
    pub(super) fn page(&mut self, after: Option<EventPosition>) -> OutboxPage {
        if after.is_some_and(|after| self.is_ahead(after)) {
            tracing::warn!("the history is older than the events that another instance has read from it");
            self.is_volatile = true;
            self.stream = new_stream();
        }
        let found = after.and_then(|after| self.find_next(after));
        let start = found.unwrap_or(0);
        let has_gap = after.is_some_and(|after| after.number > 0) && found.is_none();
        let mut page = OutboxPage { end: None, has_gap, events: Vec::new() };
        let mut bytes = 0;
        for (position, event) in self.entries.range(start..) {
            let is_other_stream = page.end.is_some_and(|end| end.stream != position.stream);
            let is_full = !page.events.is_empty() && bytes + event.len() > PAGE_BYTES;
            if position.number >= self.served_below || is_other_stream || is_full {
                break;
            }
            bytes += event.len();
            page.events.push((position.number, Arc::clone(event)));
            page.end = Some(*position);
        }
        if page.end.is_none() {
            let unread = EventPosition { stream: self.stream, number: self.served_below - 1 };
            page.end = after.filter(|_| !has_gap).or(Some(unread));
        }
        page
    }

    /// The index of the first event after a place; `None` if the place is not in the outbox.
    fn find_next(&self, after: EventPosition) -> Option<usize> {
        let index = self.entries.partition_point(|(position, _)| position.number <= after.number);
        if let Some(last) = index.checked_sub(1) {
            return (self.entries[last].0 == after).then_some(index);
        }
        // The place is before all events. If no event has left since, the first one is the next.
        let first = self.entries.front().map_or(self.next_number, |(position, _)| position.number);
        (after.stream == self.stream && after.number + 1 == first).then_some(0)
    }
}

fn new_stream() -> u64 {
    Uuid::new_v4().as_u64_pair().0
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::telemetry::EventKind;

    fn push(outbox: &mut Outbox, count: usize) {
        for _ in 0..count {
            outbox.push(&Event::new(Timestamp::UNIX_EPOCH, None, None, EventKind::SessionStarted));
        }
    }

    fn numbers(page: &OutboxPage) -> Vec<u64> {
        page.events.iter().map(|(number, _)| *number).collect()
    }

    /// What a restart finds in the file, which has all that was confirmed.
    fn restart(file: &[(EventPosition, Arc<str>)], stream: u64) -> Outbox {
        Outbox::restore(stream, file.iter().cloned().collect(), false)
    }

    #[test]
    fn events_are_served_once_their_numbers_are_in_the_file() {
        let mut outbox = Outbox::new();
        push(&mut outbox, 2);
        assert_eq!(numbers(&outbox.page(None)), Vec::<u64>::new());
        let writes = outbox.pending_writes();
        assert!(outbox.confirm_writes() && !outbox.confirm_writes());
        let page = outbox.page(None);
        assert_eq!((numbers(&page), page.has_gap), (vec![1, 2], false));
        push(&mut outbox, 1);
        let after = outbox.page(page.end);
        assert_eq!((after.events.len(), after.end, after.has_gap), (0, page.end, false));
        // A crash before the commit gives the number 3 to another event, which nobody has read.
        let mut outbox = restart(&writes.put, writes.stream.expect("a new stream"));
        push(&mut outbox, 1);
        outbox.confirm_writes();
        let next = outbox.page(page.end);
        assert_eq!((numbers(&next), next.has_gap), (vec![3], false));
    }

    #[test]
    fn a_failing_file_begins_a_stream_and_serves_each_event_once() {
        let mut outbox = Outbox::new();
        push(&mut outbox, 2);
        let written = outbox.pending_writes();
        outbox.confirm_writes();
        let first = outbox.page(None);
        push(&mut outbox, 2);
        assert!(outbox.serve_from_memory());
        let second = outbox.page(first.end);
        assert_eq!((numbers(&second), second.has_gap), (vec![3, 4], false));
        assert_ne!(second.end.map(|end| end.stream), first.end.map(|end| end.stream));
        // After a restart, the file goes on with the first stream, and its numbers name other events.
        let mut outbox = restart(&written.put, written.stream.expect("a new stream"));
        push(&mut outbox, 1);
        outbox.confirm_writes();
        let page = outbox.page(second.end);
        assert_eq!((numbers(&page), page.has_gap), (vec![1, 2, 3], true));
        assert_eq!(page.end.map(|end| end.stream), first.end.map(|end| end.stream));
    }

    #[test]
    fn a_file_that_works_again_gets_what_it_lacks() {
        let mut outbox = Outbox::new();
        push(&mut outbox, 1);
        outbox.confirm_writes();
        push(&mut outbox, 1);
        outbox.serve_from_memory();
        push(&mut outbox, 1);
        let writes = outbox.pending_writes();
        assert_eq!(writes.put.iter().map(|(position, _)| position.number).collect::<Vec<_>>(), [2, 3]);
        assert!(writes.stream.is_some() && writes.put.iter().all(|(at, _)| Some(at.stream) == writes.stream));
        outbox.confirm_writes();
        assert_eq!((outbox.pending_writes().put.len(), outbox.pending_writes().stream), (0, None));
    }

    #[test]
    fn the_oldest_events_leave_and_the_gap_is_told() {
        let mut outbox = Outbox::new();
        push(&mut outbox, 3);
        outbox.confirm_writes();
        let early = outbox.page(None).end;
        let size = outbox.entries[0].1.len();
        let mut outbox = outbox.with_max_bytes(2 * size);
        push(&mut outbox, 3);
        outbox.confirm_writes();
        assert_eq!(outbox.pending_writes().delete_below, 5);
        let page = outbox.page(early);
        assert_eq!((numbers(&page), page.has_gap), (vec![5, 6], true));
        assert!(!outbox.page(None).has_gap, "a new instance lacks nothing that it could have read");
        let unknown = EventPosition { stream: 7, number: 5 };
        assert!(outbox.page(Some(unknown)).has_gap);
    }

    #[test]
    fn an_older_copy_of_the_file_begins_a_stream() {
        let mut outbox = Outbox::new();
        push(&mut outbox, 1);
        let (copy, stream) = (outbox.pending_writes().put, outbox.stream);
        push(&mut outbox, 2);
        outbox.confirm_writes();
        let end = outbox.page(None).end;
        let mut outbox = restart(&copy, stream);
        outbox.page(end);
        push(&mut outbox, 1);
        outbox.confirm_writes();
        let page = outbox.page(Some(EventPosition { stream, number: 1 }));
        assert_eq!(numbers(&page), [2]);
        assert_ne!(page.end.map(|end| end.stream), Some(stream));
    }

    #[test]
    fn pages_are_bounded() {
        let mut outbox = Outbox::new();
        push(&mut outbox, 2 * PAGE_BYTES / 50);
        outbox.confirm_writes();
        let (mut after, mut read) = (None, 0);
        loop {
            let page = outbox.page(after);
            assert!(page.events.iter().map(|(_, event)| event.len()).sum::<usize>() <= PAGE_BYTES);
            read += page.events.len();
            after = page.end;
            if page.events.is_empty() {
                break;
            }
        }
        assert_eq!(read, 2 * PAGE_BYTES / 50);
    }
}
