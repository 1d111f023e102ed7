//! `boot-once` of a node: what its machine boots next time, once.
//!
//! A volboot extension; Ironic has no such path.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::fault::Fault;
use super::node::find_node;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, Arguments, PathParam};
use crate::model::{BootOnce, Node, OnceSource};
use crate::operator::{DEFAULT_ONCE_TTL, OnceRequest, SourceText};

/// The arguments in the body.
pub(super) const ARGUMENTS: [&str; 10] = [
    "volume",
    "target",
    "auth_username",
    "auth_password",
    "url",
    "local",
    "shell",
    "ttl",
    "with_volumes",
    "shared",
];

/// `GET /v1/nodes/{node}/boot-once`
pub(super) async fn get(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    request.query.reject_unknown(&[])?;
    let node = find_node(&request, &ident).await?;
    let once = request.operator.find_boot_once(&node).await?;
    Ok(Reply::Json(show(&node, once.as_ref(), request.now)))
}

/// `PUT /v1/nodes/{node}/boot-once`
pub(super) async fn set(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    arguments: Arguments,
) -> HandlerResult {
    arguments.reject_unknown(&ARGUMENTS)?;
    let source = SourceText {
        volume: arguments.text("volume")?,
        target: arguments.text("target")?,
        chap_user: arguments.text("auth_username")?,
        chap_secret: arguments.text("auth_password")?.unwrap_or_default().into(),
        url: arguments.text("url")?,
        local: arguments.flag("local")?.unwrap_or(false),
        shell: arguments.flag("shell")?.unwrap_or(false),
    };
    let ttl = match arguments.integer("ttl")? {
        None => DEFAULT_ONCE_TTL,
        Some(seconds) => {
            let seconds = u64::try_from(seconds)
                .map_err(|_| Fault::Invalid("ttl must be a number of seconds above 0".into()))?;
            Duration::from_secs(seconds)
        }
    };
    let once = OnceRequest {
        source: source.parse()?,
        with_volumes: arguments.flag("with_volumes")?.unwrap_or(false),
        shared: arguments.flag("shared")?.unwrap_or(false),
        ttl,
    };
    let node = find_node(&request, &ident).await?;
    let once = request.operator.set_boot_once(&node, once, request.now).await?;
    Ok(Reply::Json(show(&node, Some(&once), request.now)))
}

/// `DELETE /v1/nodes/{node}/boot-once`
pub(super) async fn cancel(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let node = find_node(&request, &ident).await?;
    request.operator.cancel_boot_once(&node, request.now).await?;
    Ok(Reply::NoContent)
}

fn show(node: &Node, once: Option<&BootOnce>, now: Timestamp) -> Value {
    json!({
        "node": {"uuid": node.uuid, "name": node.name},
        "boot_once": once.map(|once| show_once(once, now)),
    })
}

fn show_once(once: &BootOnce, now: Timestamp) -> Value {
    let (volume, properties, url) = match &once.source {
        OnceSource::Volume { volume_id } => (Some(volume_id), None, None),
        OnceSource::Target { properties } => (None, Some(properties.to_masked()), None),
        OnceSource::Url { url } => (None, None, Some(url)),
        OnceSource::Local | OnceSource::Shell => (None, None, None),
    };
    let state = match (&once.journey, once.is_armed(now)) {
        (Some(_), _) => "consumed",
        (None, true) => "armed",
        (None, false) => "expired",
    };
    json!({
        "kind": once.source.kind(),
        "volume": volume,
        "target": properties,
        "url": url,
        "with_volumes": once.with_volumes,
        "shared": once.shared,
        "state": state,
        "created_at": once.created_at,
        "expires_at": once.expires_at,
        "journey": once.journey,
        "consumed_at": once.consumed_at,
    })
}
