//! The keys of attachments. A key begins with the node.

use uuid::Uuid;

/// The prefix of all attachments.
pub(super) const PREFIX: &str = "attachment/";

/// The key of an attachment. The volume's id is free text, so it comes last.
pub(super) fn key(node: Uuid, volume: &str) -> String {
    format!("{}{volume}", node_prefix(node))
}

/// The prefix of the attachments of a node.
pub(super) fn node_prefix(node: Uuid) -> String {
    format!("{PREFIX}{node}/")
}

/// The node and the volume of a key.
pub(super) fn parse_key(key: &str) -> Option<(Uuid, &str)> {
    let (node, volume) = key.strip_prefix(PREFIX)?.split_once('/')?;
    Some((node.parse().ok()?, volume))
}
