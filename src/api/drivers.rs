//! `/v1/drivers`: lists the drivers and their interfaces.

use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, PathParam};
use super::resource::ApiResource as _;
use super::version::Microversion;
use crate::model::{Driver, INTERFACE_TYPES, Node, StorageInterface};
use crate::power::DRIVER_INFO_PROPERTIES;

/// `GET /v1/drivers`
pub(super) async fn list(request: ApiRequest) -> HandlerResult {
    request.query.reject_unknown(&["type", "detail", "fields"])?;
    let kind = request.query.text("type")?;
    let detail = request.query.flag("detail")?;
    if request.query.has("fields") {
        request.require_version(77)?;
    }
    if kind.is_some() || detail.is_some() {
        request.require_version(30)?;
    }
    let drivers = match kind {
        None | Some("dynamic") => request.operator.conductor.hardware.drivers().collect(),
        // Ironic's drivers before 2017; Ironic itself has removed them.
        Some("classic") => Vec::new(),
        Some(_) => {
            return Err(Fault::Invalid(
                "\"type\" filter must be one of \"classic\" or \"dynamic\", if specified.".into(),
            ));
        }
    };
    let drivers: Vec<_> =
        drivers.into_iter().map(|driver| show_driver(driver, &request, detail == Some(true))).collect();
    Ok(Reply::Json(json!({"drivers": drivers})))
}

/// `GET /v1/drivers/{driver}`
pub(super) async fn get(request: ApiRequest, PathParam(name): PathParam<String>) -> HandlerResult {
    if request.query.has("fields") {
        request.require_version(77)?;
    }
    Ok(Reply::Json(show_driver(require_driver(&request, &name)?, &request, true)))
}

/// `GET /v1/drivers/{driver}/properties`: the keys of `driver_info`; only `redfish` has any.
pub(super) async fn properties(request: ApiRequest, PathParam(name): PathParam<String>) -> HandlerResult {
    require_driver(&request, &name).map(show_properties)
}

/// `GET /v1/drivers/properties?driver_name=`
pub(super) async fn properties_by_query(request: ApiRequest) -> HandlerResult {
    request.query.reject_unknown(&["driver_name"])?;
    match request.query.text("driver_name")? {
        Some(name) => require_driver(&request, name).map(show_properties),
        None => Err(Fault::Invalid("Missing mandatory parameter: driver_name".into())),
    }
}

fn show_properties(driver: &Driver) -> Reply {
    let has_bmc = driver.supported_interfaces("power").contains(&"redfish");
    let properties = DRIVER_INFO_PROPERTIES.into_iter().filter(|_| has_bmc);
    Reply::Json(properties.map(|(key, text)| (key.to_owned(), text.into())).collect::<Map<_, Value>>().into())
}

/// Finds the enabled driver that a client named, or returns 404.
pub(super) fn require_driver(request: &ApiRequest, name: &str) -> Result<&'static Driver, Fault> {
    request.operator.conductor.hardware.find(name).ok_or_else(|| {
        Fault::NotFound(format!("Could not find the following driver(s) or hardware type(s): {name}."))
    })
}

fn show_driver(driver: &Driver, request: &ApiRequest, detail: bool) -> Value {
    let name = driver.name;
    // The interfaces of most types came with 1.30, those of later types with the field of the node.
    let version = request.version.max(Microversion(31));
    let is_shown = |name: &str| Node::FIELDS.iter().any(|field| field.name == name && field.is_in(version));
    let mut body = Map::new();
    body.insert("name".into(), name.into());
    // The conductors with this driver.
    let conductors = request.operator.conductors();
    let hosts: Vec<_> = conductors.iter().filter(|host| host.is_alive).map(|host| &host.hostname).collect();
    body.insert("hosts".into(), json!(hosts));
    body.insert("links".into(), request.links.pair(&format!("drivers/{name}")));
    if request.require_version(14).is_ok() {
        body.insert("properties".into(), request.links.pair(&format!("drivers/{name}/properties")));
    }
    if request.require_version(30).is_ok() {
        body.insert("type".into(), "dynamic".into());
        if detail {
            for (kind, _) in INTERFACE_TYPES.iter().filter(|(_, field)| is_shown(field)) {
                let enabled = request.operator.conductor.hardware.interfaces(driver, kind);
                insert_interfaces(&mut body, kind, enabled.into_iter());
            }
        }
    }
    if detail && is_shown("storage_interface") {
        let (enabled, default) =
            (&request.operator.enabled_storage_interfaces, &request.operator.default_storage_interface);
        let names = [default].into_iter().chain(enabled.iter().filter(|name| *name != default));
        insert_interfaces(&mut body, "storage", names.map(StorageInterface::as_str));
    }
    body.into()
}

/// Inserts the interfaces of a type; the default is the first.
fn insert_interfaces<'a>(body: &mut Map<String, Value>, kind: &str, enabled: impl Iterator<Item = &'a str>) {
    let enabled: Vec<_> = enabled.collect();
    body.insert(format!("default_{kind}_interface"), enabled.first().copied().into());
    body.insert(format!("enabled_{kind}_interfaces"), enabled.into());
}
