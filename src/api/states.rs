//! `/v1/nodes/{node}/states`: a node's states, shown and changed.

use serde_json::{Map, Value};

use super::call::{Arguments, At, Call};
use super::fault::{Fault, unchanged};
use super::node::{found, touched};
use super::provision::{self, Verb};
use super::reply::{Answer, Reply};
use super::shown::Shown;
use crate::model::{Node, PowerState, Properties, ProvisionState, VolumeConnector, VolumeTarget};

/// The fields of a node that are its states, and the version with which each came.
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
pub(super) async fn get(call: Call, At(ident): At<String>) -> Answer {
    let node = found(&call, &ident).await?;
    let states = STATES.iter().filter(|(_, since)| call.needs(*since).is_ok());
    let states = states.map(|(name, _)| ((*name).to_owned(), node.field(name, &call)));
    Ok(Reply::Shown(Value::Object(states.collect::<Map<_, _>>())))
}

/// `PUT /v1/nodes/{node}/states/power`: recorded, since people switch these machines.
pub(super) async fn power(call: Call, At(ident): At<String>, arguments: Arguments) -> Answer {
    arguments.only(&["target", "timeout"])?;
    let target = arguments.required_text("target")?;
    let timeout = arguments.integer("timeout")?;
    let node = found(&call, &ident).await?;
    if target.starts_with("soft ") || timeout.is_some_and(|timeout| timeout != 0) {
        call.needs(27)?;
    }
    if timeout.is_some_and(|timeout| timeout < 1) {
        return Err(Fault::Invalid("timeout has to be positive integer".into()));
    }
    let change = |old: &Node, _: Option<&Node>| {
        let power = match target {
            "power on" | "rebooting" | "soft rebooting" => PowerState::On,
            "power off" | "soft power off" => PowerState::Off,
            _ => {
                let state = old.power_state.map_or("None", PowerState::as_str);
                return Err(Fault::wrong_state(target, &ident, state));
            }
        };
        if matches!(old.provision_state, ProvisionState::Cleaning | ProvisionState::CleanWait) {
            return Err(Fault::wrong_state(target, &ident, old.provision_state.as_str()));
        }
        Ok(touched(Node { power_state: Some(power), last_error: None, ..old.clone() }, call.now))
    };
    call.state.inventory.update(node.uuid, change).await.map_err(unchanged::<Node>(&ident))?;
    Ok(Reply::AcceptedAt(call.links.to(&format!("nodes/{ident}/states"))))
}

/// `PUT /v1/nodes/{node}/states/provision`
pub(super) async fn provision(call: Call, At(ident): At<String>, arguments: Arguments) -> Answer {
    arguments.only(&[
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
    let node = found(&call, &ident).await?;
    let (verb, _) = provision::end(&node, target, call.version)?;
    possible(verb, target, &node, &arguments)?;
    if verb.deploys() {
        deployable(&call, &node).await?;
    }
    let keep_targets = call.state.keep_targets_on_undeploy;
    let change = |old: &Node| {
        let (verb, end) = provision::end(old, target, call.version)?;
        Ok(provisioned(old.clone(), verb, end, keep_targets, &call))
    };
    let inventory = &call.state.inventory;
    let changed = if verb == Verb::Deleted && !keep_targets {
        inventory.update_without::<VolumeTarget, _>(node.uuid, change).await
    } else {
        inventory.update(node.uuid, |old: &Node, _| change(old)).await
    };
    changed.map_err(unchanged::<Node>(&ident))?;
    Ok(Reply::AcceptedAt(call.links.to(&format!("nodes/{ident}/states"))))
}

/// Refuses what comes with a verb that has no use for it, and verbs that nothing here can carry out.
fn possible(verb: Verb, target: &str, node: &Node, arguments: &Arguments) -> Result<(), Fault> {
    for (name, its) in [("clean_steps", "clean"), ("rescue_password", "rescue"), ("service_steps", "service")]
    {
        if arguments.has(name) && target != its {
            return Err(Fault::Invalid(format!(
                "\"{name}\" is only valid when setting target provision state to {its}"
            )));
        }
    }
    for too_new in ["deploy_steps", "disable_ramdisk", "runbook"] {
        if arguments.has(too_new) {
            return Err(Fault::too_new());
        }
    }
    match verb {
        _ if arguments.has("configdrive") && verb != Verb::Active => Err(Fault::Invalid(
            "Adding a config drive is only supported when setting provision state to active".into(),
        )),
        Verb::Inspect => Err(Fault::unsupported(&node.driver, "inspect")),
        Verb::Clean if !arguments.has("clean_steps") => Err(Fault::Invalid(
            "\"clean_steps\" is required when setting target provision state to clean".into(),
        )),
        // Ironic takes them and finds out later; a node would stand in `clean failed` then.
        Verb::Clean => Err(Fault::unsupported(&node.driver, "these clean_steps")),
        _ => Ok(()),
    }
}

/// Whether the node's records are such that it can boot from its volumes.
async fn deployable(call: &Call, node: &Node) -> Result<(), Fault> {
    let connectors: Vec<VolumeConnector> = call.state.inventory.all_of(node.uuid).await?;
    let targets: Vec<VolumeTarget> = call.state.inventory.all_of(node.uuid).await?;
    let missing = call.state.boot.faults(node, &connectors, &targets).await;
    if missing.is_empty() {
        return Ok(());
    }
    Err(Fault::Invalid(format!(
        "Failed to validate deploy or power info for node {}. Error: {}",
        node.uuid,
        missing.join("; ")
    )))
}

/// A node at the end of a verb.
fn provisioned(node: Node, verb: Verb, end: ProvisionState, keep_targets: bool, call: &Call) -> Node {
    let node = Node {
        provision_state: end,
        target_provision_state: None,
        provision_updated_at: Some(call.now),
        last_error: None,
        ..touched(node, call.now)
    };
    match verb {
        Verb::Deleted => Node {
            instance_uuid: None,
            instance_info: Properties::default(),
            undeployed: keep_targets,
            ..node
        },
        Verb::Active | Verb::Rebuild | Verb::Adopt => Node { undeployed: false, ..node },
        _ => node,
    }
}
