//! `boot-preview` of a node: the boot script that the node's machine would get now, and the reason. Read-only.
//!
//! A volboot extension; Ironic has no such path.

use serde_json::{Value, json};

use super::fault::Fault;
use super::node::find_node;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, PathParam};
use crate::boot::VolumeResolution;
use crate::model::{BootOutcome, ConnectionSource, InstanceServer};
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
        "volumes": decision.resolutions.iter().map(show_volume).collect::<Vec<_>>(),
        "script": script,
    })))
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
