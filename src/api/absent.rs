//! What Ironic can do and the interfaces of these drivers cannot: consoles, RAID, interrupts, vendors' methods, and
//! the deploy agent. Answered as an Ironic answers whose drivers lack it.

use serde_json::json;

use super::call::{At, Call};
use super::drivers::known;
use super::fault::Fault;
use super::node::found;
use super::reply::{Answer, Reply};

/// `GET /v1/nodes/{node}/states/console`
pub(super) async fn console(call: Call, At(ident): At<String>) -> Answer {
    found(&call, &ident).await?;
    Ok(Reply::Shown(json!({"console_enabled": false, "console_info": null})))
}

/// `PUT /v1/nodes/{node}/states/console`
pub(super) async fn set_console(call: Call, At(ident): At<String>) -> Answer {
    let node = found(&call, &ident).await?;
    Err(Fault::unsupported(&node.driver, "console"))
}

/// `PUT /v1/nodes/{node}/states/raid`: 404, as in Ironic.
pub(super) async fn set_raid(call: Call, At(ident): At<String>) -> Answer {
    let node = found(&call, &ident).await?;
    call.needs(12)?;
    Err(Fault::NotFound(Fault::unsupported(&node.driver, "raid").to_string()))
}

/// `PUT /v1/nodes/{node}/management/inject_nmi`
pub(super) async fn inject_nmi(call: Call, At(ident): At<String>) -> Answer {
    let node = found(&call, &ident).await?;
    Err(Fault::unsupported(&node.driver, "inject_nmi"))
}

/// `GET /v1/nodes/{node}/vendor_passthru/methods`
pub(super) async fn node_methods(call: Call, At(ident): At<String>) -> Answer {
    found(&call, &ident).await?;
    Ok(Reply::Shown(json!({})))
}

/// Any method on `/v1/nodes/{node}/vendor_passthru/{method}`
pub(super) async fn node_method(call: Call, At((ident, method)): At<(String, String)>) -> Answer {
    found(&call, &ident).await?;
    Err(Fault::Invalid(format!("No handler for method {method}")))
}

/// `GET /v1/drivers/{driver}/vendor_passthru/methods`
pub(super) async fn driver_methods(At(name): At<String>) -> Answer {
    known(&name).map(|_| Reply::Shown(json!({})))
}

/// Any method on `/v1/drivers/{driver}/vendor_passthru/{method}`
pub(super) async fn driver_method(At((name, method)): At<(String, String)>) -> Answer {
    known(&name)?;
    Err(Fault::Invalid(format!("No handler for method {method}")))
}

/// `GET /v1/drivers/{driver}/raid/logical_disk_properties`
pub(super) async fn logical_disk_properties(call: Call, At(name): At<String>) -> Answer {
    call.needs(12)?;
    let driver = known(&name)?;
    Err(Fault::NotFound(Fault::unsupported(driver.name, "raid").to_string()))
}

/// `GET /v1/lookup`: no agent runs on these machines, so none is known.
pub(super) async fn lookup() -> Answer {
    Err(Fault::NotFound("Resource could not be found.".into()))
}

/// `POST /v1/heartbeat/{node}`
pub(super) async fn heartbeat(call: Call, At(ident): At<String>) -> Answer {
    let node = found(&call, &ident).await?;
    Err(Fault::unsupported(&node.driver, "heartbeat"))
}
