//! [`AnswerLimiter`]: limits the answers in a period, of each machine and in total.
//!
//! A machine needs about five answers for a boot. The total is far above what ten thousand machines need that are switched
//! on at once; above it, a flood of forged requests would become a flood of broadcasts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Limits are counted anew after this time.
const PERIOD: Duration = Duration::from_secs(10);
/// Answers of one machine in a period.
pub(super) const ANSWERS_PER_MACHINE: u32 = 16;
/// Answers in a period, and so the largest number of machines in the table.
pub(super) const MAX_ANSWERS: u32 = 40_000;

/// The answers of the current period.
#[derive(Debug)]
pub(super) struct AnswerLimiter {
    period_start: Instant,
    total: u32,
    by_machine: HashMap<[u8; 6], u32>,
}

impl AnswerLimiter {
    pub(super) fn new(now: Instant) -> Self {
        Self { period_start: now, total: 0, by_machine: HashMap::new() }
    }

    /// Counts an answer; false if a limit is reached.
    pub(super) fn admit(&mut self, machine: [u8; 6], now: Instant) -> bool {
        if now.saturating_duration_since(self.period_start) >= PERIOD {
            self.period_start = now;
            self.total = 0;
            self.by_machine.clear();
        }
        if self.total >= MAX_ANSWERS {
            return false;
        }
        let answers = self.by_machine.entry(machine).or_default();
        let is_admitted = *answers < ANSWERS_PER_MACHINE;
        if is_admitted {
            *answers += 1;
            self.total += 1;
        }
        is_admitted
    }

    /// Machines in the table.
    #[cfg(test)]
    pub(super) fn machine_count(&self) -> usize {
        self.by_machine.len()
    }
}
