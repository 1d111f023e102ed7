//! `/v1/machines`, and `boot-history` of a node: what happened to machines, those nobody registered among them.
//!
//! An extension of ours: Ironic has no such paths.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::call::{At, Call};
use super::fault::Fault;
use super::node::found;
use super::reply::{Answer, Reply};
use crate::model::{Node, Port};
use crate::telemetry::Event;
use crate::timeline::{Key, Machine, State, words};

/// What a list can be asked for.
pub(super) const ARGUMENTS: [&str; 4] = ["state", "q", "limit", "after"];
/// The longest page.
const LONGEST_PAGE: usize = 1000;

/// `GET /v1/machines`: the one last heard of first.
pub(super) async fn list(call: Call) -> Answer {
    call.query.only(&ARGUMENTS)?;
    let state = call.query.text("state")?.map(state).transpose()?;
    let text = call.query.text("q")?.map(str::to_lowercase);
    let after = call.query.text("after")?.map(key).transpose()?;
    let limit = match call.query.integer("limit")? {
        None => LONGEST_PAGE,
        Some(limit) if limit <= 0 => return Err(Fault::Invalid("Limit must be positive".into())),
        Some(limit) => usize::try_from(limit).unwrap_or(LONGEST_PAGE).min(LONGEST_PAGE),
    };
    let machines = call.state.watch.timeline.machines(|machine| {
        state.is_none_or(|state| machine.verdict.state == state)
            && text.as_deref().is_none_or(|text| machine.mentions(text))
    });
    let from = match after {
        None => 0,
        Some(after) => match machines.iter().position(|machine| machine.id == after) {
            Some(at) => at + 1,
            None => return Err(missing(after)),
        },
    };
    let page = machines.get(from..).unwrap_or_default();
    let mut body = Map::new();
    if let Some(last) = page.get(..limit).filter(|_| page.len() > limit).and_then(<[_]>::last) {
        let mut rest = format!("limit={limit}&after={}", last.id);
        for name in ["state", "q"] {
            if let Some(text) = call.query.text(name)? {
                rest.push_str(&format!("&{name}={}", super::query::encoded(text)));
            }
        }
        body.insert("next".into(), format!("{}?{rest}", call.links.to("machines")).into());
    }
    let mut shown = Vec::new();
    for machine in page.iter().take(limit) {
        shown.push(show(&call, machine).await?);
    }
    body.insert("machines".into(), shown.into());
    Ok(Reply::Shown(body.into()))
}

/// `GET /v1/machines/{machine}`
pub(super) async fn get(call: Call, At(ident): At<String>) -> Answer {
    let key = key(&ident)?;
    let machine = call.state.watch.timeline.machine(key).ok_or_else(|| missing(key))?;
    let mut body = show(&call, &machine).await?;
    body["timeline"] = told(events(&call, vec![key]).await?);
    Ok(Reply::Shown(body))
}

/// `GET /v1/nodes/{node}/boot-history`: of all machines that are, or were last taken for, this node.
pub(super) async fn of_node(call: Call, At(ident): At<String>) -> Answer {
    let node = found(&call, &ident).await?;
    let machines = machines_of(&call, node.uuid).await?;
    let keys = machines.iter().map(|machine| machine.id).collect();
    let mut shown = Vec::new();
    for machine in &machines {
        shown.push(show(&call, machine).await?);
    }
    Ok(Reply::Shown(json!({
        "node": {"uuid": node.uuid, "name": node.name},
        "verdict": machines.first().map(|machine| &machine.verdict),
        "machines": shown,
        "timeline": told(events(&call, keys).await?),
    })))
}

/// The machines of a node, the one last heard of first.
pub(super) async fn machines_of(call: &Call, node: Uuid) -> Result<Vec<Machine>, Fault> {
    let ports: Vec<Port> = call.state.inventory.all_of(node).await?;
    let has = |machine: &Machine| ports.iter().any(|port| machine.id == Key::Mac(port.address));
    let timeline = &call.state.watch.timeline;
    Ok(timeline.machines(|machine| machine.node == Some(node) || has(machine)))
}

/// What happened to machines, the oldest first.
async fn events(call: &Call, of: Vec<Key>) -> Result<Vec<Event>, Fault> {
    let timeline = call.state.watch.timeline.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut events: Vec<Event> = of.into_iter().flat_map(|key| timeline.events_blocking(key)).collect();
        events.sort_by_key(|event| event.at);
        events
    });
    read.await.map_err(|_| Fault::Broken)
}

fn told(events: Vec<Event>) -> Value {
    serde_json::to_value(words(events)).unwrap_or_default()
}

/// A machine, and what its node is called now.
async fn show(call: &Call, machine: &Machine) -> Result<Value, Fault> {
    let mut shown = serde_json::to_value(machine).unwrap_or_default();
    if let Some(uuid) = machine.node {
        let node = call.state.inventory.get::<Node>(uuid).await?;
        shown["name"] = node.and_then(|node| node.value.name).into();
    }
    Ok(shown)
}

fn state(text: &str) -> Result<State, Fault> {
    let known = State::ALL.into_iter().find(|state| state.as_str() == text);
    known.ok_or_else(|| {
        let all = State::ALL.map(State::as_str).join(", ");
        Fault::Invalid(format!("There is no state \"{text}\". The states are {all}"))
    })
}

fn key(text: &str) -> Result<Key, Fault> {
    text.parse().map_err(|error| Fault::Invalid(format!("\"{text}\": {error}")))
}

fn missing(key: Key) -> Fault {
    Fault::NotFound(format!("Machine {key} could not be found."))
}
