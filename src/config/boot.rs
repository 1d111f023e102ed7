//! `[boot]`: the answers to boot requests.

use std::time::Duration;

use super::read::Section;

/// `[boot]`: the answers to boot requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootConfig {
    /// `unknown`: the action of a machine that has no node, after the message.
    pub unknown: FailureAction,
    /// `refused`: the action of a machine whose node may not or cannot boot.
    pub refused: FailureAction,
    /// `tries`: the number of boot attempts before a machine gives up.
    pub tries: u32,
    /// `when_cinder_is_away`: the answer while Cinder is unavailable.
    pub when_cinder_is_away: OutagePolicy,
    /// `last_known_max_age`: the maximum age of a last known connection.
    pub last_known_max_age: Duration,
}

/// The answer to a boot request while Cinder is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutagePolicy {
    /// The last known connection, if its record shows the volume as still attached.
    LastKnown,
    /// The machine waits until Cinder answers.
    Wait,
}

/// The action of a machine that does not boot, after its console has shown the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureAction {
    /// Exit to the next boot device of the firmware.
    Exit,
    /// Send another boot request after a delay.
    Retry,
    /// Open iPXE's command line.
    Shell,
}

const FAILURE_ACTIONS: [(&str, FailureAction); 3] =
    [("exit", FailureAction::Exit), ("retry", FailureAction::Retry), ("shell", FailureAction::Shell)];

impl BootConfig {
    pub(super) fn from_section(section: &mut Section) -> Self {
        Self {
            unknown: section.choice("unknown", FailureAction::Exit, &FAILURE_ACTIONS),
            refused: section.choice("refused", FailureAction::Exit, &FAILURE_ACTIONS),
            tries: section.number("tries", 10, 1..=1000),
            when_cinder_is_away: section.choice(
                "when_cinder_is_away",
                OutagePolicy::LastKnown,
                &[("last-known", OutagePolicy::LastKnown), ("wait", OutagePolicy::Wait)],
            ),
            last_known_max_age: section.duration("last_known_max_age", Duration::from_secs(24 * 60 * 60)),
        }
    }
}
