//! [`PowerOnTimes`]: when volboot last switched each machine on, for the time from power-on to *up*.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use uuid::Uuid;

/// How long after the power-on a boot session counts as its consequence. Large servers test their memory for minutes.
const MAX_AGE: SignedDuration = SignedDuration::from_mins(30);

/// The times by node. Cheap to clone: clones share the times. A node has one time for half an hour at most.
#[derive(Debug, Clone, Default)]
pub struct PowerOnTimes(Arc<Mutex<HashMap<Uuid, Timestamp>>>);

impl PowerOnTimes {
    /// Notes that the command to switch a node's machine on is about to be sent.
    pub fn note(&self, node: Uuid, at: Timestamp) {
        let mut times = self.0.lock();
        times.retain(|_, other| at.duration_since(*other) < MAX_AGE);
        times.insert(node, at);
    }

    /// Takes the time of the power-on that led to a boot session of a node, which started at `started_at`.
    pub fn take(&self, node: Uuid, started_at: Timestamp) -> Option<Timestamp> {
        let mut times = self.0.lock();
        let age = started_at.duration_since(*times.get(&node)?);
        // A session that began before the power-on leads to no other: its time is left for the next one.
        (!age.is_negative()).then(|| times.remove(&node)).flatten().filter(|_| age < MAX_AGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_on_belongs_to_the_first_session_after_it() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).expect("a time");
        let (times, node) = (PowerOnTimes::default(), Uuid::nil());
        times.note(node, at(100));
        assert_eq!(times.take(node, at(90)), None);
        assert_eq!(times.take(node, at(160)), Some(at(100)));
        assert_eq!(times.take(node, at(170)), None);
        times.note(node, at(200));
        assert_eq!(times.take(node, at(200 + 31 * 60)), None);
    }
}
