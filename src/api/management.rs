//! Boot devices and virtual network interfaces (VIFs): Ironic's management and network interfaces.
//!
//! Machines always boot from the network, so the boot device is always `pxe`. VIFs are accepted and not stored, as in
//! Ironic's `noop` network interface; Nova requires the call to succeed.

use serde_json::{Value, json};

use super::fault::Fault;
use super::node::find_node;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, Arguments, PathParam};
use crate::model::is_logical_name;

/// The supported boot devices.
const DEVICES: [&str; 1] = ["pxe"];

/// `GET /v1/nodes/{node}/management/boot_device`
pub(super) async fn get_boot_device(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
) -> HandlerResult {
    find_node(&request, &ident).await?;
    Ok(Reply::Json(json!({"boot_device": DEVICES[0], "persistent": true})))
}

/// `PUT /v1/nodes/{node}/management/boot_device`
pub(super) async fn set_boot_device(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    arguments: Arguments,
) -> HandlerResult {
    arguments.reject_unknown(&["boot_device", "persistent"])?;
    let device = arguments.required_text("boot_device")?;
    arguments.flag("persistent")?;
    find_node(&request, &ident).await?;
    if DEVICES.contains(&device) {
        return Ok(Reply::NoContent);
    }
    Err(Fault::Invalid(format!("Invalid boot device {device} specified.")))
}

/// `GET /v1/nodes/{node}/management/boot_device/supported`
pub(super) async fn list_boot_devices(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
) -> HandlerResult {
    find_node(&request, &ident).await?;
    Ok(Reply::Json(json!({"supported_boot_devices": DEVICES})))
}

/// `GET /v1/nodes/{node}/vifs`
pub(super) async fn list_vifs(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    find_node(&request, &ident).await?;
    Ok(Reply::Json(json!({"vifs": []})))
}

/// `POST /v1/nodes/{node}/vifs`. Arguments other than `id` are for unsupported network interfaces and are ignored.
pub(super) async fn attach_vif(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    arguments: Arguments,
) -> HandlerResult {
    let id = match arguments.get("id") {
        Some(Value::String(id)) => id,
        Some(other) => {
            let other = super::fault::quote(other);
            return Err(Fault::Invalid(format!("Schema error for vif: {other} is not of type 'string'")));
        }
        None => return Err(Fault::Invalid("Schema error for vif: 'id' is a required property".into())),
    };
    check_vif(id)?;
    find_node(&request, &ident).await?;
    Ok(Reply::NoContent)
}

/// `DELETE /v1/nodes/{node}/vifs/{vif}`
pub(super) async fn detach_vif(
    request: ApiRequest,
    PathParam((ident, vif)): PathParam<(String, String)>,
) -> HandlerResult {
    check_vif(&vif)?;
    find_node(&request, &ident).await?;
    Ok(Reply::NoContent)
}

fn check_vif(id: &str) -> Result<(), Fault> {
    if is_logical_name(id) {
        return Ok(());
    }
    Err(Fault::Invalid(format!("Expected UUID or name for id: {id}")))
}
