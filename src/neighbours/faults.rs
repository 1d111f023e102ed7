//! [`FaultPacer`]: errors of the kernel's tables are logged at most once a second. Requests of strangers cause the checks.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const INTERVAL: Duration = Duration::from_secs(1);

/// Paces the log lines, and counts the suppressed ones.
#[derive(Debug, Default)]
pub(super) struct FaultPacer(Mutex<PacerState>);

#[derive(Debug, Default)]
struct PacerState {
    last_line: Option<Instant>,
    suppressed: u64,
}

impl FaultPacer {
    /// Whether an error is logged now: with the number of errors that were suppressed before. `None` suppresses the
    /// error.
    pub(super) fn check(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.last_line.is_some_and(|at| now.duration_since(at) < INTERVAL) {
            state.suppressed += 1;
            return None;
        }
        state.last_line = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_flood_are_one_line_a_second() {
        let (pacer, start) = (FaultPacer::default(), Instant::now());
        let lines = (0..5000).filter_map(|number| pacer.check(start + Duration::from_millis(number)));
        assert_eq!(lines.collect::<Vec<_>>(), [0, 999, 999, 999, 999]);
    }
}
