//! [`LoopDetector`]: finds machines in a boot loop, and delays their boot sessions.
//!
//! A machine in a boot loop starts session after session without hooking a volume. It never stops by itself, and each
//! new session hides the error of the last one. After [`FREE_SESSIONS`] sessions, each further session is delayed,
//! longer every time, and the machine shows the reason on its console. Only sessions that start with `/boot.ipxe`
//! count, so a client that just requests a machine's script is never delayed. A hooked volume resets the count.
//!
//! Sessions at other instances of the cluster count as well. A machine may begin a session at one instance, and report
//! to another. Events of other instances arrive late, and out of order.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::model::Mac;

/// Sessions within [`WINDOW`] before the first delay.
const FREE_SESSIONS: u32 = 5;
/// Time after a machine's last session at which its count resets.
const WINDOW: Duration = Duration::from_secs(30 * 60);
/// Initial delay; doubles with each session up to [`MAX_DELAY`].
const INITIAL_DELAY: Duration = Duration::from_secs(60);
const MAX_DELAY: Duration = Duration::from_secs(600);
/// Remembered sessions of each machine: a session counts once, however often its events arrive.
const REMEMBERED_SESSIONS: usize = 8;
/// The memory of a full table, beside the free part of its buckets.
const BYTES: usize = 32 << 20;
/// Maximum number of machines in the table: above 100,000. Further machines are not delayed.
const CAPACITY: usize = BYTES
    / (size_of::<(CountedCard, SessionCount)>() + REMEMBERED_SESSIONS * size_of::<(SessionHash, Instant)>());

/// The machines that have started sessions and not hooked a volume yet.
#[derive(Debug, Default)]
pub struct LoopDetector(Mutex<HashMap<CountedCard, SessionCount>>);

/// A boot card whose sessions count together. Sessions of requesters that the neighbour table does not show count
/// apart, so that no stranger delays a machine that it does show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CountedCard {
    /// The boot card.
    pub mac: Mac,
    /// Whether the requester is confirmed as the machine.
    pub is_confirmed: bool,
}

/// The hash of a session's id, which takes less memory than the id.
type SessionHash = u64;

fn hash_session(journey: &str) -> SessionHash {
    let mut hasher = DefaultHasher::new();
    journey.hash(&mut hasher);
    hasher.finish()
}

#[derive(Debug)]
struct SessionCount {
    /// The last sessions, the newest at the end. Never empty.
    last_sessions: VecDeque<(SessionHash, Instant)>,
    sessions: u32,
    /// End of the current session's delay.
    delayed_until: Option<Instant>,
}

/// A delay imposed on a machine in a boot loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopDelay {
    /// Boot sessions in a row without a hooked volume.
    pub journeys: u32,
    /// Remaining delay in seconds.
    pub seconds: u32,
    /// Whether this is the first answer of this session with the delay.
    pub is_first: bool,
}

impl LoopDetector {
    /// Counts a session when its machine is about to get its boot script. Returns the remaining delay, if any.
    pub fn check(&self, card: CountedCard, journey: &str, now: Instant) -> Option<LoopDelay> {
        let mut counts = self.0.lock();
        if let Some(count) = counts.get(&card).filter(|count| count.has_counted(journey)) {
            return count.remaining_delay(now);
        }
        let count = add_session(&mut counts, card, journey, now)?;
        let seconds = whole_seconds(session_delay(count.sessions)?);
        Some(LoopDelay { journeys: count.sessions, seconds, is_first: true })
    }

    /// Counts a session that started at another instance.
    pub(super) fn observe_session(
        &self,
        card: CountedCard,
        journey: &str,
        started_at: Instant,
        now: Instant,
    ) {
        if now.saturating_duration_since(started_at) >= WINDOW {
            return;
        }
        let mut counts = self.0.lock();
        let Some(count) = counts.get_mut(&card) else {
            add_session(&mut counts, card, journey, started_at);
            return;
        };
        if count.has_counted(journey) {
            return;
        }
        if started_at >= count.last_start() {
            add_session(&mut counts, card, journey, started_at);
            return;
        }
        // An older session than the newest counts too. If sessions were forgotten, it may have counted before.
        if count.last_sessions.len() < REMEMBERED_SESSIONS {
            count.sessions = count.sessions.saturating_add(1);
            let at = count.last_sessions.partition_point(|(_, at)| *at < started_at);
            count.last_sessions.insert(at, (hash_session(journey), started_at));
            count.delayed_until = session_delay(count.sessions).map(|delay| count.last_start() + delay);
        }
    }

    /// Predicts [`check`](Self::check), and counts nothing. Without a journey, the prediction is for the session that is
    /// being delayed; if none is, for the machine's next session.
    pub fn peek(&self, card: CountedCard, journey: Option<&str>, now: Instant) -> Option<LoopDelay> {
        let counts = self.0.lock();
        let count = counts.get(&card)?;
        let remaining = count.remaining_delay(now);
        match journey {
            Some(journey) if count.has_counted(journey) => remaining,
            None if remaining.is_some() => remaining,
            Some(_) | None => {
                let journeys = count.next_session(now);
                let seconds = whole_seconds(session_delay(journeys)?);
                Some(LoopDelay { journeys, seconds, is_first: true })
            }
        }
    }

