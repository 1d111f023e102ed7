//! [`Portals`]: what is known about each portal. Takes the time as an argument, and opens no connection.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{REACHED_WITHIN, RESULT_AGE};
use crate::model::Portal;
use crate::telemetry::PortalReading;

/// The most portals. A site has a few; with more, the one that was not in use for longest gives way.
pub(super) const MAX_PORTALS: usize = 1024;
/// The age at which a result is renewed: early enough that a time-out ends before the result is old.
const RENEWAL_AGE: Duration = Duration::from_secs(50);

/// The portals of boots within the last [`REACHED_WITHIN`].
#[derive(Debug, Default)]
pub(super) struct Portals(HashMap<Portal, PortalRecord>);

#[derive(Debug)]
struct PortalRecord {
    used_at: Instant,
    reached_at: Option<Instant>,
    /// The last result, and its time.
    result: Option<(Instant, bool)>,
    is_probing: bool,
}

impl PortalRecord {
    /// The last result, if it is younger than this.
    fn result_within(&self, age: Duration, now: Instant) -> Option<bool> {
        self.result.filter(|(at, _)| now.duration_since(*at) < age).map(|(_, is_reached)| is_reached)
    }
}

impl Portals {
    /// Notes that a boot uses these portals. Returns those without a result, or with an old one.
    pub(super) fn note_use(&mut self, portals: &[Portal], now: Instant) -> Vec<Portal> {
        let mut missing = Vec::new();
        for portal in portals {
            self.make_room(portal);
            let record = self.0.entry(portal.clone()).or_insert_with(|| PortalRecord {
                used_at: now,
                reached_at: None,
                result: None,
                is_probing: false,
            });
            record.used_at = now;
            if record.result_within(RESULT_AGE, now).is_none() {
                missing.push(portal.clone());
            }
        }
        missing
    }

    /// Removes the portal that was not in use for longest, if a new one has no room.
    fn make_room(&mut self, new: &Portal) {
        if self.0.len() < MAX_PORTALS || self.0.contains_key(new) {
            return;
        }
        let oldest = self.0.iter().min_by_key(|(_, record)| record.used_at);
        if let Some(oldest) = oldest.map(|(portal, _)| portal.clone()) {
            self.0.remove(&oldest);
        }
    }

    /// Forgets portals that no boot has used for long, and returns those whose result becomes old.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Portal> {
        self.0.retain(|_, record| now.duration_since(record.used_at) < REACHED_WITHIN);
        let is_due =
            |record: &PortalRecord| !record.is_probing && record.result_within(RENEWAL_AGE, now).is_none();
        let due = self.0.iter().filter(|(_, record)| is_due(record));
        due.map(|(portal, _)| portal.clone()).collect()
    }

    /// Marks a portal as being probed. `false`: it is already, or it is not known.
    pub(super) fn begin_probe(&mut self, portal: &Portal) -> bool {
        match self.0.get_mut(portal) {
            Some(record) if !record.is_probing => {
                record.is_probing = true;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Notes the result of a probe. Returns whether it makes a portal that was reached a dead one, or the reverse.
    pub(super) fn finish_probe(&mut self, portal: &Portal, is_reached: bool, now: Instant) -> bool {
        let Some(record) = self.0.get_mut(portal) else { return false };
        let before = record.result.map(|(_, is_reached)| is_reached);
        let was_reached = record.reached_at.is_some();
        record.is_probing = false;
        record.result = Some((now, is_reached));
        if is_reached {
            record.reached_at = Some(now);
        }
        was_reached && before == Some(!is_reached)
    }

    /// For a dead portal: how long ago it answered last.
    pub(super) fn silent_since(&self, portal: &Portal, now: Instant) -> Option<Duration> {
        let record = self.0.get(portal)?;
        let reached_before = now.duration_since(record.reached_at?);
        let is_silent = record.result_within(RESULT_AGE, now) == Some(false);
        (is_silent && reached_before < REACHED_WITHIN).then_some(reached_before)
    }

    /// Whether the last result says that the portal is reached.
    pub(super) fn is_reachable(&self, portal: &Portal, now: Instant) -> Option<bool> {
        self.0.get(portal)?.result_within(RESULT_AGE, now)
    }

    /// The number of portals by whether they answer.
    pub(super) fn count(&self, now: Instant) -> PortalReading {
        let mut count = PortalReading::default();
        for portal in self.0.keys() {
            match self.is_reachable(portal, now) {
                Some(true) => count.answering += 1,
                Some(false) if self.silent_since(portal, now).is_some() => count.dead += 1,
                Some(false) | None => count.unknown += 1,
            }
        }
        count
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
