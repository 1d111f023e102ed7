//! Moves of records to another node: a patch of `node_uuid`.

use serde_json::Value;
use uuid::Uuid;

use super::fault::{Fault, quote};
use super::patch::Patch;
use super::request::ApiRequest;
use super::resource::ApiResource;
use crate::model::Node;

/// Finds the nodes that a patch assigns a record to.
///
/// A new node must have the owner of the present node. Otherwise a move would hand the record, and with it the secrets
/// of a volume, to another project. As in Ironic, the fault is that of a missing node.
pub(super) async fn find_new_nodes<R: ApiResource>(
    request: &ApiRequest,
    record: Uuid,
    patch: &Patch,
) -> Result<Vec<Node>, Fault> {
    let mut nodes = Vec::new();
    for value in patch.values("node_uuid") {
        let Some(new) = find_node(request, parse_node(value)?).await? else {
            return Err(no_such_node(value));
        };
        let present = find_node_of::<R>(request, record).await?;
        if present.is_some_and(|present| present.owner != new.owner) {
            return Err(no_such_node(value));
        }
        nodes.push(new);
    }
    Ok(nodes)
}

/// Finds the node of a record.
async fn find_node_of<R: ApiResource>(request: &ApiRequest, record: Uuid) -> Result<Option<Node>, Fault> {
    let found = request.operator.inventory.get::<R>(record).await?;
    let found = found.ok_or_else(|| Fault::not_found::<R>(record))?;
    match found.value.node() {
        Some(node) => find_node(request, node).await,
        None => Ok(None),
    }
}

async fn find_node(request: &ApiRequest, node: Uuid) -> Result<Option<Node>, Fault> {
    Ok(request.operator.inventory.get::<Node>(node).await?.map(|node| node.value))
}

fn parse_node(value: &Value) -> Result<Uuid, Fault> {
    let fault = || Fault::Invalid(format!("Expected a UUID for node_uuid, but received {}.", quote(value)));
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(fault)
}

fn no_such_node(value: &Value) -> Fault {
    let value = quote(value);
    Fault::Invalid(format!("Unable to apply the requested node_uuid {value}. Requested value was invalid."))
}
