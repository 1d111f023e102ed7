//! [`Verb`]: the provision state machine: the transitions of each verb. Pure, so that every row of the table is a test.
//!
//! Ironic has transient states (`verifying`, `deploying`, `cleaning` …) while its conductors work on the machine.
//! Without a BMC, volboot does nothing to the machine, so a verb leads to its end state at once. A polling client sees state
//! and target change together. With a BMC, the verbs of [`ProvisionTask`](super::ProvisionTask) take time.

use super::refusal::{OperationRefusal, check_unprotected};
use crate::model::{Node, PowerState, ProvisionState};

/// A provision verb, the target of a client's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Verifies an enrolled node, or takes an available one out of use.
    Manage,
    /// Makes a node available.
    Provide,
    /// Deploys a node.
    Active,
    /// Deploys a node again.
    Rebuild,
    /// Undeploys a node.
    Deleted,
    /// Takes over a machine that runs already.
    Adopt,
    /// Ends an operation of another service that the node waits for.
    Abort,
    /// Exists in Ironic; no driver here supports it.
    Inspect,
    /// Exists in Ironic; no driver here supports it.
    Clean,
    /// Exists in Ironic; no driver here supports it.
    Rescue,
    /// Exists in Ironic; no driver here supports it.
    Unrescue,
}

impl Verb {
    /// The end state of the verb; `None` if the verb is invalid in the state `from`.
    pub const fn end_state(self, from: ProvisionState) -> Option<ProvisionState> {
        use ProvisionState::{
            Active, AdoptFailed, Available, CleanFailed, CleanWait, DeployFailed, DeployWait, Enroll, Error,
            InspectFailed, InspectWait, Manageable, Rescue, RescueFailed, RescueWait, UnrescueFailed,
        };
        match (self, from) {
            (Self::Manage, Enroll | Available | CleanFailed | InspectFailed | AdoptFailed)
            | (Self::Inspect | Self::Clean, Manageable) => Some(Manageable),
            (Self::Provide, Manageable)
            | (
                Self::Deleted,
                Active | DeployFailed | DeployWait | Error | Rescue | RescueFailed | RescueWait
                | UnrescueFailed,
            ) => Some(Available),
            (Self::Active, Available | DeployFailed)
            | (Self::Rebuild, Active | DeployFailed | Error)
            | (Self::Adopt, Manageable | AdoptFailed)
            | (Self::Unrescue, Rescue | RescueFailed | UnrescueFailed) => Some(Active),
            (Self::Rescue, Active | Rescue | RescueFailed | UnrescueFailed) => Some(Rescue),
            (Self::Abort, CleanWait) => Some(CleanFailed),
            (Self::Abort, InspectWait) => Some(InspectFailed),
            (Self::Abort, RescueWait) => Some(RescueFailed),
            _ => None,
        }
    }

    /// The error that the verb leaves in a node that was in the state `from`, with Ironic's texts.
    pub const fn last_error(self, from: ProvisionState) -> Option<&'static str> {
        match (self, from) {
            (Self::Abort, ProvisionState::CleanWait) => Some("By request, the clean operation was aborted"),
            (Self::Abort, ProvisionState::InspectWait) => Some("Inspection was aborted by request."),
            (Self::Abort, ProvisionState::RescueWait) => {
                Some("By request, the rescue operation was aborted.")
            }
            _ => None,
        }
    }

    /// The power state that the verb records; `None` if it keeps the recorded one.
    ///
    /// Ironic's conductors switch the machine on at the end of a deployment, and off at its undeployment. Without a BMC,
    /// operators do both. Clients wait for the state that Ironic would show.
    pub fn power_state(self, recorded: Option<PowerState>) -> Option<PowerState> {
        match self {
            Self::Active | Self::Rebuild | Self::Adopt => Some(PowerState::On),
            Self::Deleted => Some(PowerState::Off),
            _ => recorded.is_none().then_some(PowerState::Off),
        }
    }

    /// Whether the verb deploys the node's volumes.
    pub const fn deploys(self) -> bool {
        matches!(self, Self::Active | Self::Rebuild)
    }

    /// Checks that a node allows the verb, and returns its end state. `name` is the verb as the client sent it.
    pub fn check(self, node: &Node, name: &str) -> Result<ProvisionState, OperationRefusal> {
        let in_maintenance = |operation: &str| {
            let node = node.uuid;
            let text = format!(
                "The {operation} operation can't be performed on node {node} because it's in maintenance mode."
            );
            Err(OperationRefusal::Invalid(text))
        };
        if self.deploys() && node.maintenance {
            return in_maintenance("provisioning");
        }
        let state = node.provision_state;
        let end = self
            .end_state(state)
            .ok_or_else(|| OperationRefusal::wrong_state(name, node.uuid, state.as_str()))?;
        match self {
            Self::Rebuild | Self::Deleted => check_unprotected(node).map(|()| end),
            Self::Rescue if node.maintenance => in_maintenance("rescuing"),
            Self::Unrescue if node.maintenance => in_maintenance("unrescuing"),
            _ => Ok(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_has_its_start_states_and_end_state() {
        for (verb, from, to) in [
            (Verb::Manage, "enroll, available, clean failed, inspect failed, adopt failed", "manageable"),
            (Verb::Provide, "manageable", "available"),
            (Verb::Active, "available, deploy failed", "active"),
            (Verb::Rebuild, "active, deploy failed, error", "active"),
            (
                Verb::Deleted,
                "active, wait call-back, deploy failed, error, rescue wait, rescue, rescue failed, unrescue failed",
                "available",
            ),
            (Verb::Adopt, "manageable, adopt failed", "active"),
            (Verb::Inspect, "manageable", "manageable"),
            (Verb::Clean, "manageable", "manageable"),
            (Verb::Rescue, "active, rescue, rescue failed, unrescue failed", "rescue"),
            (Verb::Unrescue, "rescue, rescue failed, unrescue failed", "active"),
        ] {
            let start_states: Vec<_> =
                ProvisionState::ALL.into_iter().filter(|from| verb.end_state(*from).is_some()).collect();
            let names: Vec<_> = start_states.iter().map(|state| state.as_str()).collect();
            assert_eq!(names.join(", "), from, "{verb:?}");
            assert!(
                start_states.iter().all(|from| verb.end_state(*from).is_some_and(|end| end.as_str() == to)),
                "{verb:?}"
            );
        }
    }

    #[test]
    fn each_verb_records_a_power_state() {
        let (on, off) = (Some(PowerState::On), Some(PowerState::Off));
        for (verb, without_record, after_on, after_off) in [
            (Verb::Manage, off, None, None),
            (Verb::Provide, off, None, None),
            (Verb::Active, on, on, on),
            (Verb::Rebuild, on, on, on),
            (Verb::Adopt, on, on, on),
            (Verb::Deleted, off, off, off),
        ] {
            let states = [None, on, off].map(|recorded| verb.power_state(recorded));
            assert_eq!(states, [without_record, after_on, after_off], "{verb:?}");
        }
    }

    #[test]
    fn an_aborted_operation_has_failed() {
        for state in ProvisionState::ALL {
            let end = match state {
                ProvisionState::CleanWait => Some(ProvisionState::CleanFailed),
                ProvisionState::InspectWait => Some(ProvisionState::InspectFailed),
                ProvisionState::RescueWait => Some(ProvisionState::RescueFailed),
                _ => None,
            };
            assert_eq!(Verb::Abort.end_state(state), end, "{state:?}");
            assert_eq!(Verb::Abort.last_error(state).is_some(), end.is_some(), "{state:?}");
            assert_eq!(Verb::Manage.last_error(state), None);
        }
    }
}
