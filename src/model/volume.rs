//! [`VolumeConnector`] and [`VolumeTarget`]: a node's identities in a storage network, and its volumes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Properties;

/// An identity of a node in a storage network: for iSCSI its initiator name (`type` `iqn`).
///
/// Type and id are free text, as in Ironic: each boot request decides which connectors are usable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeConnector {
    /// The record's identity in the API.
    pub uuid: Uuid,
    /// When the record was created.
    pub created_at: Timestamp,
    /// When the API last changed the record.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    /// The record's node.
    pub node_uuid: Uuid,
    /// `iqn`, `ip`, `mac`, `wwnn`, `wwpn`, `port`, `portgroup`, or any other word of a client.
    #[serde(rename = "type")]
    pub kind: String,
    /// The identity, such as an initiator name; unique among all connectors of one type, on all nodes.
    pub connector_id: String,
    /// Stored for clients.
    #[serde(default)]
    pub extra: Properties,
}

impl VolumeConnector {
    /// A connector with empty `extra`.
    pub fn new(uuid: Uuid, node_uuid: Uuid, kind: &str, connector_id: &str, now: Timestamp) -> Self {
        Self {
            uuid,
            created_at: now,
            updated_at: None,
            node_uuid,
            kind: kind.to_owned(),
            connector_id: connector_id.to_owned(),
            extra: Properties::default(),
        }
    }

    /// Whether the connector is an iSCSI initiator name.
    pub fn is_iqn(&self) -> bool {
        self.kind == "iqn"
    }
}

/// A volume assigned to a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeTarget {
    /// The record's identity in the API.
    pub uuid: Uuid,
    /// When the record was created.
    pub created_at: Timestamp,
    /// When the API last changed the record.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    /// The record's node.
    pub node_uuid: Uuid,
    /// `iscsi`, or another transport, with which volboot refuses the node's boot.
    pub volume_type: String,
    /// The volume's id in Cinder; any text with the `external` storage interface.
    pub volume_id: String,
    /// The volume's position, unique among the node's targets: 0 is the boot volume.
    pub boot_index: i64,
    /// With `external`: the connection properties (see [`Connection`](super::Connection)). `uefi_loader` names the
    /// boot loader's file.
    #[serde(default)]
    pub properties: Properties,
    /// Stored for clients.
    #[serde(default)]
    pub extra: Properties,
}

impl VolumeTarget {
    /// An iSCSI target without properties.
    pub fn new(uuid: Uuid, node_uuid: Uuid, boot_index: i64, volume_id: &str, now: Timestamp) -> Self {
        Self {
            uuid,
            created_at: now,
            updated_at: None,
            node_uuid,
            volume_type: "iscsi".to_owned(),
            volume_id: volume_id.to_owned(),
            boot_index,
            properties: Properties::default(),
            extra: Properties::default(),
        }
    }
}
