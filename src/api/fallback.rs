//! `fallback` of a node: the volume that its machine boots from after its own failed several times in a row.
//!
//! A volboot extension; Ironic has no such path. The fallback itself stands in the node's `extra`, where PATCH may change it
//! too; the CHAP secret of a fixed target is set here only, and never shown.

use serde_json::{Value, json};

use super::fault::Fault;
use super::node::find_node;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, Arguments, PathParam};
use crate::model::{FallbackInForce, Node};
use crate::operator::{FallbackStatus, FallbackValues};

/// The arguments in the body of PUT.
pub(super) const ARGUMENTS: [&str; 7] =
    ["volume", "target", "auth_username", "auth_password", "uefi_loader", "with_data", "shared"];

/// `GET /v1/nodes/{node}/fallback`
pub(super) async fn get(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    request.query.reject_unknown(&[])?;
    let node = find_node(&request, &ident).await?;
    show(&request, &node).await
}

/// `PUT /v1/nodes/{node}/fallback`
pub(super) async fn put(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    arguments: Arguments,
) -> HandlerResult {
    arguments.reject_unknown(&ARGUMENTS)?;
    let text = |name| Ok::<_, Fault>(arguments.text(name)?.unwrap_or_default());
    let flag = |name| Ok::<_, Fault>(arguments.flag(name)?.unwrap_or_default());
    let values = FallbackValues {
        volume: text("volume")?,
        targets: read_targets(arguments.get("target"))?,
        chap_user: text("auth_username")?,
        chap_secret: read_secret(arguments.get("auth_password"))?.into(),
        loader: text("uefi_loader")?,
        with_data: flag("with_data")?,
        shared: flag("shared")?,
    };
    let node = find_node(&request, &ident).await?;
    request.operator.set_fallback(&node, &values, request.now).await?;
    show_again(&request, &ident).await
}

/// `DELETE /v1/nodes/{node}/fallback`
pub(super) async fn delete(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let node = find_node(&request, &ident).await?;
    request.operator.clear_fallback(&node, request.now).await?;
    Ok(Reply::NoContent)
}

/// `POST /v1/nodes/{node}/fallback/promote`
pub(super) async fn promote(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    arguments: Arguments,
) -> HandlerResult {
    arguments.reject_unknown(&[])?;
    let node = find_node(&request, &ident).await?;
    request.operator.promote_fallback(&node, request.now).await?;
    show_again(&request, &ident).await
}

/// `POST /v1/nodes/{node}/fallback/retry`
pub(super) async fn retry(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    arguments: Arguments,
) -> HandlerResult {
    arguments.reject_unknown(&[])?;
    let node = find_node(&request, &ident).await?;
    request.operator.retry_own_volume(&node).await?;
    show_again(&request, &ident).await
}

/// One path, or a list of them.
fn read_targets(value: Option<&Value>) -> Result<Vec<&str>, Fault> {
    let fault = || Fault::Invalid("Expected a target, or a list of targets, for target".to_owned());
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(uri)) => Ok(vec![uri]),
        Some(Value::Array(uris)) => uris.iter().map(|uri| uri.as_str().ok_or_else(fault)).collect(),
        Some(_) => Err(fault()),
    }
}

/// The secret; a fault does not show it.
fn read_secret(value: Option<&Value>) -> Result<&str, Fault> {
    match value {
        None => Ok(""),
        Some(Value::String(secret)) => Ok(secret),
        Some(_) => Err(Fault::Invalid("Expected string for auth_password".to_owned())),
    }
}

async fn show_again(request: &ApiRequest, ident: &str) -> HandlerResult {
    let node = find_node(request, ident).await?;
    show(request, &node).await
}

async fn show(request: &ApiRequest, node: &Node) -> HandlerResult {
    let status = request.operator.fallback_status(node).await?;
    let FallbackStatus {
        fallback,
        chap_user,
        own_volume: _,
        failed_boots,
        last_reset,
        in_force,
        has_reported_up,
        obstacle,
        policy,
    } = status;
    let fallback = fallback.map(|fallback| {
        let mut fields = fallback.to_fields();
        if let Some(user) = chap_user {
            fields.insert("auth_username".into(), user.into());
        }
        Value::Object(fields)
    });
    let in_force = in_force.map(|FallbackInForce { since, failed_boots, failed_volume, source: _ }| {
        json!({"since": since, "failed_boots": failed_boots, "failed_volume": failed_volume})
    });
    Ok(Reply::Json(json!({
        "node": {"uuid": node.uuid, "name": node.name},
        "fallback": fallback,
        "in_force": in_force,
        "failed_boots": failed_boots,
        "last_reset": last_reset,
        "has_reported_up": has_reported_up,
        "obstacle": obstacle,
        "fallback_after": policy.after,
        "fallback_min_uptime": policy.min_uptime.as_secs(),
    })))
}
