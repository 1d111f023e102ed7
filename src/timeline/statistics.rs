//! [`BootStatistics`]: the ended boots of nodes by result, and their times until *up*, in steps of five minutes.
//!
//! A boot counts at the start of its session. An ended boot is counted once, when the machine's next one begins; the
//! last boot of each machine is judged when the numbers are read. So the cost is bounded by the machines, not by their
//! boots, and a week takes at most 2017 steps.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::boot_result::BootResult;
use super::boot_state::{BootState, Verdict};
use super::milestones::BootMilestones;
use super::progress::BootProgress;
use super::storm::BootStorm;

/// The length of a step in seconds.
const STEP_SECONDS: i64 = 300;
/// How long steps are kept: a week, and one step.
const KEPT_STEPS: i64 = 7 * 24 * 3600 / STEP_SECONDS + 1;

/// The ends of all classes of [`UpTimes`].
static CLASS_ENDS_MS: LazyLock<Vec<u64>> =
    LazyLock::new(|| (0..=u8::MAX).map(|class| UpTimes::position_ms(f64::from(class) + 0.5)).collect());

/// The ended boots of all nodes.
#[derive(Debug, Default)]
pub(super) struct BootStatistics {
    steps: BTreeMap<i64, StatisticsStep>,
}

/// The boots that began within one step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StatisticsStep {
    /// By the index of [`BootResult::ALL`].
    results: [u32; 5],
    #[serde(default, skip_serializing_if = "UpTimes::is_empty")]
    up_times: UpTimes,
}

/// Times until *up* as a histogram with logarithmic classes: any of them is known to 2.2 %.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct UpTimes {
    classes: BTreeMap<u8, u32>,
    /// Times that were measured from the power-on by volboot.
    #[serde(default)]
    from_power_on: u32,
}

/// One boot, for the statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CountedBoot {
    started_at: Timestamp,
    result: BootResult,
    milestones: BootMilestones,
}

/// The boots of all nodes within a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootSummary {
    /// The number of boots with each result.
    pub results: BTreeMap<BootResult, u64>,
    /// The times until *up*.
    pub up: UpSummary,
}

/// The times until *up* within a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UpSummary {
    /// The boots that reported *up*.
    pub boots: u64,
    /// The boots measured from the power-on by volboot. All others are measured from the first sign of the boot.
    pub from_power_on: u64,
    /// The median in milliseconds.
    pub p50_ms: Option<u64>,
    /// The 95th percentile in milliseconds.
    pub p95_ms: Option<u64>,
}

/// The boots of all nodes, past and present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootOverview {
    /// The boots within the last hour, day and week.
    #[serde(flatten)]
    pub windows: BootWindows,
    /// The boots that are under way, or have just ended.
    pub now: BootStorm,
}

/// The boots of all nodes within the last hour, day and week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootWindows {
    /// The last hour.
    pub hour: BootSummary,
    /// The last 24 hours.
    pub day: BootSummary,
    /// The last seven days.
    pub week: BootSummary,
}

impl CountedBoot {
    /// The session that ends at `now`, because the machine's next one begins.
    pub(super) fn ended(progress: &BootProgress, now: Timestamp) -> Self {
        let result = BootResult::of_ended(Verdict::new(progress, now).state);
        Self { started_at: progress.journey_started_at, result, milestones: progress.milestones }
    }

    /// The session that a machine is in, with the state of its verdict.
    pub(super) fn current(progress: &BootProgress, state: BootState) -> Self {
        let result = BootResult::of_current(state);
        Self { started_at: progress.journey_started_at, result, milestones: progress.milestones }
    }
}

impl StatisticsStep {
    fn add(&mut self, boot: &CountedBoot) {
        self.results[boot.result as usize] += 1;
        if let (BootResult::Up, Some((milliseconds, from_power_on))) =
            (boot.result, boot.milestones.up_after_ms())
        {
            *self.up_times.classes.entry(UpTimes::class(milliseconds)).or_default() += 1;
            self.up_times.from_power_on += u32::from(from_power_on);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (sum, count) in self.results.iter_mut().zip(other.results) {
            *sum += count;
        }
        for (class, count) in &other.up_times.classes {
            *self.up_times.classes.entry(*class).or_default() += count;
        }
        self.up_times.from_power_on += other.up_times.from_power_on;
    }

    fn summarize(&self) -> BootSummary {
        let results = BootResult::ALL.into_iter().zip(self.results.map(u64::from)).collect();
        BootSummary { results, up: self.up_times.summarize() }
    }
}

impl UpTimes {
    /// Classes per doubling.
    const CLASSES: f64 = 16.0;
    /// The middle of the first class.
    const FIRST_SECONDS: f64 = 0.25;

    fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The class of a time; shorter and longer times are in the first and the last class.
    fn class(milliseconds: u32) -> u8 {
        let class = CLASS_ENDS_MS.partition_point(|end| *end < u64::from(milliseconds));
        u8::try_from(class).unwrap_or(u8::MAX)
    }

    /// The middle of a class in milliseconds.
    fn middle_ms(class: u8) -> u64 {
        Self::position_ms(f64::from(class))
    }

    /// The milliseconds at a position on the scale of classes.
    fn position_ms(position: f64) -> u64 {
        Duration::from_secs_f64(Self::FIRST_SECONDS * (position / Self::CLASSES).exp2()).as_millis() as u64
    }

