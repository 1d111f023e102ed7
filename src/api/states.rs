//! `/v1/nodes/{node}/states`: shows and changes a node's power and provision state.

use std::time::Duration;

use serde_json::{Map, Value};

use super::config_drive::{ProvisionArguments, check_drive};
use super::fault::{Fault, map_refusal};
use super::node::find_node;
use super::provision;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, Arguments, PathParam};
use super::resource::ApiResource;
use super::version::Microversion;
use crate::model::Node;
use crate::operator::{RequestedVerb, Verb};

/// The longest time-out of a power change that a client may set.
const MAX_POWER_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// The node's fields in the states resource, each with its first microversion.
const STATES: [(&str, u16); 9] = [
    ("console_enabled", 1),
    ("last_error", 1),
    ("power_state", 1),
    ("provision_state", 1),
    ("provision_updated_at", 1),
    ("target_power_state", 1),
    ("target_provision_state", 1),
    ("raid_config", 12),
    ("target_raid_config", 12),
];

/// `GET /v1/nodes/{node}/states`
pub(super) async fn get(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let node = find_node(&request, &ident).await?;
    let states = STATES.iter().filter(|(_, since)| request.require_version(*since).is_ok());
    let states = states.map(|(name, _)| ((*name).to_owned(), node.field(name, &request)));
    Ok(Reply::Json(Value::Object(states.collect::<Map<_, _>>())))
}

/// `PUT /v1/nodes/{node}/states/power`: switches a machine with a BMC; for others, records the state that an operator has
/// switched to by hand.
pub(super) async fn set_power(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    arguments: Arguments,
) -> HandlerResult {
    arguments.reject_unknown(&["target", "timeout"])?;
    let target = arguments.required_text("target")?;
    let timeout = arguments.integer("timeout")?;
    let node = find_node(&request, &ident).await?;
    if target.starts_with("soft ") || timeout.is_some_and(|timeout| timeout != 0) {
        request.require_version(27)?;
    }
    if timeout.is_some_and(|timeout| timeout < 1) {
        return Err(Fault::Invalid("timeout has to be positive integer".into()));
    }
    let timeout = timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let timeout = timeout.map(|timeout| timeout.min(MAX_POWER_TIMEOUT));
    let changed = request.operator.set_power(&node, &ident, target, timeout, request.now).await;
    changed.map_err(map_refusal::<Node>(&ident))?;
    Ok(Reply::AcceptedAt(request.links.url(&format!("nodes/{ident}/states"))))
}

/// `PUT /v1/nodes/{node}/states/provision`
pub(super) async fn set_provision(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    ProvisionArguments(arguments): ProvisionArguments,
) -> HandlerResult {
    arguments.reject_unknown(&[
        "target",
        "configdrive",
        "clean_steps",
        "deploy_steps",
        "rescue_password",
        "disable_ramdisk",
        "service_steps",
        "runbook",
    ])?;
    let target = arguments.required_text("target")?;
    let node = find_node(&request, &ident).await?;
    let verb = provision::resolve_verb(&node, target, request.version)?;
    let has_drive = check_drive(&arguments, target, request.version)?;
    check_arguments(verb, target, &node, &arguments)?;
    let requested = RequestedVerb { verb, name: target, has_drive };
    let started = request.operator.start_verb(&node, requested, request.now).await;
    started.map_err(map_refusal::<Node>(&ident))?;
    Ok(Reply::AcceptedAt(request.links.url(&format!("nodes/{ident}/states"))))
}

/// Rejects arguments that the verb does not accept, and verbs that no driver here supports.
fn check_arguments(verb: Verb, target: &str, node: &Node, arguments: &Arguments) -> Result<(), Fault> {
    for (name, verb_name) in
        [("clean_steps", "clean"), ("rescue_password", "rescue"), ("service_steps", "service")]
    {
        if arguments.has(name) && target != verb_name {
            return Err(Fault::Invalid(format!(
                "\"{name}\" is only valid when setting target provision state to {verb_name}"
            )));
        }
    }
    for (later, since) in [("deploy_steps", 69), ("disable_ramdisk", 70), ("runbook", 92)] {
        if arguments.has(later) {
            return Err(Fault::needs_version(Microversion(since)));
        }
    }
    match verb {
        Verb::Inspect => Err(Fault::unsupported(&node.driver, "inspect")),
        Verb::Clean if !arguments.has("clean_steps") => Err(Fault::Invalid(
            "\"clean_steps\" is required when setting target provision state to clean".into(),
        )),
        // Ironic accepts the request and fails later, leaving the node in `clean failed`.
        Verb::Clean => Err(Fault::unsupported(&node.driver, "these clean_steps")),
        Verb::Rescue if arguments.text("rescue_password")?.is_none_or(|text| text.trim().is_empty()) => {
            Err(Fault::Invalid(
                "A non-empty \"rescue_password\" is required when setting target provision state to rescue"
                    .into(),
            ))
        }
        Verb::Rescue | Verb::Unrescue => Err(Fault::unsupported(&node.driver, "rescue")),
        _ => Ok(()),
    }
}
