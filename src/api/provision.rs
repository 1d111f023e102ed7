//! The provision state machine: the transitions of each verb. Pure, so that every row of the table is a test.
//!
//! Ironic has transient states (`verifying`, `deploying`, `cleaning` …) while its conductors work on the machine.
//! Without a BMC, volboot does nothing to the machine, so a verb leads to its end state at once. A polling client sees state
//! and target change together. With a BMC, the verbs of [`ProvisionTask`](crate::operator::ProvisionTask) take time.

use super::fault::Fault;
use super::protection::check_unprotected;
use super::version::Microversion;
use crate::model::{Node, PowerState, ProvisionState};

/// A provision verb, the target of a client's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Manage,
    Provide,
    Active,
    Rebuild,
    Deleted,
    Adopt,
    /// Ends an operation of another service that the node waits for.
    Abort,
    /// These exist in Ironic at these microversions, but no driver here supports them.
    Inspect,
    Clean,
    Rescue,
    Unrescue,
}

impl Verb {
    /// Parses a verb; `None` for an unknown name.
    pub(super) fn parse(name: &str, version: Microversion) -> Result<Option<Self>, Fault> {
        let (verb, since) = match name {
            "active" => (Some(Self::Active), 1),
            "rebuild" => (Some(Self::Rebuild), 1),
            "deleted" => (Some(Self::Deleted), 1),
            "manage" => (Some(Self::Manage), 4),
            "provide" => (Some(Self::Provide), 4),
            "inspect" => (Some(Self::Inspect), 6),
            "abort" => (Some(Self::Abort), 13),
            "clean" => (Some(Self::Clean), 15),
            "adopt" => (Some(Self::Adopt), 17),
            "rescue" => (Some(Self::Rescue), 38),
            "unrescue" => (Some(Self::Unrescue), 38),
            // Newer than the last supported microversion.
            "deploy" | "undeploy" => (None, 73),
            "unhold" => (None, 85),
            "service" => (None, 87),
            _ => return Ok(None),
        };
        let since = Microversion(since);
        if version < since { Err(Fault::needs_version(since)) } else { Ok(verb) }
    }

    /// The end state of the verb; `None` if the verb is invalid in the state `from`.
    pub(super) const fn end_state(self, from: ProvisionState) -> Option<ProvisionState> {
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
    pub(super) const fn last_error(self, from: ProvisionState) -> Option<&'static str> {
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
    pub(super) fn power_state(self, recorded: Option<PowerState>) -> Option<PowerState> {
        match self {
            Self::Active | Self::Rebuild | Self::Adopt => Some(PowerState::On),
            Self::Deleted => Some(PowerState::Off),
            _ => recorded.is_none().then_some(PowerState::Off),
        }
    }

    /// Whether the verb deploys the node's volumes.
    pub(super) const fn deploys(self) -> bool {
        matches!(self, Self::Active | Self::Rebuild)
    }
}

/// The first microversion that can abort an inspection.
const INSPECTION_ABORT: Microversion = Microversion(41);

/// Resolves a request to its verb and end state, or returns the fault.
pub(super) fn resolve_verb(
    node: &Node,
    name: &str,
    version: Microversion,
) -> Result<(Verb, ProvisionState), Fault> {
    let wrong_state = || Fault::wrong_state(name, node.uuid, node.provision_state.as_str());
    let verb = Verb::parse(name, version)?.ok_or_else(wrong_state)?;
    let in_maintenance = |operation: &str| {
        let node = node.uuid;
        let text = format!(
            "The {operation} operation can't be performed on node {node} because it's in maintenance mode."
        );
        Err(Fault::Invalid(text))
    };
    if verb.deploys() && node.maintenance {
        return in_maintenance("provisioning");
    }
    let end = verb.end_state(node.provision_state).ok_or_else(wrong_state)?;
    match verb {
        Verb::Rebuild | Verb::Deleted => check_unprotected(node).map(|()| (verb, end)),
        Verb::Abort if node.provision_state == ProvisionState::InspectWait && version < INSPECTION_ABORT => {
            Err(Fault::needs_version(INSPECTION_ABORT))
        }
        Verb::Rescue if node.maintenance => in_maintenance("rescuing"),
        Verb::Unrescue if node.maintenance => in_maintenance("unrescuing"),
        _ => Ok((verb, end)),
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

    #[test]
    fn a_verb_exists_from_its_microversion() {
        assert_eq!(Verb::parse("active", Microversion::MIN), Ok(Some(Verb::Active)));
        assert_eq!(Verb::parse("manage", Microversion(3)), Err(Fault::needs_version(Microversion(4))));
        assert_eq!(Verb::parse("manage", Microversion(4)), Ok(Some(Verb::Manage)));
        assert_eq!(Verb::parse("deploy", Microversion::MAX), Err(Fault::needs_version(Microversion(73))));
        assert_eq!(Verb::parse("unknown", Microversion::MAX), Ok(None));
    }
}
