//! The keys of records, of guards and of index entries.

use uuid::Uuid;

use super::resource::{Resource, UniqueKey};

/// The prefix of the list of nodes with a fallback.
pub(super) const FALLBACK_NODES: &str = "node-fallback/";

/// The key of a record.
pub(super) fn record_key<R: Resource>(uuid: Uuid) -> String {
    UniqueKey::Uuid(R::KIND, uuid).key()
}

/// The key of a node's guard: exists as long as the node, and changes with every new record of the node.
pub(super) fn guard_key(node: Uuid) -> String {
    format!("node-guard/{node}")
}

/// The prefix of the boot windows of all nodes.
pub(super) const WINDOWS: &str = "boot-window/";

/// The key of a node's boot window.
pub(super) fn window_key(node: Uuid) -> String {
    format!("{WINDOWS}{node}")
}

/// The prefix of the list of all records of a type.
pub(super) fn list_prefix<R: Resource>() -> String {
    format!("{}-list/", R::KIND.prefix())
}

/// The prefix of the list of one node's records of a type.
pub(super) fn node_prefix<R: Resource>(node: Uuid) -> String {
    format!("{}-of/{node}/", R::KIND.prefix())
}

/// The keys of all index entries that point to a record.
pub(super) fn index_keys<R: Resource>(record: &R) -> impl Iterator<Item = String> {
    let in_node_list = record.node().map(|node| format!("{}{}", node_prefix::<R>(node), record.sort_key()));
    let in_list = format!("{}{}", list_prefix::<R>(), record.sort_key());
    let in_fallbacks = record.has_fallback().then(|| format!("{FALLBACK_NODES}{}", record.uuid()));
    let unique_keys = record.unique_keys().into_iter().map(|key| key.key()).collect::<Vec<_>>();
    unique_keys.into_iter().chain(in_node_list).chain(in_fallbacks).chain([in_list])
}
