//! [`Port`]: a network card of a node.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Mac, Properties};

/// A network card. Its MAC address identifies the node of a boot request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// The port's identity in the API.
    pub uuid: Uuid,
    /// When the port was created.
    pub created_at: Timestamp,
    /// When the API last changed the port.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    /// The port's node.
    pub node_uuid: Uuid,
    /// The MAC address; unique among all ports.
    pub address: Mac,
    /// Whether the machine may boot through this port. A port with `false` does not identify its node.
    pub pxe_enabled: bool,
    /// The switch and switch port behind the card, in Neutron's format; stored for clients.
    #[serde(default)]
    pub local_link_connection: Properties,
    /// The card's port group.
    #[serde(default)]
    pub portgroup_uuid: Option<Uuid>,
    /// The name of the network behind the card, for Neutron; stored for clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub physical_network: Option<String>,
    /// Stored for clients.
    #[serde(default)]
    pub internal_info: Properties,
    /// Stored for clients.
    #[serde(default)]
    pub extra: Properties,
}

impl Port {
    /// A port with `pxe_enabled` and without optional fields.
    pub fn new(uuid: Uuid, node_uuid: Uuid, address: Mac, now: Timestamp) -> Self {
        Self {
            uuid,
            created_at: now,
            updated_at: None,
            node_uuid,
            address,
            pxe_enabled: true,
            local_link_connection: Properties::default(),
            portgroup_uuid: None,
            physical_network: None,
            internal_info: Properties::default(),
            extra: Properties::default(),
        }
    }
}
