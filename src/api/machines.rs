//! `/v1/machines` and `boot-history` of a node: machines and their timelines, including machines without a node.
//!
//! A volboot extension; Ironic has no such paths.

use serde_json::{Map, json};

use super::fault::Fault;
use super::list::parse_limit;
use super::node::find_node;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, PathParam};
use crate::model::NodePower;
use crate::operator::Operator;
use crate::timeline::{BootState, MachineId, MedianPhases, TimelineEntry, trace_boots};

/// The query arguments of the list.
pub(super) const ARGUMENTS: [&str; 4] = ["state", "q", "limit", "after"];

/// `GET /v1/machines`: the machine with the most recent event first.
pub(super) async fn list(request: ApiRequest) -> HandlerResult {
    request.query.reject_unknown(&ARGUMENTS)?;
    let state = request.query.text("state")?.map(parse_state).transpose()?;
    let text = request.query.text("q")?.map(str::to_lowercase);
    let after = request.query.text("after")?.map(parse_machine_id).transpose()?;
    let limit = parse_limit(&request.query)?;
    let operator = &request.operator;
    let mut machines = operator.timeline.machines(|machine| {
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
    let mut page = machines.split_off(from);
    let has_more = page.len() > limit;
    page.truncate(limit);
    let mut body = Map::new();
    if let Some(last) = page.last().filter(|_| has_more) {
        // A machine's id needs no encoding.
        let mut rest = form_urlencoded::Serializer::new(format!("limit={limit}&after={}", last.id));
        for name in ["state", "q"] {
            if let Some(text) = request.query.text(name)? {
                rest.append_pair(name, text);
            }
        }
        body.insert("next".into(), format!("{}?{}", request.links.url("machines"), rest.finish()).into());
    }
    operator.update_names(&mut page).await?;
    body.insert("machines".into(), json!(page));
    Ok(Reply::Json(body.into()))
}

/// `GET /v1/machines/{machine}`
pub(super) async fn get(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let id = parse_machine_id(&ident)?;
    let operator = &request.operator;
    let mut machine = operator.timeline.machine(id).ok_or_else(|| machine_not_found(id))?;
    operator.update_names(std::slice::from_mut(&mut machine)).await?;
    let power = operator.find_power(&machine).await?;
    let mut body = json!(machine);
    body["power"] = json!(power);
    body["missing_events"] = json!(operator.membership.missing_events());
    let timeline = read_timeline(operator, vec![id]).await?;
    body["phases"] = json!(machine.milestones.phases());
    body["median_phases"] = json!(find_median(&timeline));
    body["timeline"] = json!(timeline);
    Ok(Reply::Json(body))
}

/// `GET /v1/nodes/{node}/boot-history`: the events of all machines with one of the node's ports or last identified as
/// the node.
pub(super) async fn boot_history(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let node = find_node(&request, &ident).await?;
    let operator = &request.operator;
    let mut machines = operator.list_machines_of_node(node.uuid).await?;
    operator.update_names(&mut machines).await?;
    let ids = machines.iter().map(|machine| machine.id).collect();
    let requested_boot_at = machines.iter().filter_map(|machine| machine.inferred_on_at).max();
    Ok(Reply::Json(json!({
        "node": {"uuid": node.uuid, "name": node.name},
        "power": NodePower::new(&node, requested_boot_at),
        "verdict": machines.first().map(|machine| &machine.verdict),
        "machines": machines,
        "missing_events": operator.membership.missing_events(),
        "timeline": read_timeline(operator, ids).await?,
    })))
}

/// Reads the events of machines, the oldest first.
async fn read_timeline(operator: &Operator, ids: Vec<MachineId>) -> Result<Vec<TimelineEntry>, Fault> {
    operator.read_timeline(ids).await.map_err(|_| Fault::Internal)
}

/// The medians of the boots before the last one.
fn find_median(timeline: &[TimelineEntry]) -> Option<MedianPhases> {
    let events: Vec<_> = timeline.iter().map(|entry| entry.event.clone()).collect();
    let boots = trace_boots(&events);
    boots.split_last().and_then(|(_, earlier)| MedianPhases::new(earlier))
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
