//! `boot-preview` of a node: the boot script that the node's machine would get now, and the reason. Read-only.
//!
//! A volboot extension; Ironic has no such path.

use serde_json::{Value, json};

use super::fault::Fault;
use super::node::find_node;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, PathParam};
use crate::boot::VolumeResolution;
use crate::model::{BootAnswer, BootOutcome, BootVolume, ConnectionSource, InstanceServer, SanUri};
use crate::operator::BootPreview;

/// `GET /v1/nodes/{node}/boot-preview`
pub(super) async fn get(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    request.query.reject_unknown(&["platform"])?;
    let node = find_node(&request, &ident).await?;
    let Some(mut boot_request) = request.operator.predict_request_of_node(&node).await? else {
        return Ok(Reply::Json(json!({
            "node": {"uuid": node.uuid, "name": node.name},
            "outcome": BootOutcome::Unknown,
            "reason": "the node has no port, so no machine can be identified as this node",
            "requester": null,
            "portals": [],
            "volumes": [],
            "script": null,
        })));
    };
    if let Some(text) = request.query.text("platform")? {
        let invalid =
            |()| Fault::Invalid(format!("Invalid platform \"{text}\"; valid platforms are pcbios and efi"));
        boot_request.platform = Some(text.parse().map_err(invalid)?);
    }
    let BootPreview { decision, script } = request.operator.preview(&boot_request).await;
    Ok(Reply::Json(json!({
        "node": {"uuid": node.uuid, "name": node.name},
        "outcome": decision.answer.outcome(),
        "reason": decision.answer.reason(),
        "requester": {"macs": boot_request.macs, "platform": boot_request.platform},
        "portals": list_portals(&request, &decision.answer),
        "volumes": decision.resolutions.iter().map(show_volume).collect::<Vec<_>>(),
        "script": script,
    })))
}

/// The portals of the boot in the order in which they are tried, and whether this host reaches them: `null` if it has not
/// tried within the last minute.
fn list_portals(request: &ApiRequest, answer: &BootAnswer) -> Vec<Value> {
    let BootAnswer::Boot(plan) = answer else { return Vec::new() };
    let volumes = std::iter::once(&plan.boot).chain(&plan.data);
    let paths = volumes.flat_map(|volume| volume.paths.iter().map(move |path| (volume, path)));
    let show = |(volume, path): (&BootVolume, &SanUri)| {
        let reachable = request.operator.boot.reaches_portal(&path.portal);
        json!({"volume": volume.id, "portal": path.portal.to_string(), "reachable": reachable})
    };
    paths.map(show).collect()
}

fn show_volume(resolved: &VolumeResolution) -> Value {
    let resolved_at = match &resolved.source {
        ConnectionSource::LastKnown { resolved_at, .. } | ConnectionSource::Confirmed { resolved_at, .. } => {
            Some(resolved_at)
        }
        ConnectionSource::Records | ConnectionSource::Cinder | ConnectionSource::Existing { .. } => None,
    };
    json!({
        "id": resolved.volume,
        "source": resolved.source.as_str(),
        "resolved_at": resolved_at,
        "attached_by": resolved.server.map(|server| InstanceServer(server).to_string()),
    })
}
