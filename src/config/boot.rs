//! `[boot]`: the answers to boot requests.

use std::time::Duration;

use super::read::Section;
use crate::model::BootWindowPolicy;

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
    /// `preflight`: what is tried before a boot script is sent.
    pub preflight: PreflightMode,
    /// `last_known_max_age`: the maximum age of a last known connection.
    pub last_known_max_age: Duration,
    /// `fallback_after`: the failed boots in a row after which a node boots from its fallback.
    pub fallback_after: u32,
    /// `fallback_min_uptime`: the time without an `up` report after which a boot counts as failed.
    pub fallback_min_uptime: Duration,
    /// `window`: how long a machine with a BMC gets boot scripts after volboot switched it on; `None`: at any time.
    pub window: Option<Duration>,
    /// `window_reboot`: whether such a machine may boot once more after each report of *up*.
    pub window_reboot: bool,
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

/// What is tried before a boot script is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PreflightMode {
    /// Nothing.
    Off,
    /// Connections to the portals of volumes with several paths.
    #[default]
    Portals,
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
            preflight: section.choice(
                "preflight",
                PreflightMode::Portals,
                &[("off", PreflightMode::Off), ("portals", PreflightMode::Portals)],
            ),
            last_known_max_age: section.duration("last_known_max_age", Duration::from_secs(24 * 60 * 60)),
            fallback_after: section.number("fallback_after", 3, 1..=100),
            fallback_min_uptime: section.duration("fallback_min_uptime", Duration::from_secs(5 * 60)),
            window: section.duration_or_off("window"),
            window_reboot: section.flag("window_reboot", false),
        }
    }

    /// `window` and `window_reboot` as a policy.
    pub fn window_policy(&self) -> Option<BootWindowPolicy> {
        self.window.map(|duration| BootWindowPolicy { duration, reboot: self.window_reboot })
    }
}