    fn summarize(&self) -> UpSummary {
        let boots: u64 = self.classes.values().map(|count| u64::from(*count)).sum();
        let percentile = |percent: u64| {
            let rank = (boots * percent).div_ceil(100);
            let mut seen = 0;
            let class = self.classes.iter().find(|(_, count)| {
                seen += u64::from(**count);
                seen >= rank
            });
            class.map(|(class, _)| Self::middle_ms(*class))
        };
        UpSummary {
            boots,
            from_power_on: u64::from(self.from_power_on),
            p50_ms: percentile(50),
            p95_ms: percentile(95),
        }
    }
}

impl BootStatistics {
    /// Counts an ended boot. Returns the number of its step, which has to be written.
    pub(super) fn count(&mut self, boot: &CountedBoot) -> i64 {
        let number = step_number(boot.started_at);
        self.steps.entry(number).or_default().add(boot);
        number
    }

    /// Restores a step from the history file.
    pub(super) fn restore(&mut self, number: i64, step: StatisticsStep) {
        self.steps.insert(number, step);
    }

    /// Drops the steps that are too old. Returns their numbers.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<i64> {
        let kept = self.steps.split_off(&(step_number(now) - KEPT_STEPS));
        let expired = std::mem::replace(&mut self.steps, kept);
        expired.into_keys().collect()
    }

    /// A step by its number.
    pub(super) fn step(&self, number: i64) -> Option<&StatisticsStep> {
        self.steps.get(&number)
    }

    /// All steps with their numbers.
    pub(super) fn steps(&self) -> impl Iterator<Item = (i64, &StatisticsStep)> {
        self.steps.iter().map(|(number, step)| (*number, step))
    }

    /// The ended boots and the `current` ones within the last hour, day and week.
    pub(super) fn summarize(&self, current: &[CountedBoot], now: Timestamp) -> BootWindows {
        let within = |hours: i64| {
            let start = now - SignedDuration::from_hours(hours);
            // The step in which the time began counts in whole.
            let (first, last) = (step_number(start), step_number(now));
            let mut sum = StatisticsStep::default();
            self.steps.range(first..=last).for_each(|(_, step)| sum.merge(step));
            let is_within = |boot: &&CountedBoot| (first..=last).contains(&step_number(boot.started_at));
            current.iter().filter(is_within).for_each(|boot| sum.add(boot));
            sum.summarize()
        };
        BootWindows { hour: within(1), day: within(24), week: within(7 * 24) }
    }
}

fn step_number(at: Timestamp) -> i64 {
    at.as_second().div_euclid(STEP_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
    }

    fn boot(
        seconds_ago: i64,
        result: BootResult,
        up_ms: Option<u32>,
        power_on_ms: Option<u32>,
    ) -> CountedBoot {
        let milestones =
            BootMilestones { up: up_ms, powered_on_before: power_on_ms, ..BootMilestones::default() };
        CountedBoot { started_at: at(-seconds_ago), result, milestones }
    }

    #[test]
    fn boots_count_in_the_windows_in_which_they_began() {
        let mut statistics = BootStatistics::default();
        for (hours, boots) in [(0, 3), (5, 2), (48, 1), (24 * 8, 1)] {
            for _ in 0..boots {
                statistics.count(&boot(hours * 3600 + 60, BootResult::Failed, None, None));
            }
        }
        let current = [boot(30, BootResult::Open, None, None), boot(7200, BootResult::Up, Some(1000), None)];
        let windows = statistics.summarize(&current, at(0));
        let count = |summary: &BootSummary| BootResult::ALL.map(|result| summary.results[&result]);
        assert_eq!(count(&windows.hour), [0, 0, 0, 3, 1]);
        assert_eq!(count(&windows.day), [1, 0, 0, 5, 1]);
        assert_eq!(count(&windows.week), [1, 0, 0, 6, 1]);
        let expired = statistics.expire(at(0));
        assert_eq!(expired, [step_number(at(-24 * 8 * 3600 - 60))]);
        assert_eq!(count(&statistics.summarize(&current, at(0)).week), [1, 0, 0, 6, 1]);
    }

    #[test]
    fn percentiles_are_known_to_a_few_percent() {
        let mut statistics = BootStatistics::default();
        for second in 1..=100 {
            statistics.count(&boot(60, BootResult::Up, Some(second * 1000), None));
        }
        let up = statistics.summarize(&[], at(0)).hour.up;
        let close = |value: Option<u64>, expected: f64| {
            let value = u32::try_from(value.expect("a value")).expect("a short time");
            (f64::from(value) / expected - 1.0).abs() < 0.025
        };
        assert_eq!((up.boots, up.from_power_on), (100, 0));
        assert!(close(up.p50_ms, 50_000.0) && close(up.p95_ms, 95_000.0), "{up:?}");
        for milliseconds in [0, 1, 250, 5_000, 3_600_000, u32::MAX] {
            let middle = UpTimes::middle_ms(UpTimes::class(milliseconds));
            let expected = f64::from(milliseconds).clamp(250.0, 15_700_000.0);
            assert!(close(Some(middle), expected), "{milliseconds}: {middle}");
        }
    }

    #[test]
    fn the_time_until_up_counts_from_the_power_on_if_volboot_switched_the_machine_on() {
        let mut statistics = BootStatistics::default();
        statistics.count(&boot(60, BootResult::Up, Some(10_000), Some(30_000)));
        let up = statistics.summarize(&[], at(0)).hour.up;
        assert_eq!((up.boots, up.from_power_on), (1, 1));
        assert!((39_000..41_000).contains(&up.p50_ms.expect("a value")), "{up:?}");
    }
}
