//! [`Allocation`]: a client's request for an available node, and the choice of the node.
//!
//! The choice is pure: [`NodeSelection`] looks at each node, and then lists the suitable nodes in the order in which to
//! try them. [`Allocation::reserve`] and [`Node::release_allocation`] are the two changes of a node.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Node, Properties, ProvisionState, TraitName};

/// An allocation. A node that is reserved for an allocation has its UUID as `instance_uuid`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    /// The allocation's identity in the API.
    pub uuid: Uuid,
    /// When the allocation was created.
    pub created_at: Timestamp,
    /// When the allocation ended in success or failure.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    /// The allocation's name; unique among all allocations.
    #[serde(default)]
    pub name: Option<String>,
    /// The required resource class.
    pub resource_class: String,
    /// The required traits.
    #[serde(default)]
    pub traits: Vec<TraitName>,
    /// The nodes to choose from; empty: all nodes.
    #[serde(default)]
    pub candidate_nodes: Vec<Uuid>,
    /// Stored for clients.
    #[serde(default)]
    pub extra: Properties,
    /// The reserved node.
    #[serde(default)]
    pub node_uuid: Option<Uuid>,
    /// The reason of a failure.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// Ironic's states of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllocationState {
    /// `allocating`: without a result.
    Allocating,
    /// `active`: a node is reserved.
    Active,
    /// `error`: no node was suitable.
    Error,
}

impl AllocationState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Allocating, Self::Active, Self::Error];

    /// Ironic's name for the state.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allocating => "allocating",
            Self::Active => "active",
            Self::Error => "error",
        }
    }
}

/// No node can be reserved for an allocation. The texts are Ironic's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocationError {
    /// No node is available and has the resource class.
    #[error("no available nodes match the resource class {0}")]
    NoneAvailable(String),
    /// No candidate node is available and has the resource class.
    #[error("none of the requested nodes are available and match the resource class {0}")]
    NoCandidate(String),
    /// No such node has all traits.
    #[error("no suitable nodes have the requested traits {0}")]
    MissingTraits(String),
    /// Other clients took all suitable nodes in the meantime.
    #[error("all nodes were filtered out during reservation")]
    AllTaken,
    /// A node has the allocation's UUID as its instance already.
    #[error("instance {0} is already associated with a node")]
    InstanceInUse(Uuid),
}

/// Whether a node suits an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suitability {
    /// The node can be reserved.
    Suitable,
    /// The node could be reserved, but lacks a trait.
    LacksTraits,
    /// The node is not available, not a candidate, or of another resource class.
    Excluded,
}

impl Allocation {
    /// An allocation without result, for any node of a resource class.
    pub fn new(uuid: Uuid, resource_class: impl Into<String>, now: Timestamp) -> Self {
        Self {
            uuid,
            created_at: now,
            updated_at: None,
            name: None,
            resource_class: resource_class.into(),
            traits: Vec::new(),
            candidate_nodes: Vec::new(),
            extra: Properties::default(),
            node_uuid: None,
            last_error: None,
        }
    }

    /// The allocation's state.
    pub const fn state(&self) -> AllocationState {
        match (self.node_uuid, &self.last_error) {
            (Some(_), _) => AllocationState::Active,
            (None, Some(_)) => AllocationState::Error,
            (None, None) => AllocationState::Allocating,
        }
    }

    /// Whether a node suits the allocation. A node whose power state is unknown is not available, as in Ironic.
    pub fn assess(&self, node: &Node) -> Suitability {
        let is_available = node.provision_state == ProvisionState::Available
            && !node.maintenance
            && node.instance_uuid.is_none()
            && node.recorded_power_state().is_some();
        let is_candidate = self.candidate_nodes.is_empty() || self.candidate_nodes.contains(&node.uuid);
        if !is_available || !is_candidate || node.resource_class.as_ref() != Some(&self.resource_class) {
            Suitability::Excluded
        } else if self.traits.iter().all(|name| node.traits.contains(name)) {
            Suitability::Suitable
        } else {
            Suitability::LacksTraits
        }
    }

    /// The allocation and the node, after the node was reserved for the allocation.
    pub fn reserve(&self, node: &Node, now: Timestamp) -> (Self, Node) {
        let mut instance_info = node.instance_info.reveal().clone();
        let traits: Vec<_> = self.traits.iter().map(TraitName::as_str).collect();
        instance_info.insert("traits".into(), traits.into());
        let node = Node {
            instance_uuid: Some(self.uuid),
            allocation_uuid: Some(self.uuid),
            instance_info: instance_info.into(),
            updated_at: Some(now),
            ..node.clone()
        };
        (Self { node_uuid: Some(node.uuid), updated_at: Some(now), ..self.clone() }, node)
    }

    /// The allocation after a failure.
    pub fn fail(&self, error: &AllocationError, now: Timestamp) -> Self {
        let last_error = Some(format!("Failed to process allocation {}: {error}.", self.uuid));
        Self { last_error, updated_at: Some(now), ..self.clone() }
    }
}

