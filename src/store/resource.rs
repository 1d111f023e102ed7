//! [`Resource`]: the properties of a record type that the inventory's rules depend on.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::model::{
    Allocation, BootOnce, Chassis, Fallback, Mac, Node, Port, PortGroup, Released, VolumeConnector,
    VolumeTarget,
};

/// The types of records in the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResourceKind {
    /// [`Node`]
    Node,
    /// [`Chassis`]
    Chassis,
    /// [`Port`]
    Port,
    /// [`PortGroup`]
    PortGroup,
    /// [`VolumeConnector`]
    VolumeConnector,
    /// [`VolumeTarget`]
    VolumeTarget,
    /// [`Allocation`]
    Allocation,
    /// [`BootOnce`]
    BootOnce,
}

impl ResourceKind {
    /// The prefix of the type's keys in the store.
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Chassis => "chassis",
            Self::Port => "port",
            Self::PortGroup => "portgroup",
            Self::VolumeConnector => "connector",
            Self::VolumeTarget => "target",
            Self::Allocation => "allocation",
            Self::BootOnce => "boot-once",
        }
    }
}

/// A value that no two records share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UniqueKey {
    /// The UUID of any record.
    Uuid(ResourceKind, Uuid),
    /// A node's name.
    NodeName(String),
    /// A node's instance.
    Instance(Uuid),
    /// A port's MAC address.
    Address(Mac),
    /// A port group's name.
    PortGroupName(String),
    /// A port group's MAC address.
    PortGroupAddress(Mac),
    /// A connector's type and id, over all nodes.
    Connector(String, String),
    /// A target's boot index, per node.
    BootIndex(Uuid, i64),
    /// An allocation's name.
    AllocationName(String),
    /// The node of a one-time boot: a node has at most one.
    BootOnceNode(Uuid),
}

impl UniqueKey {
    /// The key in the store. Free text comes last, so that one kind of key cannot collide with another.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Uuid(kind, uuid) => format!("{}/{uuid}", kind.prefix()),
            Self::NodeName(name) => format!("node-name/{name}"),
            Self::Instance(uuid) => format!("node-instance/{uuid}"),
            Self::Address(mac) => format!("port-address/{mac}"),
            Self::PortGroupName(name) => format!("portgroup-name/{name}"),
            Self::PortGroupAddress(mac) => format!("portgroup-address/{mac}"),
            // The length distinguishes ("a", "b/c") from ("a/b", "c").
            Self::Connector(kind, id) => format!("connector-id/{}/{kind}/{id}", kind.len()),
            Self::BootIndex(node, index) => format!("target-boot-index/{node}/{index}"),
            Self::AllocationName(name) => format!("allocation-name/{name}"),
            Self::BootOnceNode(node) => format!("boot-once-node/{node}"),
        }
    }
}

impl fmt::Display for UniqueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(_, uuid) => write!(f, "the UUID {uuid}"),
            Self::NodeName(name) | Self::PortGroupName(name) | Self::AllocationName(name) => {
                write!(f, "the name {name}")
            }
            Self::Instance(uuid) => write!(f, "the instance {uuid}"),
            Self::Address(mac) | Self::PortGroupAddress(mac) => write!(f, "the address {mac}"),
            Self::Connector(kind, id) => write!(f, "the {kind} {id}"),
            Self::BootIndex(_, index) => write!(f, "the boot index {index}"),
            Self::BootOnceNode(node) => write!(f, "the one-time boot of node {node}"),
        }
    }
}

/// A record type with an identity, a creation time and, for most types, a node.
pub trait Resource: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The record type.
    const KIND: ResourceKind;

    /// The record's identity; never changes.
    fn uuid(&self) -> Uuid;

    /// The creation time; never changes. Lists have this order, as Ironic's lists have the order of row ids.
    fn created_at(&self) -> Timestamp;

    /// The record's node.
    fn node(&self) -> Option<Uuid>;

    /// The record's unique values besides the UUID.
    fn unique_keys(&self) -> Vec<UniqueKey>;

    /// Finds the volumes to detach when this record is replaced by `new`, or deleted.
    fn find_released(&self, _new: Option<&Self>) -> Released {
        Released::Nothing
    }

    /// Finds the allocation that ends when this record is replaced by `new`, or deleted.
    fn find_ended_allocation(&self, _new: Option<&Self>) -> Option<Uuid> {
        None
    }

    /// Whether the node's fallback ends when this record is replaced by `new`.
    fn ends_fallback(&self, _new: &Self) -> bool {
        false
    }

    /// Whether the record is in the list of nodes with a fallback.
    fn has_fallback(&self) -> bool {
        false
    }

    /// The position in lists: by creation time, then by UUID.
    fn sort_key(&self) -> String {
        // Creation times differ by milliseconds or less. Microseconds since 1970 are positive, with a fixed width.
        format!("{:016x}-{}", self.created_at().as_microsecond().max(0), self.uuid())
    }
}

