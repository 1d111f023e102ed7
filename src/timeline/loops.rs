//! [`Loops`]: who begins journey after journey and never hooks a volume.
//!
//! A machine that loops does so for ever, and hides what is wrong by beginning anew. So after some journeys each next
//! one waits, longer and longer, and the machine says so on its console. Only journeys count, which begin with the
//! script that is the same for everybody: whoever asks for a machine's script by itself never trips it. One hooked
//! volume, and all is forgotten.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::Mac;

/// Journeys within the window that are no loop.
const JOURNEYS: u32 = 5;
/// What was longer ago does not count.
const WINDOW: Duration = Duration::from_secs(30 * 60);
/// How long the first journey that is too many waits, and the longest that any does.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Machines that are remembered.
const MOST: usize = 16_384;

/// The machines that have begun and not hooked anything yet.
#[derive(Debug, Default)]
pub(super) struct Loops(Mutex<HashMap<Mac, Begun>>);

#[derive(Debug)]
struct Begun {
    journey: String,
    last: Instant,
    journeys: u32,
    /// Until when the present journey waits.
    held: Option<Instant>,
}

/// A machine is to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paced {
    /// How often it has begun.
    pub journeys: u32,
    /// How long it is still to wait.
    pub seconds: u32,
    /// Whether it is told so for the first time on this journey.
    pub first: bool,
}

impl Loops {
    /// A machine would be sent its script on this journey. Returns whether it has to wait first.
    pub(super) fn begins(&self, mac: Mac, journey: &str, now: Instant) -> Option<Paced> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(begun) = all.get_mut(&mac)
            && begun.journey == journey
        {
            let left = begun.held?.saturating_duration_since(now);
            if left.is_zero() {
                begun.held = None;
                return None;
            }
            return Some(Paced { journeys: begun.journeys, seconds: seconds(left), first: false });
        }
        if all.len() >= MOST && !all.contains_key(&mac) {
            all.retain(|_, begun| now.duration_since(begun.last) < WINDOW);
            if all.len() >= MOST {
                return None;
            }
        }
        let begun = all.entry(mac).or_insert_with(|| Begun {
            journey: String::new(),
            last: now,
            journeys: 0,
            held: None,
        });
        if now.duration_since(begun.last) >= WINDOW {
            begun.journeys = 0;
        }
        journey.clone_into(&mut begun.journey);
        begun.last = now;
        begun.journeys = begun.journeys.saturating_add(1);
        let beyond = begun.journeys.checked_sub(JOURNEYS + 1)?;
        let pause = FIRST_PAUSE.saturating_mul(1 << beyond.min(8)).min(LONGEST_PAUSE);
        begun.held = Some(now + pause);
        Some(Paced { journeys: begun.journeys, seconds: seconds(pause), first: true })
    }

    /// A machine has hooked its volume, or is up.
    pub(super) fn ends(&self, mac: Mac) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&mac);
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    #[test]
    fn the_sixth_journey_waits_and_each_next_one_longer() {
        let (loops, mut now) = (Loops::default(), Instant::now());
        for journey in 0..5 {
            assert_eq!(loops.begins(CARD, &journey.to_string(), now), None);
            // Asked again on the same journey: it is the same.
            assert_eq!(loops.begins(CARD, &journey.to_string(), now), None);
            now += Duration::from_secs(60);
        }
        for (journeys, seconds) in [(6, 60), (7, 120), (8, 240), (9, 480), (10, 600), (11, 600)] {
            let name = journeys.to_string();
            assert_eq!(loops.begins(CARD, &name, now), Some(Paced { journeys, seconds, first: true }));
            now += Duration::from_secs(u64::from(seconds) - 10);
            assert_eq!(loops.begins(CARD, &name, now), Some(Paced { journeys, seconds: 10, first: false }));
            now += Duration::from_secs(10);
            assert_eq!(loops.begins(CARD, &name, now), None, "it has waited");
            assert_eq!(loops.begins(CARD, &name, now), None);
        }
    }

    #[test]
    fn a_hooked_volume_or_a_long_time_ends_it() {
        let (loops, mut now) = (Loops::default(), Instant::now());
        let mut begins = |loops: &Loops, name: &str, later: u64| {
            now += Duration::from_secs(later);
            loops.begins(CARD, name, now).map(|paced| paced.journeys)
        };
        let six = |begins: &mut dyn FnMut(&Loops, &str, u64) -> Option<u32>, loops: &Loops, round: &str| {
            (0..6).map(|n| begins(loops, &format!("{round}{n}"), 1)).last().flatten()
        };
        assert_eq!(six(&mut begins, &loops, "a"), Some(6));
        loops.ends(CARD);
        assert_eq!(six(&mut begins, &loops, "b"), Some(6));
        assert_eq!(begins(&loops, "c", 1800), None, "that was half an hour ago");
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let (loops, now) = (Loops::default(), Instant::now());
        for number in 0..MOST as u32 + 100 {
            let [_, a, b, c] = number.to_be_bytes();
            loops.begins(Mac::new([2, 0, 0, a, b, c]), "x", now);
        }
        assert_eq!(loops.0.lock().expect("is not poisoned").len(), MOST);
    }
}
