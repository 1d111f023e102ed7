//! [`PortGroup`]: several of a node's network cards that work as one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Mac, Properties};

/// A port group; kept for clients. A machine boots through one of its cards, never through the group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortGroup {
    /// Its identity in the API.
    pub uuid: Uuid,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed by the API.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    /// The node it belongs to.
    pub node_uuid: Uuid,
    /// What people call it; no two groups share one.
    #[serde(default)]
    pub name: Option<String>,
    /// The address the group shows; no two groups share one.
    #[serde(default)]
    pub address: Option<Mac>,
    /// How the operating system is to bond the cards, in Linux's words.
    pub mode: String,
    /// Options of the bond.
    #[serde(default)]
    pub properties: Properties,
    /// Whether the cards can be used alone.
    pub standalone_ports_supported: bool,
    /// Kept for clients.
    #[serde(default)]
    pub internal_info: Properties,
    /// Kept for clients.
    #[serde(default)]
    pub extra: Properties,
}
