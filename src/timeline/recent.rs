//! [`RecentEvents`]: the last events of each machine, which can still be merged or moved.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::machine_id::MachineId;
use super::progress::SESSION_GAP;
use super::record::{MachineRecord, RecordId};
use crate::model::BootOutcome;
use crate::telemetry::{BootRequestEvent, Event, EventKind};

/// Equal events of a machine within this time are merged into one with a count.
pub(super) const REPEAT_WINDOW: SignedDuration = SignedDuration::from_secs(1);
/// Recent events kept per machine.
pub(super) const RECENT_CAPACITY: usize = 32;

/// The recent events of all machines, by record and number.
#[derive(Debug, Default)]
pub(super) struct RecentEvents {
    events: HashMap<RecordId, Vec<(u64, Event)>>,
    /// About how many bytes the events take.
    bytes: usize,
}

impl RecentEvents {
    /// Adds an event.
    pub(super) fn push(&mut self, record_id: RecordId, number: u64, event: Event) {
        self.bytes += event.byte_size();
        let recent = self.events.entry(record_id).or_default();
        recent.push((number, event));
        if recent.len() > RECENT_CAPACITY {
            let (_, oldest) = recent.remove(0);
            self.bytes -= oldest.byte_size();
        }
    }

    /// Adds an event, in place of the earlier one with its number.
    pub(super) fn replace(&mut self, record_id: RecordId, number: u64, event: Event) {
        if let Some(recent) = self.events.get_mut(&record_id)
            && let Some((_, replaced)) = recent.pop_if(|(last, _)| *last == number)
        {
            self.bytes -= replaced.byte_size();
        }
        self.push(record_id, number, event);
    }

    /// Removes and returns a machine's events.
    pub(super) fn remove(&mut self, record_id: RecordId) -> Vec<(u64, Event)> {
        let events = self.events.remove(&record_id).unwrap_or_default();
        self.bytes -= events.iter().map(|(_, event)| event.byte_size()).sum::<usize>();
        events
    }

    /// About how many bytes the events take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Merges a repeated wait into the machine's last event. In a cluster, a machine may wait at several instances in
    /// turn, and each has an event. Returns the result and its number.
    pub(super) fn merge_wait(&mut self, record_id: RecordId, event: &Event) -> Option<(u64, &Event)> {
        let wait = as_wait(event)?;
        let is_same_wait = |(_, earlier): &&mut (u64, Event)| {
            as_wait(earlier)
                .is_some_and(|earlier| (&earlier.journey, earlier.attempt) == (&wait.journey, wait.attempt))
        };
        let mut waits = self.events.get_mut(&record_id)?.iter_mut().rev().take_while(is_same_wait);
        let (number, last) = waits.find(|(_, earlier)| earlier.instance == event.instance)?;
        self.bytes -= last.byte_size();
        last.count = last.count.saturating_add(event.count);
        last.kind = event.kind.clone();
        self.bytes += last.byte_size();
        Some((*number, last))
    }

    /// Merges a repeated event into the first one. Returns the result and its number.
    pub(super) fn merge_repeat(&mut self, record_id: RecordId, event: &Event) -> Option<(u64, &Event)> {
        let (number, earlier) = self
            .events
            .get_mut(&record_id)?
            .iter_mut()
            .rev()
            // The clock may have been set back meanwhile.
            .take_while(|(_, earlier)| event.at.duration_since(earlier.at).abs() < REPEAT_WINDOW)
            .find(|(_, earlier)| earlier.is_repeat_of(event))?;
        earlier.count = earlier.count.saturating_add(event.count);
        Some((*number, earlier))
    }

    /// Drops the events that can neither be merged nor moved any more.
    pub(super) fn expire(&mut self, records: &HashMap<RecordId, Box<MachineRecord>>, now: Timestamp) {
        self.events.retain(|record_id, recent| {
            let Some(record) = records.get(record_id) else { return false };
            // Repeated waits of a machine are merged for as long as the machine waits.
            let is_long_lived = matches!(record.id, MachineId::Address(_))
                || recent.last().is_some_and(|(_, event)| as_wait(event).is_some());
            if is_long_lived && now.duration_since(record.last_seen).abs() < SESSION_GAP {
                return true;
            }
            recent.retain(|(_, event)| now.duration_since(event.at).abs() < REPEAT_WINDOW);
            !recent.is_empty()
        });
        self.bytes = self.events.values().flatten().map(|(_, event)| event.byte_size()).sum();
    }
}

/// The boot request, if its outcome is `wait`.
fn as_wait(event: &Event) -> Option<&BootRequestEvent> {
    match &event.kind {
        EventKind::BootRequest(request) if request.outcome == BootOutcome::Wait => Some(request),
        _ => None,
    }
}
