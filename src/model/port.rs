//! [`Port`]: one of a node's network cards.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Mac, Properties};

/// A network card, known by its MAC address; by it a machine that boots is recognised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its identity in the API.
    pub uuid: Uuid,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed by the API.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    /// The node it belongs to.
    pub node_uuid: Uuid,
    /// Its MAC address; no two ports share one.
    pub address: Mac,
    /// Whether the machine may boot through it. A port on which it may not does not identify its node.
    pub pxe_enabled: bool,
    /// Switch and port it is wired to, as Neutron would want it; kept for clients.
    #[serde(default)]
    pub local_link_connection: Properties,
    /// The port group it is part of.
    #[serde(default)]
    pub portgroup_uuid: Option<Uuid>,
    /// Kept for clients.
    #[serde(default)]
    pub internal_info: Properties,
    /// Kept for clients.
    #[serde(default)]
    pub extra: Properties,
}

impl Port {
    /// A port through which its node may boot, and no more than that.
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
            internal_info: Properties::default(),
            extra: Properties::default(),
        }
    }
}
