//! `boot-preview` of a node: the boot script that the node's machine would get now, and the reason. Read-only.
//!
//! A volboot extension; Ironic has no such path.

use serde_json::{Value, json};

use super::fault::Fault;
use super::machines::list_machines_of_node;
use super::node::find_node;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, PathParam};
use crate::boot::VolumeResolution;
use crate::model::{BootRequest, ConnectionSource, Node, Port};
use crate::script;

/// `GET /v1/nodes/{node}/boot-preview`
pub(super) async fn get(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    request.query.reject_unknown(&["platform"])?;
    let node = find_node(&request, &ident).await?;
    let Some(boot_request) = build_boot_request(&request, &node).await? else {
        return Ok(Reply::Json(json!({
            "node": {"uuid": node.uuid, "name": node.name},
            "outcome": "unknown",
            "reason": "the node has no port, so no machine can be identified as this node",
            "requester": null,
            "volumes": [],
            "script": null,
        })));
    };
    let decision = request.state.boot.preview(&boot_request).await;
    let script = script::preview(&decision.answer, &boot_request, request.state.monitoring.scripts);
    Ok(Reply::Json(json!({
        "node": {"uuid": node.uuid, "name": node.name},
        "outcome": decision.answer.outcome(),
        "reason": decision.answer.reason(),
        "requester": {"macs": boot_request.macs, "platform": boot_request.platform},
        "volumes": decision.resolutions.iter().map(show_volume).collect::<Vec<_>>(),
        "script": script.ok(),
    })))
}

/// Builds the boot request of the node's machine: from its first port, with the firmware of its last boot.
async fn build_boot_request(request: &ApiRequest, node: &Node) -> Result<Option<BootRequest>, Fault> {
    let ports: Vec<Port> = request.state.inventory.list_all_of(node.uuid).await?;
    let first = ports.iter().find(|port| port.pxe_enabled).or(ports.first());
    let Some(first) = first else { return Ok(None) };
    let mut boot_request = BootRequest::new(first.address).with_macs(ports.iter().map(|port| port.address));
    boot_request.platform = if let Some(text) = request.query.text("platform")? {
        let invalid =
            |()| Fault::Invalid(format!("Invalid platform \"{text}\"; valid platforms are pcbios and efi"));
        Some(text.parse().map_err(invalid)?)
    } else {
        let machines = list_machines_of_node(request, node.uuid).await?;
        machines.iter().find_map(|machine| machine.platform)
    };
    Ok(Some(boot_request))
}

fn show_volume(resolved: &VolumeResolution) -> Value {
    let resolved_at = match &resolved.source {
        ConnectionSource::LastKnown { resolved_at, .. } => Some(resolved_at),
        ConnectionSource::Records | ConnectionSource::Cinder => None,
    };
    json!({"id": resolved.volume, "source": resolved.source.as_str(), "resolved_at": resolved_at})
}
