//! The decision about a boot that has ended: did it fail, and is the fallback due? Pure: facts in, judgement out.
//!
//! A wrong *yes* swaps the disk of a healthy machine; a wrong *no* costs one more failed boot. So a boot counts as failed only
//! if everything is known about it, and any doubt sets the count to 0.

use std::time::Duration;

use crate::model::WatchedStage;

/// A machine that restarts by itself, by a watchdog or after a panic, does so within this time. A longer boot was in use, even
/// if its `up` report never arrived.
const LONGEST_FAILED_BOOT: Duration = Duration::from_secs(60 * 60);

/// With a shorter `fallback_min_uptime`, machines are not asked whether they answer: the answer to a request of the firmware
/// would still count.
const SHORTEST_WITH_CHECK: Duration = Duration::from_secs(120);

/// `[boot] fallback_after` and `fallback_min_uptime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FallbackPolicy {
    /// The failed boots in a row after which the next boot is from the fallback.
    pub after: u32,
    /// The time without an `up` report after which a boot counts as failed.
    pub min_uptime: Duration,
}

impl Default for FallbackPolicy {
    fn default() -> Self {
        Self { after: 3, min_uptime: Duration::from_secs(5 * 60) }
    }
}

impl FallbackPolicy {
    /// The time after a script at which its machine is asked whether it answers on the network, if there is time for that.
    pub(super) fn presence_delay(self) -> Option<Duration> {
        (self.min_uptime >= SHORTEST_WITH_CHECK).then(|| self.min_uptime * 4 / 5)
    }
}

/// The facts about a boot whose machine begins its next boot session now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndedBoot<'a> {
    pub(super) stage: WatchedStage,
    /// Why the boot cannot count, as noted while it was watched.
    pub(super) doubt: Option<&'a str>,
    /// The time since its script, or since that of an earlier boot that ended too soon, by this instance's own clock; `None`:
    /// this instance has not seen the script.
    pub(super) elapsed: Option<Duration>,
    /// The time since its own script, by the same clock.
    pub(super) own_elapsed: Option<Duration>,
    /// Whether the instances of that script, and no others, are alive in the same sessions.
    pub(super) same_instances: bool,
    /// Whether the node's boot volume is still the same.
    pub(super) same_volume: bool,
    /// Whether it is known that no operating system ran.
    pub(super) is_down: bool,
}

/// The result of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BootJudgement<'a> {
    /// The operating system reported `up`.
    Up,
    /// It did not, although it had the time for it.
    Failed,
    /// It did not, but had little time: the time goes on with the next boot.
    Early,
    /// Something is not known.
    Unknown(&'a str),
}

/// Judges a boot that has ended.
pub(super) fn judge<'a>(boot: &EndedBoot<'a>, policy: FallbackPolicy) -> BootJudgement<'a> {
    if boot.stage == WatchedStage::Up {
        return BootJudgement::Up;
    }
    if let Some(doubt) = boot.doubt {
        return BootJudgement::Unknown(doubt);
    }
    if !boot.same_volume {
        return BootJudgement::Unknown("the boot volume was changed");
    }
    if !boot.same_instances {
        return BootJudgement::Unknown("an instance of volboot was not up all the time");
    }
    match boot.stage {
        WatchedStage::Begun => return BootJudgement::Unknown("the machine got no boot script"),
        WatchedStage::HandedOut => {
            return BootJudgement::Unknown("the machine did not report its volumes hooked");
        }
        WatchedStage::Hooked | WatchedStage::Up => {}
    }
    let (Some(elapsed), Some(own)) = (boot.elapsed, boot.own_elapsed) else {
        return BootJudgement::Unknown("this instance of volboot did not see the boot begin");
    };
    if own > LONGEST_FAILED_BOOT.max(2 * policy.min_uptime) {
        return BootJudgement::Unknown("the machine ran longer than one that restarts by itself");
    }
    if elapsed < policy.min_uptime {
        return BootJudgement::Early;
    }
    if own >= policy.min_uptime && policy.presence_delay().is_some() && !boot.is_down {
        return BootJudgement::Unknown(
            "its system may have been up: the machine was not seen silent on the network",
        );
    }
    BootJudgement::Failed
}

