//! What Ironic's management and network interfaces do: boot devices and virtual network interfaces.
//!
//! Machines here boot from the network, so the boot device is `pxe`, always. Virtual interfaces are taken and
//! forgotten, as Ironic's `noop` network interface does; Nova wants to attach them.

use serde_json::{Value, json};

use super::call::{Arguments, At, Call};
use super::fault::Fault;
use super::node::{found, is_name};
use super::reply::{Answer, Reply};
use super::version::Version;

/// From what a machine can be set to boot.
const DEVICES: [&str; 1] = ["pxe"];

/// `GET /v1/nodes/{node}/management/boot_device`
pub(super) async fn boot_device(call: Call, At(ident): At<String>) -> Answer {
    found(&call, &ident).await?;
    Ok(Reply::Shown(json!({"boot_device": DEVICES[0], "persistent": true})))
}

/// `PUT /v1/nodes/{node}/management/boot_device`
pub(super) async fn set_boot_device(call: Call, At(ident): At<String>, arguments: Arguments) -> Answer {
    arguments.only(&["boot_device", "persistent"])?;
    let device = arguments.required_text("boot_device")?;
    arguments.flag("persistent")?;
    found(&call, &ident).await?;
    if DEVICES.contains(&device) {
        return Ok(Reply::Done);
    }
    Err(Fault::Invalid(format!("Invalid boot device {device} specified.")))
}

/// `GET /v1/nodes/{node}/management/boot_device/supported`
pub(super) async fn supported_boot_devices(call: Call, At(ident): At<String>) -> Answer {
    found(&call, &ident).await?;
    Ok(Reply::Shown(json!({"supported_boot_devices": DEVICES})))
}

/// `GET /v1/nodes/{node}/vifs`
pub(super) async fn vifs(call: Call, At(ident): At<String>) -> Answer {
    found(&call, &ident).await?;
    Ok(Reply::Shown(json!({"vifs": []})))
}

/// `POST /v1/nodes/{node}/vifs`. What else stands beside `id` is for network interfaces that we do not have.
pub(super) async fn attach_vif(call: Call, At(ident): At<String>, arguments: Arguments) -> Answer {
    let id = match arguments.get("id") {
        Some(Value::String(id)) => id,
        Some(other) => {
            let other = super::fault::quoted(other);
            return Err(Fault::Invalid(format!("Schema error for vif: {other} is not of type 'string'")));
        }
        None => return Err(Fault::Invalid("Schema error for vif: 'id' is a required property".into())),
    };
    check_vif(id)?;
    found(&call, &ident).await?;
    Ok(Reply::Done)
}

/// `DELETE /v1/nodes/{node}/vifs/{vif}`
pub(super) async fn detach_vif(call: Call, At((ident, vif)): At<(String, String)>) -> Answer {
    check_vif(&vif)?;
    found(&call, &ident).await?;
    Ok(Reply::Done)
}

fn check_vif(id: &str) -> Result<(), Fault> {
    if is_name(id, Version::MAX) {
        return Ok(());
    }
    Err(Fault::Invalid(format!("Expected UUID or name for id: {id}")))
}
