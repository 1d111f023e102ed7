//! Retransmission time-out (RTO) from the measured round-trip time.
//!
//! Implements RFC 6298: smoothed round-trip time (§2), exponential back-off (§5.5), no samples from retransmissions
//! (Karn's algorithm, §3; the caller sees to that). Unlike TCP, the initial RTO and the bounds are configured, and a
//! client's `timeout` option (RFC 2349) replaces the estimate.
//!
//! Invariant: without that option, an RTO is never below [`TransferLimits::min_rto`], so a slow response does not
//! count as lost.

use std::time::Duration;

use super::TransferLimits;

/// Lower bound of a response time before the first sample. A duplicated request leaves the first round trip
/// unmeasured. Without a bound, every further duplicate would trigger another retransmission of the window,
/// endlessly.
const UNMEASURED_RESPONSE_TIME: Duration = Duration::from_millis(1);

/// Round-trip estimator and back-off of one transfer.
#[derive(Debug)]
pub(super) struct RttEstimator {
    /// The client's `timeout` option.
    client_timeout: Option<Duration>,
    initial_rto: Duration,
    min_rto: Duration,
    max_rto: Duration,
    estimate: Option<RttEstimate>,
    /// Time-outs since the last progress.
    timeouts: u32,
}

/// SRTT and RTTVAR of RFC 6298, and the smallest sample.
#[derive(Debug, Clone, Copy)]
struct RttEstimate {
    smoothed: Duration,
    variation: Duration,
    min: Duration,
}

impl RttEstimator {
    pub(super) fn new(limits: &TransferLimits, client_timeout: Option<Duration>) -> Self {
        Self {
            client_timeout,
            initial_rto: limits.initial_rto,
            min_rto: limits.min_rto,
            max_rto: limits.max_rto,
            estimate: None,
            timeouts: 0,
        }
    }

    /// Adds a sample. <https://www.rfc-editor.org/rfc/rfc6298#section-2>
    pub(super) fn update(&mut self, rtt: Duration) {
        self.estimate = Some(match self.estimate {
            None => RttEstimate { smoothed: rtt, variation: rtt / 2, min: rtt },
            Some(RttEstimate { smoothed, variation, min }) => RttEstimate {
                smoothed: (smoothed * 7 + rtt) / 8,
                variation: (variation * 3 + smoothed.abs_diff(rtt)) / 4,
                min: min.min(rtt),
            },
        });
    }

    /// Ends the back-off after progress.
    pub(super) fn reset_back_off(&mut self) {
        self.timeouts = 0;
    }

    /// Doubles the RTO after a time-out.
    pub(super) fn back_off(&mut self) {
        self.timeouts = self.timeouts.saturating_add(1);
    }

    /// The time-out for the burst that is sent now.
    pub(super) fn rto(&self) -> Duration {
        if let Some(timeout) = self.client_timeout {
            return timeout;
        }
        let base = self
            .estimate
            .map_or(self.initial_rto, |RttEstimate { smoothed, variation, .. }| smoothed + variation * 4);
        self.with_back_off(base.max(self.min_rto)).min(self.max_rto)
    }

    /// The time-out before any response. It has no upper bound: the request may be forged.
    pub(super) fn unanswered_rto(&self) -> Duration {
        self.client_timeout.unwrap_or_else(|| self.with_back_off(self.initial_rto))
    }

    fn with_back_off(&self, rto: Duration) -> Duration {
        rto.saturating_mul(1_u32 << self.timeouts.min(16))
    }

    /// A packet that arrives sooner than this after a burst is no response to it. Half the smallest sample, since the
    /// next round trip may be faster.
    pub(super) fn min_response_time(&self) -> Duration {
        self.estimate.map_or(UNMEASURED_RESPONSE_TIME, |estimate| estimate.min / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_rto_adapts_to_the_measured_round_trip() {
        let mut rtt = RttEstimator::new(&TransferLimits::default(), None);
        assert_eq!(rtt.rto(), ms(1000));
        rtt.update(ms(200));
        assert_eq!(rtt.rto(), ms(600));
        for _ in 0..50 {
            rtt.update(ms(200));
        }
        assert!(rtt.rto() < ms(210), "{:?}", rtt.rto());
        for _ in 0..50 {
            rtt.update(ms(1));
        }
        assert_eq!(rtt.rto(), ms(100), "the lower bound");
    }

    #[test]
    fn the_rto_backs_off_up_to_a_bound_and_recovers_with_progress() {
        let mut rtt = RttEstimator::new(&TransferLimits::default(), None);
        let mut rtos = Vec::new();
        for _ in 0..5 {
            rtos.push(rtt.rto());
            rtt.back_off();
        }
        assert_eq!(rtos, [ms(1000), ms(2000), ms(4000), ms(4000), ms(4000)]);
        rtt.reset_back_off();
        assert_eq!(rtt.rto(), ms(1000));
    }

    #[test]
    fn the_client_timeout_replaces_the_estimate() {
        let mut rtt = RttEstimator::new(&TransferLimits::default(), Some(ms(5000)));
        rtt.update(ms(1));
        rtt.back_off();
        assert_eq!(rtt.rto(), ms(5000));
    }
}