/// The count of failed boots after a boot.
pub(super) fn count(before: u32, result: BootJudgement<'_>) -> u32 {
    match result {
        BootJudgement::Failed => before.saturating_add(1),
        BootJudgement::Early => before,
        BootJudgement::Up | BootJudgement::Unknown(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: FallbackPolicy = FallbackPolicy { after: 3, min_uptime: Duration::from_secs(300) };

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_boot_fails_only_if_everything_is_known() {
        let failed = EndedBoot {
            stage: WatchedStage::Hooked,
            doubt: None,
            elapsed: Some(secs(300)),
            own_elapsed: Some(secs(300)),
            same_instances: true,
            same_volume: true,
            is_down: true,
        };
        let unknown = BootJudgement::Unknown;
        for (boot, expected) in [
            (failed, BootJudgement::Failed),
            (
                EndedBoot { elapsed: Some(secs(299)), own_elapsed: Some(secs(299)), ..failed },
                BootJudgement::Early,
            ),
            // The third quick restart: the time without `up` counts from the first.
            (
                EndedBoot { elapsed: Some(secs(310)), own_elapsed: Some(secs(40)), ..failed },
                BootJudgement::Failed,
            ),
            (EndedBoot { stage: WatchedStage::Up, ..failed }, BootJudgement::Up),
            (EndedBoot { stage: WatchedStage::Up, doubt: Some("x"), ..failed }, BootJudgement::Up),
            (EndedBoot { stage: WatchedStage::Begun, ..failed }, unknown("the machine got no boot script")),
            (
                EndedBoot { stage: WatchedStage::HandedOut, ..failed },
                unknown("the machine did not report its volumes hooked"),
            ),
            (
                EndedBoot { doubt: Some("volboot switched the machine"), ..failed },
                unknown("volboot switched the machine"),
            ),
            (
                EndedBoot { same_instances: false, ..failed },
                unknown("an instance of volboot was not up all the time"),
            ),
            (EndedBoot { same_volume: false, ..failed }, unknown("the boot volume was changed")),
            (
                EndedBoot { is_down: false, ..failed },
                unknown("its system may have been up: the machine was not seen silent on the network"),
            ),
            // There was no time to ask: a machine that restarts again and again within minutes.
            (EndedBoot { own_elapsed: Some(secs(299)), is_down: false, ..failed }, BootJudgement::Failed),
            (
                EndedBoot { elapsed: None, ..failed },
                unknown("this instance of volboot did not see the boot begin"),
            ),
            (
                EndedBoot { own_elapsed: None, ..failed },
                unknown("this instance of volboot did not see the boot begin"),
            ),
            (
                EndedBoot { elapsed: Some(secs(3600)), own_elapsed: Some(secs(3600)), ..failed },
                BootJudgement::Failed,
            ),
            (
                EndedBoot { elapsed: Some(secs(3601)), own_elapsed: Some(secs(3601)), ..failed },
                unknown("the machine ran longer than one that restarts by itself"),
            ),
        ] {
            assert_eq!(judge(&boot, POLICY), expected, "{boot:?}");
        }
    }

    #[test]
    fn only_failed_boots_in_a_row_add_up() {
        for (before, result, after) in [
            (0, BootJudgement::Failed, 1),
            (2, BootJudgement::Failed, 3),
            (2, BootJudgement::Early, 2),
            (2, BootJudgement::Up, 0),
            (2, BootJudgement::Unknown("x"), 0),
            (u32::MAX, BootJudgement::Failed, u32::MAX),
        ] {
            assert_eq!(count(before, result), after, "{before} {result:?}");
        }
    }

    #[test]
    fn a_long_min_uptime_does_not_rule_failures_out() {
        let policy = FallbackPolicy { min_uptime: Duration::from_secs(7200), ..POLICY };
        let boot = EndedBoot {
            stage: WatchedStage::Hooked,
            doubt: None,
            elapsed: Some(secs(7300)),
            own_elapsed: Some(secs(7300)),
            same_instances: true,
            same_volume: true,
            is_down: true,
        };
        assert_eq!(judge(&boot, policy), BootJudgement::Failed);
    }
}
