//! [`ReportNote`]: what a report says about the boot that is being watched.

use crate::model::{BootStep, WatchedBoot, WatchedStage};
use crate::telemetry::errno::{self, VolumeFault};

/// What a report says about a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ReportNote {
    /// The volumes are hooked.
    Hooked,
    /// Nothing on the volume started, or the storage went away. If the machine hooks the volume again, the storage is
    /// there, and the volume's content is the cause.
    Unbootable,
    /// The table for the operating system did not fit; the next try describes less.
    Retried,
    /// The boot cannot count as failed.
    Doubt(&'static str),
    /// The operating system is up.
    Up,
}

impl ReportNote {
    /// The meaning of a report that was taken.
    pub(super) fn of_report(step: Option<&BootStep>, rc: Option<&str>) -> Self {
        match step {
            Some(BootStep::Hooked) if rc.is_none() => Self::Hooked,
            Some(BootStep::Up) if rc.is_none() => Self::Up,
            Some(BootStep::Hook(_)) if rc.and_then(errno::find_ibft_fault).is_some() => Self::Retried,
            Some(BootStep::Hook(_)) => Self::Doubt("the machine could not connect to a volume"),
            Some(BootStep::Boot) => match rc.and_then(errno::find_volume_fault) {
                Some(VolumeFault::NoBootCode | VolumeFault::NoLoader) => Self::Unbootable,
                None => Self::Doubt("iPXE could not start the volume, and it is unclear why"),
            },
            Some(BootStep::Hooked | BootStep::Up | BootStep::Other(_)) | None => {
                Self::Doubt("the machine sent a report that volboot does not know")
            }
        }
    }

    /// Applies the note to a watched boot.
    pub(super) fn apply(self, boot: &mut WatchedBoot) {
        match self {
            Self::Up => boot.stage = WatchedStage::Up,
            _ if boot.stage == WatchedStage::Up => {}
            Self::Hooked if boot.stage >= WatchedStage::HandedOut => {
                boot.stage = WatchedStage::Hooked;
                boot.hooks = boot.hooks.saturating_add(1);
            }
            Self::Unbootable => {
                boot.is_down = true;
                if boot.hooks < 2 {
                    boot.stage = boot.stage.min(WatchedStage::HandedOut);
                }
            }
            Self::Hooked | Self::Retried => {}
            Self::Doubt(reason) => drop(boot.doubt.get_or_insert_with(|| reason.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(stage: WatchedStage) -> WatchedBoot {
        let hooks = u32::from(stage == WatchedStage::Hooked);
        WatchedBoot { stage, hooks, ..WatchedBoot::begin("a", "v") }
    }

    #[test]
    fn a_failure_counts_only_if_the_volume_s_content_is_the_cause() {
        use BootStep::{Boot, Hook, Hooked, Other, Up};
        let doubt = |note| matches!(note, ReportNote::Doubt(_));
        for (step, rc, expected) in [
            (Hooked, None, Some(ReportNote::Hooked)),
            (Up, None, Some(ReportNote::Up)),
            // No boot code (BIOS), no loader (UEFI).
            (Boot, Some("0x1d852039"), Some(ReportNote::Unbootable)),
            (Boot, Some("0x7f22208e"), Some(ReportNote::Unbootable)),
            // The storage went away; a number that means nothing here; none.
            (Boot, Some("0x4c0a6035"), None),
            (Boot, Some("0x12345678"), None),
            (Boot, None, None),
            (Hook(0), Some("0x4c0a6035"), None),
            (Hook(0), Some("0x34852039"), Some(ReportNote::Retried)),
            (Hooked, Some("0x1"), None),
            (Up, Some("0x1"), None),
            (Other("frobnicate".into()), None, None),
        ] {
            let note = ReportNote::of_report(Some(&step), rc);
            assert!(expected.map_or(doubt(note), |expected| note == expected), "{step} {rc:?}: {note:?}");
        }
        assert!(doubt(ReportNote::of_report(None, None)));
    }

    #[test]
    fn notes_move_a_boot_forward_only() {
        for (stage, note, expected, is_doubtful) in [
            (WatchedStage::HandedOut, ReportNote::Hooked, WatchedStage::Hooked, false),
            (WatchedStage::Begun, ReportNote::Hooked, WatchedStage::Begun, false),
            (WatchedStage::Begun, ReportNote::Up, WatchedStage::Up, false),
            (WatchedStage::Up, ReportNote::Hooked, WatchedStage::Up, false),
            (WatchedStage::Up, ReportNote::Doubt("x"), WatchedStage::Up, false),
            (WatchedStage::Hooked, ReportNote::Unbootable, WatchedStage::HandedOut, false),
            (WatchedStage::Hooked, ReportNote::Doubt("x"), WatchedStage::Hooked, true),
        ] {
            let mut boot = boot(stage);
            note.apply(&mut boot);
            assert_eq!((boot.stage, boot.doubt.is_some()), (expected, is_doubtful), "{stage:?} {note:?}");
        }
    }

    #[test]
    fn a_volume_that_does_not_start_counts_once_it_was_hooked_again() {
        let mut boot = boot(WatchedStage::HandedOut);
        for expected in [WatchedStage::HandedOut, WatchedStage::Hooked, WatchedStage::Hooked] {
            ReportNote::Hooked.apply(&mut boot);
            assert_eq!(boot.stage, WatchedStage::Hooked);
            ReportNote::Unbootable.apply(&mut boot);
            assert_eq!(boot.stage, expected);
        }
    }
}
