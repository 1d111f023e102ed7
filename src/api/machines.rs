//! `/v1/machines` and `boot-history` of a node: machines and their timelines, including machines without a node.
//!
//! A volboot extension; Ironic has no such paths.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::fault::Fault;
use super::list::parse_limit;
use super::node::find_node;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, PathParam};
use crate::model::{Node, Port};
use crate::telemetry::Event;
use crate::timeline::{BootState, Machine, MachineId, describe};

/// The query arguments of the list.
pub(super) const ARGUMENTS: [&str; 4] = ["state", "q", "limit", "after"];

/// `GET /v1/machines`: the machine with the most recent event first.
pub(super) async fn list(request: ApiRequest) -> HandlerResult {
    request.query.reject_unknown(&ARGUMENTS)?;
    let state = request.query.text("state")?.map(parse_state).transpose()?;
    let text = request.query.text("q")?.map(str::to_lowercase);
    let after = request.query.text("after")?.map(parse_machine_id).transpose()?;
    let limit = parse_limit(&request.query)?;
    let machines = request.state.monitoring.timeline.machines(|machine| {
        state.is_none_or(|state| machine.verdict.state == state)
            && text.as_deref().is_none_or(|text| machine.matches_text(text))
    });
    let from = match after {
        None => 0,
        Some(after) => match machines.iter().position(|machine| machine.id == after) {
            Some(at) => at + 1,
            None => return Err(machine_not_found(after)),
        },
    };
    let page = machines.get(from..).unwrap_or_default();
    let mut body = Map::new();
    if let Some(last) = page.get(..limit).filter(|_| page.len() > limit).and_then(<[_]>::last) {
        // A machine's id needs no encoding.
        let mut rest = form_urlencoded::Serializer::new(format!("limit={limit}&after={}", last.id));
        for name in ["state", "q"] {
            if let Some(text) = request.query.text(name)? {
                rest.append_pair(name, text);
            }
        }
        body.insert("next".into(), format!("{}?{}", request.links.url("machines"), rest.finish()).into());
    }
    let mut items = Vec::new();
    for machine in page.iter().take(limit) {
        items.push(show_machine(&request, machine).await?);
    }
    body.insert("machines".into(), items.into());
    Ok(Reply::Json(body.into()))
}

/// `GET /v1/machines/{machine}`
pub(super) async fn get(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let id = parse_machine_id(&ident)?;
    let machine = request.state.monitoring.timeline.machine(id).ok_or_else(|| machine_not_found(id))?;
    let mut body = show_machine(&request, &machine).await?;
    body["timeline"] = describe_events(read_events(&request, vec![id]).await?);
    Ok(Reply::Json(body))
}

/// `GET /v1/nodes/{node}/boot-history`: the events of all machines with one of the node's ports or last identified as
/// the node.
pub(super) async fn boot_history(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let node = find_node(&request, &ident).await?;
    let machines = list_machines_of_node(&request, node.uuid).await?;
    let ids = machines.iter().map(|machine| machine.id).collect();
    let mut items = Vec::new();
    for machine in &machines {
        items.push(show_machine(&request, machine).await?);
    }
    Ok(Reply::Json(json!({
        "node": {"uuid": node.uuid, "name": node.name},
        "verdict": machines.first().map(|machine| &machine.verdict),
        "machines": items,
        "timeline": describe_events(read_events(&request, ids).await?),
    })))
}

/// Lists the machines of a node, the machine with the most recent event first.
pub(super) async fn list_machines_of_node(request: &ApiRequest, node: Uuid) -> Result<Vec<Machine>, Fault> {
    let ports: Vec<Port> = request.state.inventory.list_all_of(node).await?;
    let has_port = |machine: &Machine| ports.iter().any(|port| machine.id == MachineId::Mac(port.address));
    let timeline = &request.state.monitoring.timeline;
    Ok(timeline.machines(|machine| machine.node == Some(node) || has_port(machine)))
}

/// Reads the events of machines, the oldest first.
async fn read_events(request: &ApiRequest, ids: Vec<MachineId>) -> Result<Vec<Event>, Fault> {
    let timeline = request.state.monitoring.timeline.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut events: Vec<Event> = ids.into_iter().flat_map(|id| timeline.events_blocking(id)).collect();
        events.sort_by_key(|event| event.at);
        events
    });
    read.await.map_err(|_| Fault::Internal)
}

fn describe_events(events: Vec<Event>) -> Value {
    serde_json::to_value(describe(events)).unwrap_or_default()
}

/// Builds the JSON form of a machine, with the current name of its node.
async fn show_machine(request: &ApiRequest, machine: &Machine) -> Result<Value, Fault> {
    let mut body = serde_json::to_value(machine).unwrap_or_default();
    if let Some(uuid) = machine.node {
        let node = request.state.inventory.get::<Node>(uuid).await?;
        body["name"] = node.and_then(|node| node.value.name).into();
    }
    Ok(body)
}

fn parse_state(text: &str) -> Result<BootState, Fault> {
    let state = BootState::ALL.into_iter().find(|state| state.as_str() == text);
    state.ok_or_else(|| {
        let all = BootState::ALL.map(BootState::as_str).join(", ");
        Fault::Invalid(format!("Invalid state \"{text}\"; valid states are {all}"))
    })
}

fn parse_machine_id(text: &str) -> Result<MachineId, Fault> {
    text.parse().map_err(|error| Fault::Invalid(format!("\"{text}\": {error}")))
}

fn machine_not_found(id: MachineId) -> Fault {
    Fault::NotFound(format!("Machine {id} could not be found."))
}