impl Resource for Node {
    const KIND: ResourceKind = ResourceKind::Node;

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn created_at(&self) -> Timestamp {
        self.created_at
    }

    fn node(&self) -> Option<Uuid> {
        None
    }

    fn unique_keys(&self) -> Vec<UniqueKey> {
        let name = self.name.clone().map(UniqueKey::NodeName);
        name.into_iter().chain(self.instance_uuid.map(UniqueKey::Instance)).collect()
    }

    fn find_released(&self, new: Option<&Self>) -> Released {
        self.releases(new)
    }

    fn find_ended_allocation(&self, new: Option<&Self>) -> Option<Uuid> {
        self.ends_allocation(new)
    }

    fn ends_fallback(&self, new: &Self) -> bool {
        self.ends_fallback(new)
    }

    fn has_fallback(&self) -> bool {
        matches!(Fallback::of(self), Ok(Some(_)))
    }
}

impl Resource for Chassis {
    const KIND: ResourceKind = ResourceKind::Chassis;

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn created_at(&self) -> Timestamp {
        self.created_at
    }

    fn node(&self) -> Option<Uuid> {
        None
    }

    fn unique_keys(&self) -> Vec<UniqueKey> {
        Vec::new()
    }
}

impl Resource for Port {
    const KIND: ResourceKind = ResourceKind::Port;

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn created_at(&self) -> Timestamp {
        self.created_at
    }

    fn node(&self) -> Option<Uuid> {
        Some(self.node_uuid)
    }

    fn unique_keys(&self) -> Vec<UniqueKey> {
        vec![UniqueKey::Address(self.address)]
    }
}

impl Resource for PortGroup {
    const KIND: ResourceKind = ResourceKind::PortGroup;

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn created_at(&self) -> Timestamp {
        self.created_at
    }

    fn node(&self) -> Option<Uuid> {
        Some(self.node_uuid)
    }

    fn unique_keys(&self) -> Vec<UniqueKey> {
        let name = self.name.clone().map(UniqueKey::PortGroupName);
        name.into_iter().chain(self.address.map(UniqueKey::PortGroupAddress)).collect()
    }
}

impl Resource for VolumeConnector {
    const KIND: ResourceKind = ResourceKind::VolumeConnector;

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn created_at(&self) -> Timestamp {
        self.created_at
    }

    fn node(&self) -> Option<Uuid> {
        Some(self.node_uuid)
    }

    fn unique_keys(&self) -> Vec<UniqueKey> {
        vec![UniqueKey::Connector(self.kind.clone(), self.connector_id.clone())]
    }
}

impl Resource for VolumeTarget {
    const KIND: ResourceKind = ResourceKind::VolumeTarget;

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn created_at(&self) -> Timestamp {
        self.created_at
    }

    fn node(&self) -> Option<Uuid> {
        Some(self.node_uuid)
    }

    fn unique_keys(&self) -> Vec<UniqueKey> {
        vec![UniqueKey::BootIndex(self.node_uuid, self.boot_index)]
    }

    fn find_released(&self, new: Option<&Self>) -> Released {
        self.releases(new)
    }
}

impl Resource for Allocation {
    const KIND: ResourceKind = ResourceKind::Allocation;

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn created_at(&self) -> Timestamp {
        self.created_at
    }

    fn node(&self) -> Option<Uuid> {
        self.node_uuid
    }

    fn unique_keys(&self) -> Vec<UniqueKey> {
        self.name.clone().map(UniqueKey::AllocationName).into_iter().collect()
    }
}

impl Resource for BootOnce {
    const KIND: ResourceKind = ResourceKind::BootOnce;

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn created_at(&self) -> Timestamp {
        self.created_at
    }

    fn node(&self) -> Option<Uuid> {
        Some(self.node_uuid)
    }

    fn unique_keys(&self) -> Vec<UniqueKey> {
        vec![UniqueKey::BootOnceNode(self.node_uuid)]
    }
}
