//! [`CheckRequest`]: the volumes of a node, and how its machine reaches them.

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
    /// The boot loader's path in the records: of the boot target, else of the node.
    pub loader: Option<LoaderPath>,
    /// The architecture of the node's machine, as far as known.
    pub architecture: Option<LoaderArchitecture>,
    /// The volumes, the boot volume first.
    pub volumes: Vec<RequestedVolume>,
}

/// A volume to check.
#[derive(Debug, Clone)]
pub struct RequestedVolume {
    /// The volume's id.
    pub id: String,
    /// Whether the machine boots from the volume.
    pub is_boot: bool,
    /// The paths to the volume, or why no path is known. The reason says what a check would need.
    pub connection: Result<Connection, String>,
}
