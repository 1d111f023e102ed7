//! Ironic's states of a node: [`ProvisionState`] and [`PowerState`].

use serde::{Deserialize, Serialize};

/// Ironic's provision states up to API 1.39 (`ironic/common/states.py`).
///
/// Serialized under Ironic's names. No driver here rescues or inspects, so no verb leads to such a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are Ironic's; the table of transitions explains them")]
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
    #[serde(rename = "rescuing")]
    Rescuing,
    #[serde(rename = "rescue wait")]
    RescueWait,
    #[serde(rename = "rescue")]
    Rescue,
    #[serde(rename = "rescue failed")]
    RescueFailed,
    #[serde(rename = "unrescuing")]
    Unrescuing,
    #[serde(rename = "unrescue failed")]
    UnrescueFailed,
    #[serde(rename = "rebuild")]
    Rebuild,
    #[serde(rename = "inspecting")]
    Inspecting,
    #[serde(rename = "inspect wait")]
    InspectWait,
    #[serde(rename = "inspect failed")]
    InspectFailed,
    #[serde(rename = "adopting")]
    Adopting,
    #[serde(rename = "adopt failed")]
    AdoptFailed,
}

impl ProvisionState {
    /// All states, in the order of a node's life cycle.
    pub const ALL: [Self; 27] = [
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
        Self::Rescuing,
        Self::RescueWait,
        Self::Rescue,
        Self::RescueFailed,
        Self::Unrescuing,
        Self::UnrescueFailed,
        Self::Rebuild,
        Self::Inspecting,
        Self::InspectWait,
        Self::InspectFailed,
        Self::Adopting,
        Self::AdoptFailed,
    ];

    /// Ironic's name for the state.
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
            Self::Rescuing => "rescuing",
            Self::RescueWait => "rescue wait",
            Self::Rescue => "rescue",
            Self::RescueFailed => "rescue failed",
            Self::Unrescuing => "unrescuing",
            Self::UnrescueFailed => "unrescue failed",
            Self::Rebuild => "rebuild",
            Self::Inspecting => "inspecting",
            Self::InspectWait => "inspect wait",
            Self::InspectFailed => "inspect failed",
            Self::Adopting => "adopting",
            Self::AdoptFailed => "adopt failed",
        }
    }

    /// Whether a conductor works on a node in this state. Ironic locks the node meanwhile.
    pub const fn is_locked(self) -> bool {
        matches!(
            self,
            Self::Verifying
                | Self::Deploying
                | Self::Deleting
                | Self::Cleaning
                | Self::Rescuing
                | Self::Unrescuing
                | Self::Inspecting
                | Self::Adopting
        )
    }

    /// Whether a node in this state may boot from its volumes.
    ///
    /// Refused while the node loses its volumes, and after a failure until an operator has intervened. A boot then
    /// could write to a volume that belongs to another node by now.
    pub const fn is_bootable(self) -> bool {
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

/// A machine's power state.
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
    /// Ironic's name for the state.
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
    fn serializes_a_state_under_its_ironic_name() {
        for state in ProvisionState::ALL {
            assert_eq!(serde_json::to_value(state).expect("a name"), state.as_str());
        }
        for state in [PowerState::On, PowerState::Off] {
            assert_eq!(serde_json::to_value(state).expect("a name"), state.as_str());
        }
    }
}
