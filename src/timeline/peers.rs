//! [`PeerProgress`] and [`PeerBatch`]: the events of other instances, and how far they have been joined.
//!
//! Other instances serve their events at least once. The place of the last joined event is written in the same commit
//! as the events, so each is joined once: a place that a crash lost is requested again, with its events.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::outbox::EventPosition;
use crate::model::InstanceName;
use crate::telemetry::Event;

/// Streams of one instance whose places are remembered. A stream ends when the disk of the instance fails.
const MAX_STREAMS: usize = 8;
/// Instances whose progress is remembered. A forgotten one that returns would have its last events joined again.
pub(super) const MAX_PEERS: usize = 64;

/// How far the events of another instance have been joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerProgress {
    /// The last joined place of each stream; the current stream at the end.
    pub positions: Vec<EventPosition>,
    /// Time of the last answer, by this instance's clock.
    pub heard_at: Timestamp,
    /// Whether that answer was the last of an instance that was shutting down: nothing is missing.
    #[serde(default)]
    pub is_complete: bool,
    /// The last time at which events turned out to be lost, by this instance's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_at: Option<Timestamp>,
}

/// Events of another instance, as it answered them.
#[derive(Debug, Clone)]
pub struct PeerBatch {
    /// The instance.
    pub instance: InstanceName,
    /// The place after the batch; `None` if the instance has never had an event.
    pub end: Option<EventPosition>,
    /// Whether events before the batch are lost.
    pub has_gap: bool,
    /// Whether the instance is shutting down and has no further events.
    pub is_complete: bool,
    /// The events by number, all of the stream of `end`. Their times are by this instance's clock.
    pub events: Vec<(u64, Event)>,
}

impl PeerProgress {
    /// No event has been joined.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { positions: Vec::new(), heard_at: now, is_complete: false, gap_at: None }
    }

    /// The place from which to go on.
    pub fn position(&self) -> Option<EventPosition> {
        self.positions.last().copied()
    }

    /// Whether an event has been joined before.
    pub(super) fn has_joined(&self, event: EventPosition) -> bool {
        self.positions.iter().any(|known| known.stream == event.stream && event.number <= known.number)
    }

    /// Notes a batch whose events are joined. Returns whether a restart needs the change.
    pub(super) fn note(&mut self, batch: &PeerBatch, now: Timestamp) -> bool {
        self.heard_at = now;
        let is_changed = batch.is_complete != self.is_complete || batch.has_gap;
        self.is_complete = batch.is_complete;
        if batch.has_gap {
            self.gap_at = Some(now);
        }
        let Some(end) = batch.end else { return is_changed };
        if self.position() == Some(end) {
            return is_changed;
        }
        let known = self.positions.iter().position(|known| known.stream == end.stream);
        let known = known.map_or(0, |index| self.positions.remove(index).number);
        self.positions.push(EventPosition { number: end.number.max(known), ..end });
        if self.positions.len() > MAX_STREAMS {
            self.positions.remove(0);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(stream: u64, number: u64) -> PeerBatch {
        PeerBatch {
            instance: "boot-2".parse().expect("a name"),
            end: Some(EventPosition { stream, number }),
            has_gap: false,
            is_complete: false,
            events: Vec::new(),
        }
    }

    #[test]
    fn each_stream_has_a_place() {
        let mut progress = PeerProgress::new(Timestamp::UNIX_EPOCH);
        let at = |number| EventPosition { stream: 1, number };
        assert!(progress.note(&batch(1, 5), Timestamp::UNIX_EPOCH));
        assert!(!progress.note(&batch(1, 5), Timestamp::UNIX_EPOCH), "nothing new to write");
        assert!(progress.has_joined(at(5)) && !progress.has_joined(at(6)));
        progress.note(&batch(2, 9), Timestamp::UNIX_EPOCH);
        // The instance has restarted, and serves its first stream from the beginning.
        progress.note(&batch(1, 2), Timestamp::UNIX_EPOCH);
        assert!(progress.has_joined(at(5)) && !progress.has_joined(at(6)));
        assert_eq!(progress.position(), Some(at(5)));
        for stream in 10..20 {
            progress.note(&batch(stream, 1), Timestamp::UNIX_EPOCH);
        }
        assert_eq!(progress.positions.len(), MAX_STREAMS);
    }
}
