//! Boot devices and virtual network interfaces (VIFs): Ironic's management and network interfaces.
//!
//! Management interface `redfish` reads and sets the boot device at the BMC. Other machines always boot from the network,
//! so their boot device is `pxe`, as in Ironic's management interfaces `fake` and `noop`. With `noop`, a boot device `disk`
//! for one boot is a one-time boot from the local disk. VIFs are accepted and not
//! stored, as in Ironic's `noop` network interface; Nova requires the call to succeed.

use serde_json::{Value, json};

use super::fault::Fault;
use super::node::find_node;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, Arguments, PathParam};
use crate::model::{Node, OnceSource, is_logical_name};
use crate::operator::{MAX_ONCE_TTL, OnceRequest, check_unreserved};
use crate::power::{BOOT_DEVICES, BootDevice};

/// The boot device that is a one-time boot from the local disk.
const DISK: &str = "disk";

/// The boot devices of a management interface.
#[derive(Debug, Clone, Copy)]
struct BootDevices {
    /// The supported devices. The current one is the first.
    supported: &'static [&'static str],
    /// Whether the current device stays after the next boot.
    persistent: bool,
}

impl BootDevices {
    const FAKE: Self = Self { supported: &["pxe"], persistent: false };
    /// The operator has set the firmware's boot order, so a change for all boots is accepted and without effect.
    const NOOP: Self = Self { supported: &["pxe", DISK], persistent: true };

    fn of(node: &Node) -> Self {
        if node.interface("management") == Some("fake") { Self::FAKE } else { Self::NOOP }
    }
}

/// `GET /v1/nodes/{node}/management/boot_device`
pub(super) async fn get_boot_device(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
) -> HandlerResult {
    let node = find_node(&request, &ident).await?;
    if node.has_managed_boot_device() {
        let state = request.operator.read_boot_device(&node).await?;
        let device = state.device.map(BootDevice::as_str);
        return Ok(Reply::Json(json!({"boot_device": device, "persistent": state.persistent})));
    }
    let once = request.operator.find_boot_once(&node).await?;
    if once.is_some_and(|once| once.source == OnceSource::Local && once.is_armed(request.now)) {
        return Ok(Reply::Json(json!({"boot_device": DISK, "persistent": false})));
    }
    let devices = BootDevices::of(&node);
    Ok(Reply::Json(json!({"boot_device": devices.supported[0], "persistent": devices.persistent})))
}

/// `PUT /v1/nodes/{node}/management/boot_device`
pub(super) async fn set_boot_device(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    arguments: Arguments,
) -> HandlerResult {
    arguments.reject_unknown(&["boot_device", "persistent"])?;
    let device = arguments.required_text("boot_device")?;
    let persistent = arguments.flag("persistent")?.unwrap_or(false);
    let node = find_node(&request, &ident).await?;
    let supported = list_supported(&node);
    if supported.contains(&device) {
        check_unreserved(&node)?;
        if let Some(device) = BootDevice::parse(device).filter(|_| node.has_managed_boot_device()) {
            request.operator.set_boot_device(&node, device, persistent).await?;
        } else if device == DISK && !persistent {
            let once = OnceRequest {
                source: OnceSource::Local,
                with_volumes: false,
                shared: false,
                ttl: MAX_ONCE_TTL,
            };
            request.operator.set_boot_once(&node, once, request.now).await?;
        } else {
            request.operator.cancel_local_boot(&node, request.now).await?;
        }
        return Ok(Reply::NoContent);
    }
    let supported = supported.join(", ");
    Err(Fault::Invalid(format!("Invalid boot device {device} specified, supported are {supported}.")))
}

/// `GET /v1/nodes/{node}/management/boot_device/supported`
pub(super) async fn list_boot_devices(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
) -> HandlerResult {
    let node = find_node(&request, &ident).await?;
    Ok(Reply::Json(json!({"supported_boot_devices": list_supported(&node)})))
}

/// The boot devices of a node's management interface.
fn list_supported(node: &Node) -> Vec<&'static str> {
    if node.has_managed_boot_device() {
        return BOOT_DEVICES.map(BootDevice::as_str).to_vec();
    }
    BootDevices::of(node).supported.to_vec()
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