    /// Forgets the sessions of a machine that hooked its volume, or whose operating system was up, at this time. Later
    /// sessions still count.
    pub(super) fn reset(&self, mac: Mac, hooked_at: Instant) {
        let mut counts = self.0.lock();
        for is_confirmed in [true, false] {
            let card = CountedCard { mac, is_confirmed };
            let Some(count) = counts.get_mut(&card) else { continue };
            count.last_sessions.retain(|(_, started_at)| *started_at > hooked_at);
            if count.last_sessions.is_empty() {
                counts.remove(&card);
                continue;
            }
            count.sessions = count.last_sessions.len() as u32;
            count.delayed_until = session_delay(count.sessions).map(|delay| count.last_start() + delay);
        }
    }
}

/// Adds a machine's newest session. `None`: the table is full.
fn add_session<'a>(
    counts: &'a mut HashMap<CountedCard, SessionCount>,
    card: CountedCard,
    journey: &str,
    started_at: Instant,
) -> Option<&'a SessionCount> {
    if !counts.contains_key(&card) && counts.len() >= CAPACITY {
        counts.retain(|_, count| started_at.saturating_duration_since(count.last_start()) < WINDOW);
        if counts.len() >= CAPACITY {
            return None;
        }
    }
    let count = counts.entry(card).or_insert_with(|| SessionCount {
        last_sessions: VecDeque::with_capacity(1),
        sessions: 0,
        delayed_until: None,
    });
    count.sessions = if count.sessions == 0 { 1 } else { count.next_session(started_at) };
    if count.sessions == 1 {
        count.last_sessions.clear();
    } else if count.last_sessions.len() >= REMEMBERED_SESSIONS {
        count.last_sessions.pop_front();
    }
    count.last_sessions.push_back((hash_session(journey), started_at));
    count.delayed_until = session_delay(count.sessions).map(|delay| started_at + delay);
    Some(count)
}

impl SessionCount {
    /// Whether a session counts already.
    fn has_counted(&self, journey: &str) -> bool {
        let journey = hash_session(journey);
        self.last_sessions.iter().any(|(known, _)| *known == journey)
    }

    /// Start of the newest session.
    fn last_start(&self) -> Instant {
        // Never empty but while the first session is being added.
        self.last_sessions.back().map_or_else(Instant::now, |(_, started_at)| *started_at)
    }

    /// The rest of the current session's delay.
    fn remaining_delay(&self, now: Instant) -> Option<LoopDelay> {
        let remaining = self.delayed_until?.saturating_duration_since(now);
        let seconds = whole_seconds(remaining);
        (!remaining.is_zero()).then_some(LoopDelay { journeys: self.sessions, seconds, is_first: false })
    }

    /// The number of a further session that starts now.
    fn next_session(&self, now: Instant) -> u32 {
        if now.saturating_duration_since(self.last_start()) < WINDOW {
            self.sessions.saturating_add(1)
        } else {
            1
        }
    }
}

/// The delay of a machine's n-th session.
fn session_delay(sessions: u32) -> Option<Duration> {
    let doublings = sessions.checked_sub(FREE_SESSIONS + 1)?;
    Some(INITIAL_DELAY.saturating_mul(1 << doublings.min(8)).min(MAX_DELAY))
}

fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: CountedCard = CountedCard { mac: Mac::new([2, 0, 0, 0, 0, 1]), is_confirmed: true };

    #[test]
    fn delays_start_with_the_sixth_session_and_double() {
        let (detector, mut now) = (LoopDetector::default(), Instant::now());
        for journey in 0..5 {
            assert_eq!(detector.check(CARD, &journey.to_string(), now), None);
            // A further request of the same session does not count.
            assert_eq!(detector.check(CARD, &journey.to_string(), now), None);
            now += Duration::from_secs(60);
        }
        for (journeys, seconds) in [(6, 60), (7, 120), (8, 240), (9, 480), (10, 600), (11, 600)] {
            let journey = journeys.to_string();
            let first = LoopDelay { journeys, seconds, is_first: true };
            assert_eq!(detector.check(CARD, &journey, now), Some(first));
            now += Duration::from_secs(u64::from(seconds) - 10);
            let second = LoopDelay { journeys, seconds: 10, is_first: false };
            assert_eq!(detector.check(CARD, &journey, now), Some(second));
            now += Duration::from_secs(10);
            assert_eq!(detector.check(CARD, &journey, now), None, "the delay has passed");
            assert_eq!(detector.check(CARD, &journey, now), None);
        }
    }

    #[test]
    fn peek_predicts_each_check_and_counts_nothing() {
        let (detector, mut now) = (LoopDetector::default(), Instant::now());
        for journey in 1..=7 {
            let journey = journey.to_string();
            let predictions = [detector.peek(CARD, Some(&journey), now), detector.peek(CARD, None, now)];
            let delay = detector.check(CARD, &journey, now);
            assert_eq!(predictions, [delay; 2], "session {journey}");
            now += Duration::from_secs(10);
            let predicted = detector.peek(CARD, Some(&journey), now);
            assert_eq!(predicted, detector.check(CARD, &journey, now), "session {journey}, later");
            if delay.is_some() {
                assert_eq!(detector.peek(CARD, None, now), predicted, "the delay is running");
                now += Duration::from_secs(600);
            }
        }
        assert_eq!(detector.peek(CARD, Some("7"), now), None, "the delay has passed");
        let next = LoopDelay { journeys: 8, seconds: 240, is_first: true };
        assert_eq!(detector.peek(CARD, None, now), Some(next));
        assert_eq!(detector.peek(CARD, None, now + WINDOW), None, "the window has passed");
        detector.reset(CARD.mac, now);
        assert_eq!(detector.peek(CARD, None, now), None);
    }

    #[test]
    fn a_hooked_volume_or_the_window_resets_the_count() {
        type Check<'a> = &'a mut dyn FnMut(&LoopDetector, &str, u64) -> Option<u32>;

        let (detector, start) = (LoopDetector::default(), Instant::now());
        let mut now = start;
        let mut check = |detector: &LoopDetector, journey: &str, seconds: u64| {
            now += Duration::from_secs(seconds);
            detector.check(CARD, journey, now).map(|delay| delay.journeys)
        };
        let check_six = |check: Check<'_>, detector: &LoopDetector, round: &str| {
            (0..6).map(|n| check(detector, &format!("{round}{n}"), 1)).last().flatten()
        };
        assert_eq!(check_six(&mut check, &detector, "a"), Some(6));
        detector.reset(CARD.mac, start + Duration::from_secs(6));
        assert_eq!(check_six(&mut check, &detector, "b"), Some(6));
        assert_eq!(check(&detector, "c", 1800), None, "the window has passed");
    }

    #[test]
    fn sessions_of_other_instances_count_once_and_in_any_order() {
        let (detector, start) = (LoopDetector::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (journey, seconds) in [("b", 60), ("d", 180), ("a", 0), ("b", 60), ("c", 120)] {
            detector.observe_session(CARD, journey, at(seconds), at(200));
        }
        assert_eq!(detector.check(CARD, "e", at(240)), None);
        let delay = LoopDelay { journeys: 6, seconds: 60, is_first: true };
        assert_eq!(detector.check(CARD, "f", at(300)), Some(delay));
        // The other instance answered the same session, and its event arrives late.
        detector.observe_session(CARD, "f", at(300), at(302));
        let rest = LoopDelay { seconds: 50, is_first: false, ..delay };
        assert_eq!(detector.check(CARD, "f", at(310)), Some(rest));
        detector.observe_session(CARD, "old", start, at(1800));
        assert_eq!(
            detector.peek(CARD, Some("f"), at(310)),
            Some(rest),
            "the window of that session has passed"
        );
    }

    #[test]
    fn late_report_resets_the_sessions_before_it() {
        let (detector, start) = (LoopDetector::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (journey, seconds) in [("a", 0), ("b", 60), ("c", 120), ("d", 180), ("e", 240), ("f", 300)] {
            detector.check(CARD, journey, at(seconds));
        }
        detector.reset(CARD.mac, at(250));
        assert_eq!(detector.check(CARD, "f", at(301)), None, "one session since the hook");
        detector.reset(CARD.mac, at(302));
        assert!(detector.0.lock().is_empty());
    }

    #[test]
    fn unconfirmed_requesters_delay_no_confirmed_machine() {
        let (detector, now) = (LoopDetector::default(), Instant::now());
        let stranger = CountedCard { is_confirmed: false, ..CARD };
        for journey in 0..10 {
            detector.check(stranger, &format!("stranger-{journey}"), now);
        }
        assert_eq!(detector.check(stranger, "stranger", now).map(|delay| delay.seconds), Some(600));
        assert_eq!(detector.check(CARD, "own", now), None);
        detector.reset(CARD.mac, now);
        assert_eq!(detector.check(stranger, "stranger", now), None);
    }

    #[test]
    fn the_table_does_not_exceed_its_capacity() {
        const { assert!(CAPACITY > 100_000) };
        let (detector, now) = (LoopDetector::default(), Instant::now());
        for number in 0..CAPACITY as u32 + 100 {
            let [_, a, b, c] = number.to_be_bytes();
            let card = CountedCard { mac: Mac::new([2, 0, 0, a, b, c]), ..CARD };
            detector.check(card, "x", now);
        }
        assert_eq!(detector.0.lock().len(), CAPACITY);
    }
}
