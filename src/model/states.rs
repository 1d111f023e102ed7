//! The states Ironic gives a node: what has been done with it, and whether it is powered.

use serde::{Deserialize, Serialize};

/// Ironic's provision states up to API 1.33 (`ironic/common/states.py`).
///
/// Serialised under Ironic's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(
    missing_docs,
    reason = "the names are Ironic's; the table of transitions is where they are explained"
)]
pub enum ProvisionState {
    #[serde(rename = "enroll")]
    Enroll,
    #[serde(rename = "verifying")]
    Verifying,
    #[serde(rename = "manageable")]
    Manageable,
    #[serde(rename = "available")]
    Available,
    #[serde(rename = "active")]
    Active,
    #[serde(rename = "deploying")]
    Deploying,
    #[serde(rename = "wait call-back")]
    DeployWait,
    #[serde(rename = "deploy failed")]
    DeployFailed,
    #[serde(rename = "deploy complete")]
    DeployDone,
    #[serde(rename = "deleting")]
    Deleting,
    #[serde(rename = "deleted")]
    Deleted,
    #[serde(rename = "cleaning")]
    Cleaning,
    #[serde(rename = "clean wait")]
    CleanWait,
    #[serde(rename = "clean failed")]
    CleanFailed,
    #[serde(rename = "error")]
    Error,
    #[serde(rename = "rebuild")]
    Rebuild,
    #[serde(rename = "inspecting")]
    Inspecting,
    #[serde(rename = "inspect failed")]
    InspectFailed,
    #[serde(rename = "adopting")]
    Adopting,
    #[serde(rename = "adopt failed")]
    AdoptFailed,
}

impl ProvisionState {
    /// Every state, in the order of a node's life.
    pub const ALL: [Self; 20] = [
        Self::Enroll,
        Self::Verifying,
        Self::Manageable,
        Self::Available,
        Self::Active,
        Self::Deploying,
        Self::DeployWait,
        Self::DeployFailed,
        Self::DeployDone,
        Self::Deleting,
        Self::Deleted,
        Self::Cleaning,
        Self::CleanWait,
        Self::CleanFailed,
        Self::Error,
        Self::Rebuild,
        Self::Inspecting,
        Self::InspectFailed,
        Self::Adopting,
        Self::AdoptFailed,
    ];

    /// Ironic's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enroll => "enroll",
            Self::Verifying => "verifying",
            Self::Manageable => "manageable",
            Self::Available => "available",
            Self::Active => "active",
            Self::Deploying => "deploying",
            Self::DeployWait => "wait call-back",
            Self::DeployFailed => "deploy failed",
            Self::DeployDone => "deploy complete",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Cleaning => "cleaning",
            Self::CleanWait => "clean wait",
            Self::CleanFailed => "clean failed",
            Self::Error => "error",
            Self::Rebuild => "rebuild",
            Self::Inspecting => "inspecting",
            Self::InspectFailed => "inspect failed",
            Self::Adopting => "adopting",
            Self::AdoptFailed => "adopt failed",
        }
    }

    /// Whether a machine in this state may be given its volumes.
    ///
    /// Not while they are being taken away, nor where something went wrong and nobody has looked: a machine that
    /// boots then would write to a volume that may be somebody else's by now.
    pub const fn may_boot(self) -> bool {
        !matches!(
            self,
            Self::Deleting
                | Self::Deleted
                | Self::Cleaning
                | Self::CleanWait
                | Self::CleanFailed
                | Self::Error
        )
    }
}

/// Whether a machine is on. volboot records it and switches nothing: its machines are switched by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PowerState {
    /// `power on`
    #[serde(rename = "power on")]
    On,
    /// `power off`
    #[serde(rename = "power off")]
    Off,
}

impl PowerState {
    /// Ironic's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "power on",
            Self::Off => "power off",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_stored_under_the_name_it_is_shown_by() {
        for state in ProvisionState::ALL {
            assert_eq!(serde_json::to_value(state).expect("a name"), state.as_str());
        }
        for state in [PowerState::On, PowerState::Off] {
            assert_eq!(serde_json::to_value(state).expect("a name"), state.as_str());
        }
    }
}