impl Node {
    /// The node's allocation. A node whose instance was changed has lost its allocation.
    pub fn allocation(&self) -> Option<Uuid> {
        self.allocation_uuid.filter(|allocation| self.instance_uuid == Some(*allocation))
    }

    /// The allocation that ends when the node's record is replaced by `new`, or deleted.
    pub fn ends_allocation(&self, new: Option<&Self>) -> Option<Uuid> {
        self.allocation().filter(|allocation| new.and_then(Self::allocation) != Some(*allocation))
    }

    /// The node after the deletion of its allocation.
    pub fn release_allocation(&self, now: Timestamp) -> Self {
        Self { instance_uuid: None, allocation_uuid: None, updated_at: Some(now), ..self.clone() }
    }
}

/// Collects the nodes that suit an allocation.
#[derive(Debug)]
pub struct NodeSelection<'a> {
    allocation: &'a Allocation,
    suitable: Vec<(Preference, Uuid)>,
    lacks_traits: bool,
}

/// A node's place in the order of attempts. A node with the allocation's name comes first, as in Ironic. The others are
/// in an order that is different for each allocation, so that concurrent allocations try different nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Preference {
    has_other_name: bool,
    distance: u128,
}

impl<'a> NodeSelection<'a> {
    /// A selection without nodes.
    pub const fn new(allocation: &'a Allocation) -> Self {
        Self { allocation, suitable: Vec::new(), lacks_traits: false }
    }

    /// Adds a node if it suits the allocation.
    pub fn consider(&mut self, node: &Node) {
        match self.allocation.assess(node) {
            Suitability::Suitable => {
                let has_other_name = self.allocation.name.is_none() || self.allocation.name != node.name;
                let distance = node.uuid.as_u128() ^ self.allocation.uuid.as_u128();
                self.suitable.push((Preference { has_other_name, distance }, node.uuid));
            }
            Suitability::LacksTraits => self.lacks_traits = true,
            Suitability::Excluded => {}
        }
    }

