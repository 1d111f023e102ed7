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
    /// `when_store_is_away`: the answer while the shared store does not respond.
    pub when_store_is_away: StoreOutagePolicy,
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

/// The answer to a boot request while the shared store does not respond.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StoreOutagePolicy {
    /// The last known connection, if Cinder confirms it, and the machine's card hooked it at its last boot.
    #[default]
    Verify,
    /// The machine waits until the store responds.
    Wait,
    /// The last known records also count while Cinder cannot confirm them.
    LastKnown,
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
            when_store_is_away: section.choice(
                "when_store_is_away",
                StoreOutagePolicy::Verify,
                &[
                    ("verify", StoreOutagePolicy::Verify),
                    ("wait", StoreOutagePolicy::Wait),
                    ("last-known", StoreOutagePolicy::LastKnown),
                ],
            ),
            last_known_max_age: section.duration("last_known_max_age", Duration::from_secs(24 * 60 * 60)),
        }
    }
}
