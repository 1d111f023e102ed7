//! [`BootResult`]: what became of a boot, for statistics.

use serde::Serialize;

use super::boot_state::BootState;

/// The result of a boot session of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BootResult {
    /// The operating system reported `up`.
    Up,
    /// The volumes are hooked, and no error followed.
    HandedOver,
    /// The machine was sent to its local disk.
    LocalDisk,
    /// The boot did not complete, or another one began before it did.
    Failed,
    /// The boot has not ended yet.
    Open,
}

impl BootResult {
    /// All results.
    pub const ALL: [Self; 5] = [Self::Up, Self::HandedOver, Self::LocalDisk, Self::Failed, Self::Open];

    /// Label for JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::HandedOver => "handed_over",
            Self::LocalDisk => "local_disk",
            Self::Failed => "failed",
            Self::Open => "open",
        }
    }

    /// The result of the session that a machine is in.
    pub(super) fn of_current(state: BootState) -> Self {
        match state {
            BootState::Booted => Self::Up,
            BootState::HandedOver => Self::HandedOver,
            BootState::LocalDisk => Self::LocalDisk,
            BootState::Stopped | BootState::Looping | BootState::Unknown => Self::Failed,
            BootState::Booting | BootState::Waiting | BootState::Hooked | BootState::Retrying => Self::Open,
        }
    }

    /// The result of a session after which another one has begun.
    pub(super) fn of_ended(state: BootState) -> Self {
        match Self::of_current(state) {
            Self::Open => Self::Failed,
            result => result,
        }
    }
}