    /// The suitable nodes, in the order of attempts.
    pub fn finish(mut self) -> Result<Vec<Uuid>, AllocationError> {
        let Allocation { resource_class, traits, candidate_nodes, .. } = self.allocation;
        if !self.suitable.is_empty() {
            self.suitable.sort_unstable();
            Ok(self.suitable.into_iter().map(|(_, node)| node).collect())
        } else if self.lacks_traits {
            let names: Vec<_> = traits.iter().map(TraitName::as_str).collect();
            Err(AllocationError::MissingTraits(names.join(", ")))
        } else if candidate_nodes.is_empty() {
            Err(AllocationError::NoneAvailable(resource_class.clone()))
        } else {
            Err(AllocationError::NoCandidate(resource_class.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PowerState, StorageInterface};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn trait_names(names: &[&str]) -> Vec<TraitName> {
        names.iter().map(|name| name.parse().expect("a trait")).collect()
    }

    /// An available node of class `large` with trait `CUSTOM_A`.
    fn node(n: u128) -> Node {
        Node {
            provision_state: ProvisionState::Available,
            power_state: Some(PowerState::Off),
            resource_class: Some("large".into()),
            traits: trait_names(&["CUSTOM_A"]).into_iter().collect(),
            ..Node::new(id(n), "manual-management", StorageInterface::Cinder, NOW)
        }
    }

    fn allocation(traits: &[&str], candidates: &[u128]) -> Allocation {
        Allocation {
            traits: trait_names(traits),
            candidate_nodes: candidates.iter().map(|n| id(*n)).collect(),
            ..Allocation::new(id(0x10), "large", NOW)
        }
    }

    fn select(allocation: &Allocation, nodes: &[Node]) -> Result<Vec<u128>, String> {
        let mut selection = NodeSelection::new(allocation);
        for node in nodes {
            selection.consider(node);
        }
        let nodes = selection.finish().map_err(|error| error.to_string())?;
        Ok(nodes.into_iter().map(|node| node.as_u128()).collect())
    }

    #[test]
    fn a_suitable_node_is_available_with_class_and_traits() {
        use Suitability::{Excluded, LacksTraits, Suitable};
        let with_a = allocation(&["CUSTOM_A"], &[]);
        let rows = [
            (with_a.clone(), node(1), Suitable),
            (allocation(&[], &[]), node(1), Suitable),
            (allocation(&["CUSTOM_A", "CUSTOM_A"], &[]), node(1), Suitable),
            (allocation(&["CUSTOM_A", "CUSTOM_B"], &[]), node(1), LacksTraits),
            (with_a.clone(), Node { traits: [].into(), ..node(1) }, LacksTraits),
            (allocation(&[], &[2, 1]), node(1), Suitable),
            (allocation(&[], &[2]), node(1), Excluded),
            (allocation(&["CUSTOM_B"], &[2]), node(1), Excluded),
            (with_a.clone(), Node { resource_class: Some("small".into()), ..node(1) }, Excluded),
            (with_a.clone(), Node { resource_class: None, ..node(1) }, Excluded),
            (with_a.clone(), Node { maintenance: true, ..node(1) }, Excluded),
            (with_a.clone(), Node { instance_uuid: Some(id(9)), ..node(1) }, Excluded),
            (with_a.clone(), Node { power_state: None, ..node(1) }, Excluded),
            // The state follows from the provision state, as for a node of an earlier version.
            (
                with_a.clone(),
                Node { power_state: None, provision_updated_at: Some(NOW), ..node(1) },
                Suitable,
            ),
            (with_a.clone(), Node { power_state: Some(PowerState::On), ..node(1) }, Suitable),
        ];
        for (allocation, node, expected) in rows {
            assert_eq!(allocation.assess(&node), expected, "{allocation:?} {node:?}");
        }
        for state in ProvisionState::ALL {
            let expected = if state == ProvisionState::Available { Suitable } else { Excluded };
            assert_eq!(with_a.assess(&Node { provision_state: state, ..node(1) }), expected, "{state:?}");
        }
    }

    #[test]
    fn a_failure_names_the_requirement_that_no_node_meets() {
        let small = Node { resource_class: Some("small".into()), ..node(2) };
        for (allocation, nodes, expected) in [
            (allocation(&[], &[]), vec![], "no available nodes match the resource class large"),
            (allocation(&[], &[]), vec![small.clone()], "no available nodes match the resource class large"),
            (
                allocation(&["CUSTOM_B"], &[2]),
                vec![node(1), small],
                "none of the requested nodes are available and match the resource class large",
            ),
            (
                allocation(&["CUSTOM_A", "CUSTOM_B"], &[1]),
                vec![node(1), node(2)],
                "no suitable nodes have the requested traits CUSTOM_A, CUSTOM_B",
            ),
        ] {
            assert_eq!(select(&allocation, &nodes), Err(expected.into()), "{allocation:?}");
        }
        let failed = allocation(&[], &[]).fail(&AllocationError::AllTaken, NOW);
        let text = "Failed to process allocation 00000000-0000-0000-0000-000000000010: all nodes were filtered out \
                    during reservation.";
        assert_eq!((failed.state(), failed.last_error.as_deref()), (AllocationState::Error, Some(text)));
    }

    #[test]
    fn allocations_try_the_nodes_in_different_orders() {
        let nodes: Vec<_> = (0..4).map(node).collect();
        let order = |uuid, name: Option<&str>| {
            let mut nodes = nodes.clone();
            nodes[2].name = Some("web".into());
            select(&Allocation { uuid: id(uuid), name: name.map(Into::into), ..allocation(&[], &[]) }, &nodes)
        };
        assert_eq!(order(0, None), Ok(vec![0, 1, 2, 3]));
        assert_eq!(order(1, None), Ok(vec![1, 0, 3, 2]));
        assert_eq!(order(3, None), Ok(vec![3, 2, 1, 0]));
        assert_eq!(order(0, Some("web")), Ok(vec![2, 0, 1, 3]), "the node with the same name is the first");
        assert_eq!(order(1, Some("db")), Ok(vec![1, 0, 3, 2]));
    }

    #[test]
    fn a_reserved_node_has_the_allocation_as_its_instance() {
        let new = allocation(&["CUSTOM_A"], &[]);
        let mut old = node(1);
        old.instance_info = serde_json::from_value(serde_json::json!({"a": 1})).expect("an object");
        let (active, reserved) = new.reserve(&old, NOW);
        assert_eq!((active.state(), active.node_uuid), (AllocationState::Active, Some(old.uuid)));
        assert_eq!((reserved.instance_uuid, reserved.allocation()), (Some(new.uuid), Some(new.uuid)));
        let info = serde_json::json!({"a": 1, "traits": ["CUSTOM_A"]});
        assert_eq!(serde_json::Value::from(reserved.instance_info.to_masked()), info);
        assert_eq!(new.state(), AllocationState::Allocating);
        let free = reserved.release_allocation(NOW);
        assert_eq!((free.instance_uuid, free.allocation()), (None, None));
    }

    #[test]
    fn an_allocation_ends_with_the_node_s_instance_or_record() {
        let (new, old) = (allocation(&[], &[]), node(1));
        let (_, reserved) = new.reserve(&old, NOW);
        let other = Node { instance_uuid: Some(id(9)), ..reserved.clone() };
        for (before, after, expected) in [
            (&reserved, Some(&reserved), None),
            (&reserved, Some(&Node { maintenance: true, ..reserved.clone() }), None),
            (&reserved, Some(&Node { instance_uuid: None, ..reserved.clone() }), Some(new.uuid)),
            (&reserved, Some(&other), Some(new.uuid)),
            (&reserved, None, Some(new.uuid)),
            (&other, None, None),
            (&old, Some(&reserved), None),
            (&old, None, None),
        ] {
            assert_eq!(before.ends_allocation(after), expected, "{after:?}");
        }
    }
}
