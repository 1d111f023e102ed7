//! `/v1/conductors`: the services that manage nodes. Each volboot process is one; it knows only itself.

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
        Route::get("/v1/conductors", "List conductors: this process", list).returns_schema_page(SCHEMA),
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
    if let Some(marker) = marker {
        require_conductor(&request, marker)?;
    }
    // A marker is the only conductor, behind which there is none.
    let conductors: Vec<_> = marker.is_none().then(|| show(&request, &selection)).into_iter().collect();
    let mut page = Map::new();
    if conductors.len() == limit {
        let sort = [("sort_key", sort_key), ("sort_dir", direction)];
        let rest = query.next_page(&sort, limit, &request.operator.conductor.hostname);
        page.insert("next".into(), format!("{}?{rest}", request.links.url(PATH)).into());
    }
    page.insert(PATH.into(), conductors.into());
    Ok(Reply::Json(page.into()))
}

/// `GET /v1/conductors/{conductor}`
pub(super) async fn get(request: ApiRequest, PathParam(hostname): PathParam<String>) -> HandlerResult {
    request.query.reject_unknown(&["fields"])?;
    let selection = FieldSelection::among(FIELDS, &request)?;
    // The host's name itself may end with `.json`.
    let suffix = if request.json_suffix { ".json" } else { "" };
    require_conductor(&request, &hostname)
        .or_else(|fault| require_conductor(&request, &format!("{hostname}{suffix}")).map_err(|_| fault))?;
    Ok(Reply::Json(show(&request, &selection)))
}

fn require_conductor(request: &ApiRequest, hostname: &str) -> Result<(), Fault> {
    if request.operator.conductor.hostname == hostname {
        return Ok(());
    }
    Err(Fault::NotFound(format!("Conductor {hostname} could not be found.")))
}

/// Builds the JSON form of this conductor. The last heartbeat is the response itself.
fn show(request: &ApiRequest, selection: &FieldSelection) -> Value {
    let (conductor, appliance) = (&request.operator.conductor, &request.operator.appliance);
    show_fields(FIELDS, request, selection, |name| match name {
        "hostname" => conductor.hostname.clone().into(),
        "conductor_group" => conductor.group.as_str().into(),
        "alive" => true.into(),
        "drivers" => json!(conductor.hardware.drivers().map(|driver| driver.name).collect::<Vec<_>>()),
        "created_at" => format_time(appliance.started_at),
        "updated_at" => format_time(request.now),
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
