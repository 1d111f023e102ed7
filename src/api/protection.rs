//! Protected nodes (1.48): when a node may become protected, and what becomes of the reason.

use super::fault::Fault;
use crate::model::{Node, ProvisionState};

/// Checks a change of the protection, and removes the reason with the protection (Ironic's conductor, `update_node`).
pub(super) fn settle_protection(old: &Node, new: Node) -> Result<Node, Fault> {
    if old.protected && !new.protected {
        return Ok(Node { protected_reason: None, ..new });
    }
    let has_instance = matches!(new.provision_state, ProvisionState::Active | ProvisionState::Rescue);
    if new.protected && !old.protected && !has_instance {
        return Err(Fault::Conflict(format!(
            "Node {} can only be made protected in provision states 'active' or 'rescue', the current state is '{}'",
            new.uuid,
            new.provision_state.as_str()
        )));
    }
    if !new.protected && new.protected_reason.as_ref().is_some_and(|reason| !reason.is_empty()) {
        return Err(Fault::Invalid(
            "The protected_reason field can only be set when protected is True".into(),
        ));
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::model::StorageInterface;
    use crate::operator::check_unprotected;

    fn node(state: ProvisionState, protected: bool, reason: Option<&str>) -> Node {
        Node {
            provision_state: state,
            protected,
            protected_reason: reason.map(str::to_owned),
            ..Node::new(Uuid::nil(), "fake-hardware", StorageInterface::Noop, Timestamp::UNIX_EPOCH)
        }
    }

    #[test]
    fn only_a_node_with_an_instance_becomes_protected() {
        for state in ProvisionState::ALL {
            let settled = settle_protection(&node(state, false, None), node(state, true, Some("why")));
            let expected = matches!(state, ProvisionState::Active | ProvisionState::Rescue);
            assert_eq!(settled.is_ok(), expected, "{state:?}");
            // A protected node may change in any state, and lose its protection.
            settle_protection(&node(state, true, None), node(state, true, Some("why"))).expect("a change");
            settle_protection(&node(state, true, None), node(state, false, None)).expect("a change");
        }
    }

    #[test]
    fn the_reason_goes_with_the_protection() {
        let state = ProvisionState::Active;
        let (free, protected) = (node(state, false, None), node(state, true, Some("why")));
        assert_eq!(settle_protection(&protected, node(state, false, Some("why"))), Ok(free.clone()));
        assert_eq!(settle_protection(&free, protected.clone()), Ok(protected.clone()));
        assert!(settle_protection(&free, node(state, false, Some("why"))).is_err());
        assert!(check_unprotected(&free).is_ok() && check_unprotected(&protected).is_err());
    }
}
