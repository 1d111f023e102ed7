//! Provision verbs: from which state each leads where. Pure, so that every row of the table is a test.
//!
//! Ironic has states in between (`verifying`, `deploying`, `cleaning` …), in which its conductors work on the
//! machine. Here is nothing to be done to a machine, so a verb leads to its end at once, and a client that polls
//! finds state and target changed together.

use super::fault::Fault;
use super::version::Version;
use crate::model::{Node, ProvisionState};

/// What a client can ask to be done with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Manage,
    Provide,
    Active,
    Rebuild,
    Deleted,
    Adopt,
    /// Known to Ironic at these versions, but nothing here can do it.
    Inspect,
    Clean,
    Abort,
}

impl Verb {
    /// The verb of a name, if it is one in this version.
    pub(super) fn named(name: &str, version: Version) -> Result<Option<Self>, Fault> {
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
            // Later than the last version served.
            "rescue" | "unrescue" => (None, 38),
            "deploy" | "undeploy" => (None, 73),
            "unhold" => (None, 85),
            "service" => (None, 87),
            _ => return Ok(None),
        };
        if version < Version(since) { Err(Fault::too_new()) } else { Ok(verb) }
    }

    /// The state in which a node ends by this verb; `None` if it cannot be asked for in the state it is in.
    pub(super) const fn leads(self, from: ProvisionState) -> Option<ProvisionState> {
        use ProvisionState::{
            Active, AdoptFailed, Available, CleanFailed, DeployFailed, DeployWait, Enroll, Error,
            InspectFailed, Manageable,
        };
        match (self, from) {
            (Self::Manage, Enroll | Available | CleanFailed | InspectFailed | AdoptFailed)
            | (Self::Inspect | Self::Clean, Manageable) => Some(Manageable),
            (Self::Provide, Manageable) | (Self::Deleted, Active | DeployFailed | DeployWait | Error) => {
                Some(Available)
            }
            (Self::Active, Available | DeployFailed)
            | (Self::Rebuild, Active | DeployFailed | Error)
            | (Self::Adopt, Manageable | AdoptFailed) => Some(Active),
            _ => None,
        }
    }

    /// Whether the machine is given its volumes by it.
    pub(super) const fn deploys(self) -> bool {
        matches!(self, Self::Active | Self::Rebuild)
    }
}

/// The state to which a request leads, or why it does not.
pub(super) fn end(node: &Node, name: &str, version: Version) -> Result<(Verb, ProvisionState), Fault> {
    let wrong_state = || Fault::wrong_state(name, node.uuid, node.provision_state.as_str());
    let verb = Verb::named(name, version)?.ok_or_else(wrong_state)?;
    if verb.deploys() && node.maintenance {
        return Err(Fault::Invalid(format!(
            "The provisioning operation can't be performed on node {} because it's in maintenance mode.",
            node.uuid
        )));
    }
    Ok((verb, verb.leads(node.provision_state).ok_or_else(wrong_state)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_is_taken_in_these_states_and_leads_there() {
        for (verb, from, to) in [
            (Verb::Manage, "enroll, available, clean failed, inspect failed, adopt failed", "manageable"),
            (Verb::Provide, "manageable", "available"),
            (Verb::Active, "available, deploy failed", "active"),
            (Verb::Rebuild, "active, deploy failed, error", "active"),
            (Verb::Deleted, "active, wait call-back, deploy failed, error", "available"),
            (Verb::Adopt, "manageable, adopt failed", "active"),
            (Verb::Inspect, "manageable", "manageable"),
            (Verb::Clean, "manageable", "manageable"),
            (Verb::Abort, "", ""),
        ] {
            let taken: Vec<_> =
                ProvisionState::ALL.into_iter().filter(|from| verb.leads(*from).is_some()).collect();
            let names: Vec<_> = taken.iter().map(|state| state.as_str()).collect();
            assert_eq!(names.join(", "), from, "{verb:?}");
            assert!(
                taken.iter().all(|from| verb.leads(*from).is_some_and(|end| end.as_str() == to)),
                "{verb:?}"
            );
        }
    }

    #[test]
    fn a_verb_is_there_from_its_version_on() {
        assert_eq!(Verb::named("active", Version::MIN), Ok(Some(Verb::Active)));
        assert_eq!(Verb::named("manage", Version(3)), Err(Fault::too_new()));
        assert_eq!(Verb::named("manage", Version(4)), Ok(Some(Verb::Manage)));
        assert_eq!(Verb::named("deploy", Version::MAX), Err(Fault::too_new()));
        assert_eq!(Verb::named("nonsense", Version::MAX), Ok(None));
    }
}
