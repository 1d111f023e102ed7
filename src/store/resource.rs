//! [`Resource`]: what the inventory must know of a kind of record to keep its rules.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::Revision;
use crate::model::{Chassis, Mac, Node, Port, PortGroup, StorageInterface, VolumeConnector, VolumeTarget};

/// The kinds of records the inventory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
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
}

impl Kind {
    /// The first part of its keys.
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Chassis => "chassis",
            Self::Port => "port",
            Self::PortGroup => "portgroup",
            Self::VolumeConnector => "connector",
            Self::VolumeTarget => "target",
        }
    }
}

/// Something no two records share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unique {
    /// The UUID of any record.
    Uuid(Kind, Uuid),
    /// A node's name.
    NodeName(String),
    /// The instance a node serves.
    Instance(Uuid),
    /// A port's MAC address.
    Address(Mac),
    /// A port group's name.
    PortGroupName(String),
    /// A port group's MAC address.
    PortGroupAddress(Mac),
    /// A connector's type and id, on all nodes together.
    Connector(String, String),
    /// A target's boot index, on one node.
    BootIndex(Uuid, i64),
}

impl Unique {
    /// The key of the record that holds its place. Free text comes last, so that it cannot reach into another's.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Uuid(kind, uuid) => format!("{}/{uuid}", kind.prefix()),
            Self::NodeName(name) => format!("node-name/{name}"),
            Self::Instance(uuid) => format!("node-instance/{uuid}"),
            Self::Address(mac) => format!("port-address/{mac}"),
            Self::PortGroupName(name) => format!("portgroup-name/{name}"),
            Self::PortGroupAddress(mac) => format!("portgroup-address/{mac}"),
            // The length keeps ("a", "b/c") and ("a/b", "c") apart.
            Self::Connector(kind, id) => format!("connector-id/{}/{kind}/{id}", kind.len()),
            Self::BootIndex(node, index) => format!("target-boot-index/{node}/{index}"),
        }
    }
}

impl fmt::Display for Unique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(_, uuid) => write!(f, "the UUID {uuid}"),
            Self::NodeName(name) | Self::PortGroupName(name) => write!(f, "the name {name}"),
            Self::Instance(uuid) => write!(f, "the instance {uuid}"),
            Self::Address(mac) | Self::PortGroupAddress(mac) => write!(f, "the address {mac}"),
            Self::Connector(kind, id) => write!(f, "the {kind} {id}"),
            Self::BootIndex(_, index) => write!(f, "the boot index {index}"),
        }
    }
}

/// Which volumes a node no longer has once a record was changed or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LetGo {
    /// It has what it had.
    Nothing,
    /// This node, this volume.
    Volume(Uuid, String),
    /// All volumes of this node.
    All(Uuid),
}

/// A kind of record with an identity, an age, and perhaps a node it belongs to.
pub trait Resource: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Which kind it is.
    const KIND: Kind;

    /// Its identity; never changes.
    fn uuid(&self) -> Uuid;

    /// When it was created; never changes. Lists are in this order, as Ironic's are in the order of row ids.
    fn created_at(&self) -> Timestamp;

    /// The node it belongs to.
    fn node(&self) -> Option<Uuid>;

    /// What it alone may have, beside its UUID.
    fn uniques(&self) -> Vec<Unique>;

    /// What a node loses when this record becomes `new`, or is deleted: it is detached from then on.
    fn lets_go(&self, _new: Option<&Self>) -> LetGo {
        LetGo::Nothing
    }

    /// Its place in lists: by age, then by UUID.
    fn place(&self) -> String {
        // Milliseconds and less differ between records; microseconds since 1970 stay positive and of one length.
        format!("{:016x}-{}", self.created_at().as_microsecond().max(0), self.uuid())
    }
}

/// A record as it was read, and the write it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned<R> {
    /// The record.
    pub value: R,
    /// The write that put it there.
    pub revision: Revision,
}

/// What every kind says in the same way, and what it alone has.
macro_rules! resource {
    (
        $type:ident,
        node: |$of:ident| $node:expr,
        uniques: |$record:ident| $uniques:expr
        $(, lets_go: $lets_go:expr)?
    ) => {
        impl Resource for $type {
            const KIND: Kind = Kind::$type;

            fn uuid(&self) -> Uuid {
                self.uuid
            }

            fn created_at(&self) -> Timestamp {
                self.created_at
            }

            fn node(&self) -> Option<Uuid> {
                let $of = self;
                $node
            }

            fn uniques(&self) -> Vec<Unique> {
                let $record = self;
                $uniques
            }

            $(fn lets_go(&self, new: Option<&Self>) -> LetGo {
                $lets_go(self, new)
            })?
        }
    };
}

resource!(Node, node: |_none| None, uniques: |node| {
    let name = node.name.clone().map(Unique::NodeName);
    name.into_iter().chain(node.instance_uuid.map(Unique::Instance)).collect()
}, lets_go: |node: &Node, new: Option<&Node>| {
    let leaves = |new: &Node| {
        let cinder = |node: &Node| node.storage_interface == StorageInterface::Cinder;
        (cinder(node) && !cinder(new)) || (new.undeployed && !node.undeployed)
    };
    if new.is_none_or(leaves) { LetGo::All(node.uuid) } else { LetGo::Nothing }
});
resource!(Chassis, node: |_none| None, uniques: |_none| Vec::new());
resource!(Port, node: |port| Some(port.node_uuid), uniques: |port| vec![Unique::Address(port.address)]);
resource!(PortGroup, node: |group| Some(group.node_uuid), uniques: |group| {
    let name = group.name.clone().map(Unique::PortGroupName);
    name.into_iter().chain(group.address.map(Unique::PortGroupAddress)).collect()
});
resource!(VolumeConnector, node: |connector| Some(connector.node_uuid), uniques: |connector| {
    vec![Unique::Connector(connector.kind.clone(), connector.connector_id.clone())]
});
resource!(VolumeTarget, node: |target| Some(target.node_uuid), uniques: |target| {
    vec![Unique::BootIndex(target.node_uuid, target.boot_index)]
}, lets_go: |target: &VolumeTarget, new: Option<&VolumeTarget>| {
    let stays =
        |new: &VolumeTarget| (new.node_uuid, &new.volume_id) == (target.node_uuid, &target.volume_id);
    if new.is_some_and(stays) {
        LetGo::Nothing
    } else {
        LetGo::Volume(target.node_uuid, target.volume_id.clone())
    }
});
