//! Features of Ironic that volboot's drivers lack: consoles, NMI, vendor passthru and the deploy agent.
//!
//! The responses match an Ironic without driver support for these features.

use serde_json::json;

use super::drivers::require_driver;
use super::fault::Fault;
use super::node::find_node;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, Arguments, PathParam};

/// `GET /v1/nodes/{node}/states/console`
pub(super) async fn get_console(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    find_node(&request, &ident).await?;
    Ok(Reply::Json(json!({"console_enabled": false, "console_info": null})))
}

/// `PUT /v1/nodes/{node}/states/console`
pub(super) async fn set_console(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let node = find_node(&request, &ident).await?;
    Err(Fault::unsupported(&node.driver, "console"))
}

/// `PUT /v1/nodes/{node}/management/inject_nmi`
pub(super) async fn inject_nmi(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let node = find_node(&request, &ident).await?;
    Err(Fault::unsupported(&node.driver, "inject_nmi"))
}

/// `GET /v1/nodes/{node}/vendor_passthru/methods`
pub(super) async fn list_node_methods(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
) -> HandlerResult {
    find_node(&request, &ident).await?;
    Ok(Reply::Json(json!({})))
}

/// Any method on `/v1/nodes/{node}/vendor_passthru/{method}`
pub(super) async fn call_node_method(
    request: ApiRequest,
    PathParam((ident, method)): PathParam<(String, String)>,
) -> HandlerResult {
    find_node(&request, &ident).await?;
    Err(Fault::Invalid(format!("No handler for method {method}")))
}

/// `GET /v1/drivers/{driver}/vendor_passthru/methods`
pub(super) async fn list_driver_methods(
    request: ApiRequest,
    PathParam(name): PathParam<String>,
) -> HandlerResult {
    require_driver(&request, &name).map(|_| Reply::Json(json!({})))
}

/// Any method on `/v1/drivers/{driver}/vendor_passthru/{method}`
pub(super) async fn call_driver_method(
    request: ApiRequest,
    PathParam((name, method)): PathParam<(String, String)>,
) -> HandlerResult {
    require_driver(&request, &name)?;
    Err(Fault::Invalid(format!("No handler for method {method}")))
}

/// `GET /v1/lookup`: always 404, since no deploy agent runs on the machines.
pub(super) async fn lookup() -> HandlerResult {
    Err(Fault::NotFound("Resource could not be found.".into()))
}

/// `POST /v1/heartbeat/{node}`
pub(super) async fn heartbeat(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    arguments: Arguments,
) -> HandlerResult {
    if arguments.has("agent_version") && request.require_version(36).is_err() {
        return Err(Fault::Invalid("Field \"agent_version\" not recognised".into()));
    }
    let node = find_node(&request, &ident).await?;
    Err(Fault::unsupported(&node.driver, "heartbeat"))
}
