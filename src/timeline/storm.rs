//! [`BootStorm`]: how far the machines are that boot now, for a storm as it runs.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::boot_stage::BootStage;
use super::boot_state::BootState;
use super::progress::BootProgress;

/// How long a boot that has ended belongs to the storm.
const WINDOW: SignedDuration = SignedDuration::from_mins(15);

/// The nodes whose boot is under way, and those whose boot began within the last quarter of an hour and has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BootStorm {
    /// The boot request was answered with `wait`.
    pub waiting: usize,
    /// `/boot.ipxe` was read: the boot request is on its way or being answered.
    pub resolving: usize,
    /// All other boots that are under way.
    pub booting: usize,
    /// Up, handed over, or sent to the local disk.
    pub up: usize,
    /// Stopped, or in a boot loop.
    pub failed: usize,
}

impl BootStorm {
    /// Adds a node's boot, which is in this state.
    pub(super) fn add(&mut self, progress: &BootProgress, state: BootState, now: Timestamp) {
        let is_recent = now.duration_since(progress.journey_started_at) < WINDOW;
        let count = match state {
            BootState::Waiting => &mut self.waiting,
            BootState::Booting if progress.stage == BootStage::SessionStarted => &mut self.resolving,
            BootState::Booting | BootState::Retrying | BootState::Hooked => &mut self.booting,
            BootState::HandedOver | BootState::Booted | BootState::LocalDisk if is_recent => &mut self.up,
            BootState::Stopped | BootState::Looping | BootState::Unknown if is_recent => &mut self.failed,
            _ => return,
        };
        *count += 1;
    }

    /// The boots that are under way.
    pub const fn under_way(&self) -> usize {
        self.waiting + self.resolving + self.booting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Event, EventKind};

    #[test]
    fn each_boot_counts_once_and_leaves_after_a_quarter_of_an_hour() {
        let start = Timestamp::from_second(1_800_000_000).expect("a time");
        let progress = BootProgress::new(&Event::new(start, None, None, EventKind::SessionStarted));
        let mut storm = BootStorm::default();
        let soon = start + SignedDuration::from_mins(14);
        for state in BootState::ALL {
            storm.add(&progress, state, soon);
        }
        let expected = BootStorm { waiting: 1, resolving: 1, booting: 2, up: 3, failed: 3 };
        assert_eq!((storm, storm.under_way()), (expected, 4));
        let mut later = BootStorm::default();
        for state in BootState::ALL {
            later.add(&progress, state, start + WINDOW);
        }
        assert_eq!(later, BootStorm { up: 0, failed: 0, ..expected });
    }
}
