//! The provision verbs of a client's request, at its microversion. [`Verb`] has their rules.

use super::fault::Fault;
use super::version::Microversion;
use crate::model::{Node, ProvisionState};
use crate::operator::Verb;

/// Parses a verb; `None` for an unknown name.
fn parse_verb(name: &str, version: Microversion) -> Result<Option<Verb>, Fault> {
    let (verb, since) = match name {
        "active" => (Some(Verb::Active), 1),
        "rebuild" => (Some(Verb::Rebuild), 1),
        "deleted" => (Some(Verb::Deleted), 1),
        "manage" => (Some(Verb::Manage), 4),
        "provide" => (Some(Verb::Provide), 4),
        "inspect" => (Some(Verb::Inspect), 6),
        "abort" => (Some(Verb::Abort), 13),
        "clean" => (Some(Verb::Clean), 15),
        "adopt" => (Some(Verb::Adopt), 17),
        "rescue" => (Some(Verb::Rescue), 38),
        "unrescue" => (Some(Verb::Unrescue), 38),
        // Newer than the last supported microversion.
        "deploy" | "undeploy" => (None, 73),
        "unhold" => (None, 85),
        "service" => (None, 87),
        _ => return Ok(None),
    };
    let since = Microversion(since);
    if version < since { Err(Fault::needs_version(since)) } else { Ok(verb) }
}

/// The first microversion that can abort an inspection.
const INSPECTION_ABORT: Microversion = Microversion(41);

/// Resolves a request to its verb, or returns the fault.
pub(super) fn resolve_verb(node: &Node, name: &str, version: Microversion) -> Result<Verb, Fault> {
    let wrong_state = || Fault::wrong_state(name, node.uuid, node.provision_state.as_str());
    let verb = parse_verb(name, version)?.ok_or_else(wrong_state)?;
    verb.check(node, name)?;
    let aborts_inspection = verb == Verb::Abort && node.provision_state == ProvisionState::InspectWait;
    if aborts_inspection && version < INSPECTION_ABORT {
        return Err(Fault::needs_version(INSPECTION_ABORT));
    }
    Ok(verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_exists_from_its_microversion() {
        assert_eq!(parse_verb("active", Microversion::MIN), Ok(Some(Verb::Active)));
        assert_eq!(parse_verb("manage", Microversion(3)), Err(Fault::needs_version(Microversion(4))));
        assert_eq!(parse_verb("manage", Microversion(4)), Ok(Some(Verb::Manage)));
        assert_eq!(parse_verb("deploy", Microversion::MAX), Err(Fault::needs_version(Microversion(73))));
        assert_eq!(parse_verb("unknown", Microversion::MAX), Ok(None));
    }
}
