//! How long to wait for an answer.
//!
//! The round trip is measured and smoothed as in RFC 6298 §2, the wait doubles with every answer that does not come
//! (§5.5), and what was sent twice is never measured (§3, Karn's rule; the caller sees to that). Unlike TCP the first
//! wait and the bounds are configured, and a client's `timeout` option (RFC 2349) replaces the measure.
//!
//! Invariant: a wait is never shorter than [`Limits::shortest_wait`]: a slow client's answer must not be taken for
//! a lost one.

use std::time::Duration;

use super::Limits;

/// What stands for half a round trip until one is measured. A request that comes twice leaves the first one unmeasured,
/// and without any bound each duplicate would then send a window again, for ever.
const UNMEASURED: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Pace {
    /// The client's own wish.
    fixed: Option<Duration>,
    first: Duration,
    shortest: Duration,
    longest: Duration,
    measured: Option<Measured>,
    /// Waits without an answer since the last progress.
    in_vain: u32,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    smooth: Duration,
    variation: Duration,
    fastest: Duration,
}

impl Pace {
    pub(super) fn new(limits: &Limits, fixed: Option<Duration>) -> Self {
        Self {
            fixed,
            first: limits.first_wait,
            shortest: limits.shortest_wait,
            longest: limits.longest_wait,
            measured: None,
            in_vain: 0,
        }
    }

    /// An answer came after `round`. <https://www.rfc-editor.org/rfc/rfc6298#section-2>
    pub(super) fn measure(&mut self, round: Duration) {
        self.measured = Some(match self.measured {
            None => Measured { smooth: round, variation: round / 2, fastest: round },
            Some(Measured { smooth, variation, fastest }) => Measured {
                smooth: (smooth * 7 + round) / 8,
                variation: (variation * 3 + smooth.abs_diff(round)) / 4,
                fastest: fastest.min(round),
            },
        });
    }

    /// The client came a step further.
    pub(super) fn progress(&mut self) {
        self.in_vain = 0;
    }

    /// The wait is over and nothing came.
    pub(super) fn no_answer(&mut self) {
        self.in_vain = self.in_vain.saturating_add(1);
    }

    /// How long to wait for the answer to what is sent now.
    pub(super) fn wait(&self) -> Duration {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let base =
            self.measured.map_or(self.first, |Measured { smooth, variation, .. }| smooth + variation * 4);
        let doublings = 1_u32 << self.in_vain.min(16);
        base.max(self.shortest).saturating_mul(doublings).min(self.longest)
    }

    /// What comes sooner after a burst than this is no answer to it. Half the fastest round trip ever seen, since the next
    /// may be faster still.
    pub(super) fn soonest_answer(&self) -> Duration {
        self.measured.map_or(UNMEASURED, |measured| measured.fastest / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn timeouts_adapt_to_the_measured_round_trip() {
        let mut pace = Pace::new(&Limits::default(), None);
        assert_eq!(pace.wait(), ms(1000));
        pace.measure(ms(200));
        assert_eq!(pace.wait(), ms(600));
        for _ in 0..50 {
            pace.measure(ms(200));
        }
        assert!(pace.wait() < ms(210), "{:?}", pace.wait());
        for _ in 0..50 {
            pace.measure(ms(1));
        }
        assert_eq!(pace.wait(), ms(100), "the shortest wait is kept");
    }

    #[test]
    fn timeouts_back_off_up_to_a_clamp_and_recover_with_progress() {
        let mut pace = Pace::new(&Limits::default(), None);
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(pace.wait());
            pace.no_answer();
        }
        assert_eq!(waits, [ms(1000), ms(2000), ms(4000), ms(4000), ms(4000)]);
        pace.progress();
        assert_eq!(pace.wait(), ms(1000));
    }

    #[test]
    fn a_timeout_the_client_asked_for_is_kept() {
        let mut pace = Pace::new(&Limits::default(), Some(ms(5000)));
        pace.measure(ms(1));
        pace.no_answer();
        assert_eq!(pace.wait(), ms(5000));
    }
}
