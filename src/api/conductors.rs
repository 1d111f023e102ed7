//! `/v1/conductors`: the services that manage nodes. Each instance on the store is one.

use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::field::{Field, FieldValues, Shape};
use super::list::{PAGE_ARGUMENTS, parse_limit, parse_sort_direction, parse_sort_key};
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, PathParam};
use super::resource::{FieldSelection, format_time, show_fields};
use super::route::{RecordSchema, Route};
use super::version::Microversion;
use crate::model::{Conductor, ConductorGroup, Node};
use crate::operator::ConductorStatus;

/// The path below `/v1/`, and the key of the list.
const PATH: &str = "conductors";

/// The first microversion with conductors.
const SINCE: Microversion = Microversion(49);

const FIELDS: &[Field] = &[
    Field::read_only("hostname", Shape::Text(255)).in_summary(),
    Field::read_only("conductor_group", Shape::Text(255)).in_summary(),
    Field::read_only("alive", Shape::Flag).in_summary().unsortable(),
    Field::read_only("drivers", Shape::TextList),
    Field::read_only("created_at", Shape::Time),
    Field::read_only("updated_at", Shape::Time),
    Field::read_only("links", Shape::Links),
];

/// The description of a conductor.
const SCHEMA: RecordSchema = RecordSchema { name: "conductor", list: PATH, fields: FIELDS };

/// The operations on conductors.
pub(super) fn routes() -> Vec<Route> {
    let routes = vec![
        Route::get("/v1/conductors", "List conductors: the instances on the store", list)
            .returns_schema_page(SCHEMA),
        Route::get("/v1/conductors/{conductor}", "Show a conductor", get).returns_schema(SCHEMA),
    ];
    routes.into_iter().map(|route| route.since(SINCE.0)).collect()
}

/// `GET /v1/conductors`
pub(super) async fn list(request: ApiRequest) -> HandlerResult {
    let query = &request.query;
    query.reject_unknown(&[&PAGE_ARGUMENTS[..], &["fields", "detail"]].concat())?;
    let selection = FieldSelection::for_list(FIELDS, &request, SINCE)?;
    let limit = parse_limit(query)?;
    let (sort_key, _) = parse_sort_key(FIELDS, &request)?;
    let direction = parse_sort_direction(query)?;
    let marker = query.text("marker")?;
    let mut listed = request.operator.conductors();
    match sort_key {
        "conductor_group" => listed.sort_by(|a, b| a.group.cmp(&b.group)),
        "created_at" => listed.sort_by_key(|conductor| conductor.started_at),
        // By name.
        _ => {}
    }
    if direction == "desc" {
        listed.reverse();
    }
    if let Some(marker) = marker {
        let at = listed.iter().position(|conductor| conductor.hostname == marker);
        listed.drain(..=at.ok_or_else(|| conductor_not_found(marker))?);
    }
    listed.truncate(limit);
    let mut page = Map::new();
    if let Some(last) = listed.last().filter(|_| listed.len() == limit) {
        let sort = [("sort_key", sort_key), ("sort_dir", direction)];
        let rest = query.next_page(&sort, limit, &last.hostname);
        page.insert("next".into(), format!("{}?{rest}", request.links.url(PATH)).into());
    }
    let conductors: Vec<_> = listed.iter().map(|conductor| show(&request, &selection, conductor)).collect();
    page.insert(PATH.into(), conductors.into());
    Ok(Reply::Json(page.into()))
}

/// `GET /v1/conductors/{conductor}`
pub(super) async fn get(request: ApiRequest, PathParam(hostname): PathParam<String>) -> HandlerResult {
    request.query.reject_unknown(&["fields"])?;
    let selection = FieldSelection::among(FIELDS, &request)?;
    // The host's name itself may end with `.json`.
    let suffix = if request.json_suffix { ".json" } else { "" };
    let conductors = request.operator.conductors();
    let find = |name: &str| conductors.iter().find(|conductor| conductor.hostname == name);
    let conductor = find(&hostname).or_else(|| find(&format!("{hostname}{suffix}")));
    Ok(Reply::Json(show(&request, &selection, conductor.ok_or_else(|| conductor_not_found(&hostname))?)))
}

fn conductor_not_found(hostname: &str) -> Fault {
    Fault::NotFound(format!("Conductor {hostname} could not be found."))
}

/// Builds the JSON form of a conductor. The last heartbeat of this instance is the response itself.
fn show(request: &ApiRequest, selection: &FieldSelection, conductor: &ConductorStatus) -> Value {
    show_fields(FIELDS, request, selection, |name| match name {
        "hostname" => conductor.hostname.as_str().into(),
        "conductor_group" => conductor.group.as_str().into(),
        "alive" => conductor.is_alive.into(),
        // All instances have the same configuration; a difference is a warning.
        "drivers" => {
            json!(request.operator.conductor.hardware.drivers().map(|driver| driver.name).collect::<Vec<_>>())
        }
        "created_at" => format_time(conductor.started_at),
        "updated_at" => format_time(conductor.updated_at.unwrap_or(request.now)),
        "links" => request.links.pair(&format!("{PATH}/{}", conductor.hostname)),
        _ => Value::Null,
    })
}

/// Reads the conductor group of a node: its present group, or that of the conductor. No conductor is in other groups.
pub(super) fn read_conductor_group(
    node: &Node,
    values: &FieldValues,
    conductor: &Conductor,
) -> Result<ConductorGroup, Fault> {
    let Some(text) = values.text("conductor_group") else { return Ok(conductor.group.clone()) };
    match text.parse::<ConductorGroup>() {
        Ok(group) if group == node.conductor_group => Ok(group),
        // As in Ironic, an empty name is the default at creation.
        Ok(group) if group == conductor.group || group == ConductorGroup::default() => {
            Ok(conductor.group.clone())
        }
        Ok(_) | Err(_) => Err(Fault::Invalid(format!(
            "No valid host was found. Reason: No conductor service registered which supports driver {} for \
             conductor group \"{}\".",
            values.text("driver").unwrap_or_default(),
            text.to_lowercase()
        ))),
    }
}
