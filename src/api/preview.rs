//! `boot-preview` of a node: the script its machine would get now, and why. Asks without touching anything.
//!
//! An extension of ours: Ironic has no such path.

use serde_json::{Value, json};

use super::call::{At, Call};
use super::fault::Fault;
use super::machines::machines_of;
use super::node::found;
use super::reply::{Answer, Reply};
use crate::attach::Source;
use crate::boot::Resolved;
use crate::model::{Asker, Node, Platform, Port};
use crate::script;

/// `GET /v1/nodes/{node}/boot-preview`
pub(super) async fn get(call: Call, At(ident): At<String>) -> Answer {
    call.query.only(&["platform"])?;
    let node = found(&call, &ident).await?;
    let Some(asker) = asker(&call, &node).await? else {
        return Ok(Reply::Shown(json!({
            "node": {"uuid": node.uuid, "name": node.name},
            "outcome": "unknown",
            "reason": "the node has no port, so no machine is recognised as it",
            "asked_as": null,
            "volumes": [],
            "script": null,
        })));
    };
    let decision = call.state.boot.preview(&asker).await;
    let script = script::preview(&decision.answer, &asker, call.state.watch.scripts);
    Ok(Reply::Shown(json!({
        "node": {"uuid": node.uuid, "name": node.name},
        "outcome": decision.answer.outcome(),
        "reason": decision.answer.reason(),
        "asked_as": {"macs": asker.macs, "platform": asker.platform.map(Platform::as_str)},
        "volumes": decision.resolved.iter().map(volume).collect::<Vec<_>>(),
        "script": script.ok(),
    })))
}

/// The node's machine, as it would ask: through its first port, on the firmware it was last seen with.
async fn asker(call: &Call, node: &Node) -> Result<Option<Asker>, Fault> {
    let ports: Vec<Port> = call.state.inventory.all_of(node.uuid).await?;
    let first = ports.iter().find(|port| port.pxe_enabled).or(ports.first());
    let Some(first) = first else { return Ok(None) };
    let mut asker = Asker::new(first.address).with_macs(ports.iter().map(|port| port.address));
    asker.platform = if let Some(text) = call.query.text("platform")? {
        let unknown = |()| Fault::Invalid(format!("platform is pcbios or efi, not \"{text}\""));
        Some(text.parse().map_err(unknown)?)
    } else {
        let machines = machines_of(call, node.uuid).await?;
        machines.iter().find_map(|machine| machine.platform.as_deref()?.parse().ok())
    };
    Ok(Some(asker))
}

fn volume(resolved: &Resolved) -> Value {
    let learnt_at = match &resolved.source {
        Source::LastKnown { learnt_at, .. } => Some(learnt_at),
        Source::Records | Source::Cinder => None,
    };
    json!({"id": resolved.volume, "source": resolved.source.as_str(), "learnt_at": learnt_at})
}
