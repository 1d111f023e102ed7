//! [`NodePower`]: a node's power state, recorded and inferred.
//!
//! The *recorded* state is Ironic's `power_state`: set by the provision verbs, and by clients that switch the machine.
//! The *inferred* state comes from the machine: a machine that sends a boot request is on. The two are kept apart. The
//! inferred state is shown, and decides nothing: otherwise a machine that keeps trying to boot from a wrong volume
//! target would prevent the correction of the target.
//!
//! A node with a BMC has no inferred state: its recorded state is what the BMC says.

use jiff::Timestamp;
use serde::Serialize;

use super::{Node, PowerState, ProvisionState};

/// A node's power state, recorded and inferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NodePower {
    /// The recorded state.
    pub recorded: Option<PowerState>,
    /// When it was recorded; `None` if a version wrote it that kept no time.
    pub recorded_at: Option<Timestamp>,
    /// The inferred state, unless a later record has superseded it.
    pub inferred: Option<PowerState>,
    /// The time of the boot request from which it was inferred.
    pub inferred_at: Option<Timestamp>,
}

impl NodePower {
    /// The states of a node, whose machine last sent a boot request at this time. The time counts only if the neighbour
    /// table showed one of the node's cards.
    pub fn new(node: &Node, requested_boot_at: Option<Timestamp>) -> Self {
        let is_newer = |at: &Timestamp| node.power_recorded_at.is_none_or(|recorded| *at > recorded);
        let inferred_at = requested_boot_at.filter(is_newer).filter(|_| !node.has_bmc());
        Self {
            recorded: node.recorded_power_state(),
            recorded_at: node.power_recorded_at,
            inferred: inferred_at.map(|_| PowerState::On),
            inferred_at,
        }
    }
}

impl Node {
    /// The recorded power state; `None` until the first provision verb, unless a client has set it.
    ///
    /// Earlier versions recorded no state at a provision verb. For their nodes it follows from the provision state. The
    /// state of a node with a BMC is what the BMC said last.
    pub fn recorded_power_state(&self) -> Option<PowerState> {
        let had_verb = self.provision_updated_at.is_some() && !self.has_bmc();
        self.power_state.or_else(|| had_verb.then(|| self.provision_state.implied_power_state()).flatten())
    }

    /// Records a power state.
    #[must_use]
    pub fn with_power_state(self, state: PowerState, now: Timestamp) -> Self {
        Self { power_state: Some(state), power_recorded_at: Some(now), ..self }
    }
}

impl ProvisionState {
    /// The power state of a node that a provision verb has left in this state; `None` before the verb `manage`.
    const fn implied_power_state(self) -> Option<PowerState> {
        match self {
            Self::Enroll | Self::Verifying => None,
            Self::Active => Some(PowerState::On),
            _ => Some(PowerState::Off),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::StorageInterface;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).expect("a time")
    }

    fn node(state: ProvisionState) -> Node {
        let node = Node::new(Uuid::nil(), "fake-hardware", StorageInterface::External, at(0));
        Node { provision_state: state, ..node }
    }

    #[test]
    fn a_node_without_a_record_has_the_power_state_of_its_last_verb() {
        use ProvisionState::{Active, Available, Enroll, Error, Manageable};
        for (state, power) in [
            (Enroll, None),
            (Manageable, Some(PowerState::Off)),
            (Available, Some(PowerState::Off)),
            (Active, Some(PowerState::On)),
            (Error, Some(PowerState::Off)),
        ] {
            let untouched = node(state);
            assert_eq!(untouched.recorded_power_state(), None, "{state:?} before any verb");
            let node = Node { provision_updated_at: Some(at(1)), ..untouched };
            assert_eq!(node.recorded_power_state(), power, "{state:?}");
            let recorded = node.with_power_state(PowerState::Off, at(2));
            assert_eq!(recorded.recorded_power_state(), Some(PowerState::Off), "{state:?} with a record");
        }
    }

    #[test]
    fn the_state_of_a_node_with_a_bmc_is_what_the_bmc_said() {
        let node = Node { driver: "redfish".into(), ..node(ProvisionState::Active) };
        let after_verb = Node { provision_updated_at: Some(at(1)), ..node };
        assert_eq!(after_verb.recorded_power_state(), None);
        assert_eq!(NodePower::new(&after_verb, Some(at(9))).inferred, None);
        let off = after_verb.with_power_state(PowerState::Off, at(2));
        let power = NodePower::new(&off, Some(at(9)));
        assert_eq!((power.recorded, power.inferred), (Some(PowerState::Off), None));
    }

    #[test]
    fn a_boot_request_infers_a_machine_that_is_on_until_the_next_record() {
        let node = node(ProvisionState::Active);
        assert_eq!(NodePower::new(&node, None).inferred, None);
        assert_eq!(NodePower::new(&node, Some(at(1))).inferred, Some(PowerState::On), "no time on record");
        let off = node.with_power_state(PowerState::Off, at(5));
        let earlier = NodePower::new(&off, Some(at(4)));
        assert_eq!(
            (earlier.recorded, earlier.inferred, earlier.inferred_at),
            (Some(PowerState::Off), None, None)
        );
        let later = NodePower::new(&off, Some(at(6)));
        assert_eq!((later.recorded, later.inferred), (Some(PowerState::Off), Some(PowerState::On)));
        assert_eq!((later.recorded_at, later.inferred_at), (Some(at(5)), Some(at(6))));
    }
}
