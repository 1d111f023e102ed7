//! `/v1/nodes/{node}/states`: shows and changes a node's power and provision state.

use std::time::Duration;

use serde_json::{Map, Value};

use super::config_drive::{ProvisionArguments, check_drive};
use super::fault::{Fault, map_update_error};
use super::node::{find_node, set_updated_at};
use super::provision::{self, Verb};
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, Arguments, PathParam};
use super::resource::ApiResource;
use super::version::Microversion;
use crate::model::{Node, PowerState, ProvisionState, VolumeTarget};
use crate::operator::{ProvisionTask, check_unreserved, undeploy};
use crate::power::{PowerAction, parse_driver_info};

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
    let check = |node: &Node| {
        let action = PowerAction::parse(target).ok_or_else(|| {
            let state = node.recorded_power_state().map_or("None", PowerState::as_str);
            Fault::wrong_state(target, &ident, state)
        })?;
        match node.provision_state {
            state @ (ProvisionState::Cleaning | ProvisionState::CleanWait) => {
                Err(Fault::wrong_state(target, &ident, state.as_str()))
            }
            _ => Ok(action),
        }
    };
    if node.has_bmc() {
        let action = check(&node)?;
        let timeout = timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        let timeout = timeout.map(|timeout| timeout.min(MAX_POWER_TIMEOUT));
        request.operator.start_power_change(node.uuid, action, timeout, request.now).await?;
    } else {
        let change = |old: &Node, _: Option<&Node>| {
            let power = check(old)?.end_state();
            let node = Node { last_error: None, ..old.clone() }.with_power_state(power, request.now);
            Ok(set_updated_at(node, request.now))
        };
        let changed = request.operator.inventory.update(node.uuid, change).await;
        changed.map_err(map_update_error::<Node>(&ident))?;
    }
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
    let (verb, _) = provision::resolve_verb(&node, target, request.version)?;
    let has_drive = check_drive(&arguments, target, request.version)?;
    check_arguments(verb, target, &node, &arguments)?;
    if verb.deploys() {
        check_deployable(&request, &node).await?;
    }
    let keep_targets = request.operator.keep_targets_on_undeploy;
    let inventory = &request.operator.inventory;
    if let Some(task) = find_task(&node, verb) {
        let begin = |old: &Node, _: Option<&Node>| {
            check_unreserved(old)?;
            let (_, end) = provision::resolve_verb(old, target, request.version)?;
            let old = if has_drive { note_drive(old.clone()) } else { old.clone() };
            Ok(task.begin(old, end, &request.operator.conductor.hostname, request.now))
        };
        let reserved = inventory.update(node.uuid, begin).await.map_err(map_update_error::<Node>(&ident))?;
        request.operator.spawn_provision(task, reserved);
        return Ok(Reply::AcceptedAt(request.links.url(&format!("nodes/{ident}/states"))));
    }
    let change = |old: &Node| {
        check_unreserved(old)?;
        let (verb, end) = provision::resolve_verb(old, target, request.version)?;
        let old = if has_drive { note_drive(old.clone()) } else { old.clone() };
        Ok(finish_verb(old, verb, end, keep_targets, &request))
    };
    let changed = if verb == Verb::Deleted && !keep_targets {
        inventory.update_without::<VolumeTarget, _>(node.uuid, change).await
    } else {
        inventory.update(node.uuid, |old: &Node, _| change(old)).await
    };
    changed.map_err(map_update_error::<Node>(&ident))?;
    Ok(Reply::AcceptedAt(request.links.url(&format!("nodes/{ident}/states"))))
}

/// The task of a verb that works on the machine: of a node with a BMC.
fn find_task(node: &Node, verb: Verb) -> Option<ProvisionTask> {
    match verb {
        _ if !node.has_bmc() => None,
        Verb::Manage if node.provision_state == ProvisionState::Enroll => Some(ProvisionTask::Verify),
        Verb::Active | Verb::Rebuild => Some(ProvisionTask::Deploy),
        Verb::Deleted => Some(ProvisionTask::Undeploy),
        _ => None,
    }
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

/// Checks that the node's records allow a boot from its volumes, and that its instance requests no trait that the node
/// lacks.
async fn check_deployable(request: &ApiRequest, node: &Node) -> Result<(), Fault> {
    let mut missing = request.operator.boot.check(node).await?.faults;
    missing.extend(node.check_instance_traits().err().map(|error| error.to_string()));
    if node.has_bmc() {
        missing.extend(parse_driver_info(node).err().map(|error| error.to_string()));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Fault::Invalid(format!(
        "Failed to validate deploy or power info for node {}. Error: {}",
        node.uuid,
        missing.join("; ")
    )))
}

/// Notes in the node that its deployment had a config drive, whose content is discarded.
fn note_drive(node: Node) -> Node {
    Node { instance_info: node.instance_info.with_masked("configdrive"), ..node }
}

/// Builds the node at the end of a verb.
fn finish_verb(
    node: Node,
    verb: Verb,
    end: ProvisionState,
    keep_targets: bool,
    request: &ApiRequest,
) -> Node {
    let last_error = verb.last_error(node.provision_state).map(str::to_owned);
    // Before the change: afterwards, a state that was never recorded follows from the new provision state. A BMC tells the
    // state of its machine itself.
    let power = verb.power_state(node.recorded_power_state()).filter(|_| !node.has_bmc());
    let node = Node {
        provision_state: end,
        target_provision_state: None,
        provision_updated_at: Some(request.now),
        last_error,
        ..set_updated_at(node, request.now)
    };
    let node = match power {
        Some(power) => node.with_power_state(power, request.now),
        None => node,
    };
    match verb {
        Verb::Deleted => undeploy(node, keep_targets),
        Verb::Active | Verb::Rebuild | Verb::Adopt => Node { undeployed: false, ..node },
        _ => node,
    }
}
