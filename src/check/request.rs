//! [`CheckRequest`]: the volumes of a node, and how its machine reaches them.

use serde::Serialize;
use uuid::Uuid;

use crate::inspect::LoaderArchitecture;
use crate::model::{Connection, LoaderPath};

/// The volumes of a node.
#[derive(Debug, Clone)]
pub struct CheckRequest {
    /// The node.
    pub node: Uuid,
    /// The initiator name of the node's machine, or why there is none.
    pub initiator: Result<String, String>,
    /// The architecture of the node's machine, as far as known.
    pub architecture: Option<LoaderArchitecture>,
    /// The volumes, the boot volume first.
    pub volumes: Vec<RequestedVolume>,
}

/// The place of a volume in a node's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeRole {
    /// The volume target with boot index 0.
    Boot,
    /// Another volume target.
    Data,
    /// The fallback.
    Fallback,
}

/// A volume to check.
#[derive(Debug, Clone)]
pub struct RequestedVolume {
    /// The volume's id.
    pub id: String,
    /// The volume's place in the node's records.
    pub role: VolumeRole,
    /// Whether the machine boots from the volume.
    pub is_boot: bool,
    /// The boot loader's path in the records: of the boot target or the fallback, else of the node. `None` for data volumes.
    pub loader: Option<LoaderPath>,
    /// The paths to the volume, or why no path is known. The reason says what a check would need.
    pub connection: Result<Connection, String>,
}
