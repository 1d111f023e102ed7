//! `/v1/drivers`: the drivers there are, and which interfaces each has.

use serde_json::{Map, Value, json};

use super::call::{At, Call};
use super::fault::Fault;
use super::interfaces::{DRIVERS, Driver, TYPES, driver};
use super::reply::{Answer, Reply};

/// `GET /v1/drivers`
pub(super) async fn list(call: Call) -> Answer {
    call.query.only(&["type", "detail", "fields"])?;
    let kind = call.query.text("type")?;
    let detail = call.query.flag("detail")?;
    if call.query.has("fields") {
        return Err(Fault::too_new());
    }
    if kind.is_some() || detail.is_some() {
        call.needs(30)?;
    }
    let drivers = match kind {
        None | Some("dynamic") => DRIVERS.iter(),
        // Ironic's drivers of before 2017: there are none any more, there either.
        Some("classic") => [].iter(),
        Some(_) => {
            return Err(Fault::Invalid(
                "\"type\" filter must be one of \"classic\" or \"dynamic\", if specified.".into(),
            ));
        }
    };
    let drivers: Vec<_> = drivers.map(|driver| shown(driver, &call, detail == Some(true))).collect();
    Ok(Reply::Shown(json!({"drivers": drivers})))
}

/// `GET /v1/drivers/{driver}`
pub(super) async fn get(call: Call, At(name): At<String>) -> Answer {
    if call.query.has("fields") {
        return Err(Fault::too_new());
    }
    Ok(Reply::Shown(shown(known(&name)?, &call, true)))
}

/// `GET /v1/drivers/{driver}/properties`: what `driver_info` must hold for it, which is nothing.
pub(super) async fn properties(At(name): At<String>) -> Answer {
    known(&name).map(|_| Reply::Shown(json!({})))
}

/// `GET /v1/drivers/properties?driver_name=`
pub(super) async fn properties_by_query(call: Call) -> Answer {
    call.query.only(&["driver_name"])?;
    match call.query.text("driver_name")? {
        Some(name) => known(name).map(|_| Reply::Shown(json!({}))),
        None => Err(Fault::Invalid("Missing mandatory parameter: driver_name".into())),
    }
}

/// The driver of a name that a client gave.
pub(super) fn known(name: &str) -> Result<&'static Driver, Fault> {
    driver(name).ok_or_else(|| {
        Fault::NotFound(format!("Could not find the following driver(s) or hardware type(s): {name}."))
    })
}

fn shown(driver: &Driver, call: &Call, detail: bool) -> Value {
    let name = driver.name;
    let mut shown = Map::new();
    shown.insert("name".into(), name.into());
    // Ironic names the conductors that serve it; clients want at least one.
    shown.insert("hosts".into(), json!(["volboot"]));
    shown.insert("links".into(), call.links.pair(&format!("drivers/{name}")));
    if call.needs(14).is_ok() {
        shown.insert("properties".into(), call.links.pair(&format!("drivers/{name}/properties")));
    }
    if call.needs(30).is_ok() {
        shown.insert("type".into(), "dynamic".into());
        if detail {
            for (kind, _) in TYPES {
                interface(&mut shown, kind, driver.enabled(kind).iter().copied());
            }
        }
    }
    if call.needs(33).is_ok() && detail {
        let (enabled, default) =
            (&call.state.enabled_storage_interfaces, &call.state.default_storage_interface);
        let names = [default].into_iter().chain(enabled.iter().filter(|name| *name != default));
        interface(&mut shown, "storage", names.map(crate::model::StorageInterface::as_str));
    }
    shown.into()
}

/// The interfaces of a type, the default first.
fn interface<'a>(shown: &mut Map<String, Value>, kind: &str, enabled: impl Iterator<Item = &'a str>) {
    let enabled: Vec<_> = enabled.collect();
    shown.insert(format!("default_{kind}_interface"), enabled.first().copied().into());
    shown.insert(format!("enabled_{kind}_interfaces"), enabled.into());
}
