//! [`VolumeConnector`] and [`VolumeTarget`]: what a node shows to a storage network, and what it wants from it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Properties;

/// An identity of a node in a storage network: for iSCSI its initiator name (`type` `iqn`).
///
/// Type and id are free texts, as in Ironic: what of it can be used is decided when the machine boots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeConnector {
    /// Its identity in the API.
    pub uuid: Uuid,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed by the API.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    /// The node it belongs to.
    pub node_uuid: Uuid,
    /// `iqn`, `ip`, `mac`, `wwnn`, `wwpn`, `port`, `portgroup`, or what a client made up.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name itself. No two connectors of one type share one, on any node.
    pub connector_id: String,
    /// Kept for clients.
    #[serde(default)]
    pub extra: Properties,
}

impl VolumeConnector {
    /// A connector with nothing extra.
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

    /// Whether it names an iSCSI initiator.
    pub fn is_iqn(&self) -> bool {
        self.kind == "iqn"
    }
}

/// A volume that a node is to have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeTarget {
    /// Its identity in the API.
    pub uuid: Uuid,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed by the API.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    /// The node it belongs to.
    pub node_uuid: Uuid,
    /// `iscsi`, or another transport, which volboot refuses when the machine boots.
    pub volume_type: String,
    /// The volume's id in Cinder, or any text with the `external` storage interface.
    pub volume_id: String,
    /// Its place among the node's volumes: 0 is booted from. No two targets of a node share one.
    pub boot_index: i64,
    /// With `external`: how it is reached (see [`Connection`](super::Connection)). `uefi_loader` names the boot
    /// loader's file.
    #[serde(default)]
    pub properties: Properties,
    /// Kept for clients.
    #[serde(default)]
    pub extra: Properties,
}

impl VolumeTarget {
    /// An iSCSI target of which no more is known.
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
