//! [`PortGroup`]: a bond of several network cards of a node.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Mac, Properties};

/// A port group, stored for clients. A machine boots through a single card, never through the group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PortGroup {
    /// The group's identity in the API.
    pub uuid: Uuid,
    /// When the group was created.
    pub created_at: Timestamp,
    /// When the API last changed the group.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    /// The group's node.
    pub node_uuid: Uuid,
    /// The group's name; unique among all groups.
    #[serde(default)]
    pub name: Option<String>,
    /// The group's MAC address; unique among all groups.
    #[serde(default)]
    pub address: Option<Mac>,
    /// The bonding mode for the operating system, by Linux's name.
    pub mode: String,
    /// Bonding options.
    #[serde(default)]
    pub properties: Properties,
    /// Whether the cards also work without the bond.
    pub standalone_ports_supported: bool,
    /// Stored for clients.
    #[serde(default)]
    pub internal_info: Properties,
    /// Stored for clients.
    #[serde(default)]
    pub extra: Properties,
}
