//! `/v1/nodes/{node}/traits`: the capabilities by which schedulers choose a node.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::fault::{Fault, map_update_error, quote};
use super::node::{check_not_locked, find_node};
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, Arguments, JsonBody, PathParam};
use crate::model::{MAX_TRAITS, Node, TraitName};

/// The arguments of a replacement.
pub(super) const ARGUMENTS: [&str; 1] = ["traits"];

/// `GET /v1/nodes/{node}/traits`
pub(super) async fn list(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let node = find_node(&request, &ident).await?;
    Ok(Reply::Json(json!({"traits": node.traits})))
}

/// `PUT /v1/nodes/{node}/traits`: replaces all traits.
pub(super) async fn replace(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    arguments: Arguments,
) -> HandlerResult {
    arguments.reject_unknown(&ARGUMENTS)?;
    let names: BTreeSet<_> = match arguments.get("traits") {
        Some(Value::Array(names)) => names.iter().map(parse_item).collect::<Result<_, _>>()?,
        Some(other) => return Err(schema_error(&format!("{} is not of type 'array'", quote(other)))),
        None => return Err(no_single_choice()),
    };
    change(&request, &ident, |_, _| Ok(names.clone())).await?;
    Ok(Reply::NoContent)
}

/// `PUT /v1/nodes/{node}/traits/{trait}`: adds a trait.
pub(super) async fn add(
    request: ApiRequest,
    PathParam((ident, name)): PathParam<(String, String)>,
    JsonBody(body): JsonBody,
) -> HandlerResult {
    let name = parse_trait(&name)?;
    match &body {
        Value::Object(body) if body.is_empty() => {}
        Value::Object(body) if body.contains_key("traits") => return Err(no_single_choice()),
        _ => return Err(Fault::Invalid("No body should be provided when adding a trait".into())),
    }
    change(&request, &ident, |_, mut traits| {
        traits.insert(name.clone());
        Ok(traits)
    })
    .await?;
    Ok(Reply::NoContentAt(request.links.url(&format!("nodes/{ident}/traits/{name}"))))
}

/// `DELETE /v1/nodes/{node}/traits`: removes all traits.
pub(super) async fn clear(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    change(&request, &ident, |_, _| Ok(BTreeSet::new())).await?;
    Ok(Reply::NoContent)
}

/// `DELETE /v1/nodes/{node}/traits/{trait}`: removes a trait.
pub(super) async fn remove(
    request: ApiRequest,
    PathParam((ident, name)): PathParam<(String, String)>,
) -> HandlerResult {
    change(&request, &ident, |node, mut traits| {
        if traits.remove(name.as_str()) {
            return Ok(traits);
        }
        Err(Fault::NotFound(format!("Node {} doesn't have a trait '{name}'", node.uuid)))
    })
    .await?;
    Ok(Reply::NoContent)
}

/// Replaces the traits of a node by the result of `change`.
async fn change(
    request: &ApiRequest,
    ident: &str,
    change: impl Fn(&Node, BTreeSet<TraitName>) -> Result<BTreeSet<TraitName>, Fault>,
) -> Result<(), Fault> {
    let node = find_node(request, ident).await?;
    let update = |old: &Node, _: Option<&Node>| {
        check_not_locked(old)?;
        let traits = change(old, old.traits.clone())?;
        let count = traits.len();
        if count > MAX_TRAITS {
            return Err(Fault::Invalid(format!(
                "Could not modify traits for node {} as it would exceed the maximum number of traits per node \
                 ({count} vs. {MAX_TRAITS})",
                old.uuid
            )));
        }
        // Ironic leaves the time of the last change as it is.
        Ok(Node { traits, ..old.clone() })
    };
    let updated = request.operator.inventory.update(node.uuid, update).await;
    updated.map(drop).map_err(map_update_error::<Node>(ident))
}

fn parse_item(value: &Value) -> Result<TraitName, Fault> {
    match value {
        Value::String(name) => parse_trait(name),
        other => Err(schema_error(&format!("{} is not of type 'string'", quote(other)))),
    }
}

pub(super) fn parse_trait(name: &str) -> Result<TraitName, Fault> {
    name.parse().map_err(|error| schema_error(&format!("{} is no trait: {error}", quote(&name.into()))))
}

fn schema_error(text: &str) -> Fault {
    Fault::Invalid(format!("Schema error for traits: {text}"))
}

/// The fault for a request that names both one trait and all, or neither.
fn no_single_choice() -> Fault {
    Fault::Invalid(
        "A single node trait may be added via PUT /v1/nodes/<node identifier>/traits/<trait> with no body, or all \
         node traits may be replaced via PUT /v1/nodes/<node identifier>/traits with the list of traits specified \
         in the request body."
            .into(),
    )
}
