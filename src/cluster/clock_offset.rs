//! [`ClockOffset`]: how far the clock of another instance is ahead, measured by round trips as in NTP (RFC 5905, §8).

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// Samples of which the best counts.
const SAMPLES: usize = 8;
/// Drift between two samples that is no step of a clock.
const TOLERANCE: SignedDuration = SignedDuration::from_millis(20);

/// The measured offset of a clock.
#[derive(Debug, Default, Clone)]
pub(super) struct ClockOffset(VecDeque<Sample>);

#[derive(Debug, Clone, Copy)]
struct Sample {
    offset: SignedDuration,
    error: SignedDuration,
}

/// The four times of one exchange: two by this instance's clock, two by the other's.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockExchange {
    pub(super) requested: Timestamp,
    pub(super) received: Timestamp,
    pub(super) answered: Timestamp,
    pub(super) arrived: Timestamp,
}

impl ClockOffset {
    /// Adds the times of an exchange.
    pub(super) fn add(&mut self, exchange: ClockExchange) {
        let ClockExchange { requested, received, answered, arrived } = exchange;
        let (out, back) = (received.duration_since(requested), answered.duration_since(arrived));
        let round_trip = out - back;
        if round_trip.is_negative() {
            // A clock was set during the exchange.
            return;
        }
        let sample = Sample { offset: (out + back) / 2, error: round_trip / 2 };
        // If both can be true for no offset, a clock was set since.
        self.0.retain(|earlier| {
            (earlier.offset - sample.offset).abs() <= earlier.error + sample.error + TOLERANCE
        });
        if self.0.len() >= SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// How far the other clock is ahead; zero before the first exchange.
    pub(super) fn offset(&self) -> SignedDuration {
        self.0.iter().min_by_key(|sample| sample.error).map_or(SignedDuration::ZERO, |best| best.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An exchange with a clock that is `ahead` ms ahead; the ways take `out` and `back` ms, the answer 2 s.
    fn exchange(ahead: i64, out: i64, back: i64) -> ClockExchange {
        let at = |ms: i64| Timestamp::from_millisecond(1_800_000_000_000 + ms).expect("a time");
        ClockExchange {
            requested: at(0),
            received: at(out + ahead),
            answered: at(out + 2000 + ahead),
            arrived: at(out + 2000 + back),
        }
    }

    #[test]
    fn the_shortest_round_trip_counts() {
        let mut clock = ClockOffset::default();
        assert_eq!(clock.offset(), SignedDuration::ZERO);
        for (out, back) in [(100, 300), (1, 1), (500, 0)] {
            clock.add(exchange(600_000, out, back));
        }
        assert_eq!(clock.offset(), SignedDuration::from_mins(10));
    }

    #[test]
    fn a_clock_that_is_set_counts_at_once() {
        let mut clock = ClockOffset::default();
        (0..20).for_each(|_| clock.add(exchange(-600_000, 1, 1)));
        assert_eq!(clock.offset(), SignedDuration::from_mins(-10));
        clock.add(exchange(5, 3, 3));
        assert_eq!(clock.offset(), SignedDuration::from_millis(5));
        clock.add(exchange(5, -2100, 3));
        assert_eq!(
            clock.offset(),
            SignedDuration::from_millis(5),
            "the own clock was set during the exchange"
        );
    }
}
