//! `/v1/nodes`: nodes are created, listed, shown, changed and deleted.

use uuid::Uuid;

use super::call::{Arguments, At, Call, Sent};
use super::chassis;
use super::fault::{Fault, unchanged};
use super::field::{Given, Purpose};
use super::interfaces;
use super::list::{ARGUMENTS, Filter, Listing};
use super::node::{check_name, document, found, fresh, touched, written};
use super::patch::Patch;
use super::reply::{Answer, Reply};
use super::shown::{Choice, Shown, show};
use super::version::Version;
use crate::model::{Chassis, Node, ProvisionState};

/// `POST /v1/nodes`
pub(super) async fn create(call: Call, Sent(body): Sent) -> Answer {
    let given = Given::checked(Node::FIELDS, Purpose::Creation, "node", body)?;
    let given = given.in_version(Node::FIELDS, call.version)?;
    if let Some(name) = given.text("name") {
        check_name(&name, call.version, "Cannot create node with invalid name")?;
    }
    let node = written(fresh(&given, &call), &given, &call.state)?;
    check_chassis(&call, node.chassis_uuid).await?;
    call.state.inventory.create(&node).await?;
    Ok(Reply::created(&call, &node))
}

/// `GET /v1/nodes`
pub(super) async fn list(call: Call) -> Answer {
    let choice = Choice::of_list::<Node>(&call, 43)?;
    page(&call, "nodes", choice, &ARGUMENTS, None).await
}

/// `GET /v1/nodes/detail`
pub(super) async fn detail(call: Call) -> Answer {
    page(&call, "nodes/detail", Choice::All, &ARGUMENTS[..4], None).await
}

/// `GET /v1/chassis/{chassis}/nodes`
pub(super) async fn list_of_chassis(call: Call, At(ident): At<String>) -> Answer {
    let chassis = chassis::found(&call, &ident).await?.uuid;
    let choice = Choice::of_list::<Node>(&call, 43)?;
    page(&call, &format!("chassis/{chassis}/nodes"), choice, &ARGUMENTS, Some(chassis)).await
}

/// `GET /v1/chassis/{chassis}/nodes/detail`
pub(super) async fn detail_of_chassis(call: Call, At(ident): At<String>) -> Answer {
    let chassis = chassis::found(&call, &ident).await?.uuid;
    page(&call, &format!("chassis/{chassis}/nodes/detail"), Choice::All, &ARGUMENTS[..4], Some(chassis)).await
}

async fn page(
    call: &Call,
    path: &str,
    choice: Choice,
    arguments: &[&str],
    of_chassis: Option<Uuid>,
) -> Answer {
    let known: Vec<_> = arguments.iter().chain(&FILTERS).chain(&LATER_FILTERS).copied().collect();
    call.query.only(&known)?;
    let keeps = filter(call, of_chassis)?;
    let mut page = Listing { call, path: path.into(), choice, of_node: None, keeps }.page().await?;
    if call.query.has("instance_uuid") {
        // There is at most one, so there is no next page.
        page.as_object_mut().map(|page| page.remove("next"));
    }
    Ok(Reply::Shown(page))
}

/// By what nodes can be chosen up to 1.33.
pub(super) const FILTERS: [&str; 7] = [
    "associated",
    "chassis_uuid",
    "driver",
    "instance_uuid",
    "maintenance",
    "provision_state",
    "resource_class",
];

/// By what they can be chosen later on: 406, as for everything that is too new.
const LATER_FILTERS: [&str; 14] = [
    "conductor",
    "conductor_group",
    "description_contains",
    "fault",
    "include_children",
    "instance_name",
    "lessee",
    "owner",
    "parent_node",
    "project",
    "retired",
    "shard",
    "sharded",
    "without_interfaces",
];

/// Which nodes a list is to have.
fn filter(call: &Call, of_chassis: Option<Uuid>) -> Result<Filter<Node>, Fault> {
    let query = &call.query;
    if LATER_FILTERS.iter().any(|name| query.has(name)) {
        return Err(Fault::too_new());
    }
    for (name, since) in [("provision_state", 9), ("driver", 16), ("resource_class", 21)] {
        if query.has(name) {
            call.needs(since)?;
        }
    }
    let associated = query.flag("associated")?;
    let maintenance = query.flag("maintenance")?;
    let chassis = of_chassis.or(query.uuid("chassis_uuid")?);
    let instance = query.uuid("instance_uuid")?;
    let driver = query.text("driver")?.map(str::to_owned);
    let class = query.text("resource_class")?.map(str::to_owned);
    let state = match query.text("provision_state")? {
        None => None,
        Some(name) => match ProvisionState::ALL.iter().find(|state| state.as_str() == name) {
            Some(state) => Some(*state),
            None => return Err(Fault::Invalid(format!("Provision state \"{name}\" is not valid"))),
        },
    };
    Ok(Box::new(move |node| {
        associated.is_none_or(|associated| node.instance_uuid.is_some() == associated)
            && maintenance.is_none_or(|maintenance| node.maintenance == maintenance)
            && chassis.is_none_or(|chassis| node.chassis_uuid == Some(chassis))
            && instance.is_none_or(|instance| node.instance_uuid == Some(instance))
            && driver.as_ref().is_none_or(|driver| node.driver == *driver)
            && class.as_ref().is_none_or(|class| node.resource_class.as_ref() == Some(class))
            && state.is_none_or(|state| node.provision_state == state)
    }))
}

/// `GET /v1/nodes/{node}`
pub(super) async fn get(call: Call, At(ident): At<String>) -> Answer {
    call.query.only(&["fields"])?;
    let node = found(&call, &ident).await?;
    let choice = Choice::of_one::<Node>(&call)?;
    Ok(Reply::Shown(show(&node, &call, &choice)))
}

/// `PATCH /v1/nodes/{node}`
pub(super) async fn update(call: Call, At(ident): At<String>, Sent(body): Sent) -> Answer {
    if call.query.has("reset_interfaces") {
        return Err(Fault::too_new());
    }
    let patch = Patch::read::<Node>(body, &call)?;
    let node = found(&call, &ident).await?;
    for name in patch.values("name").filter_map(|name| name.as_str()) {
        call.needs(5)?;
        check_name(name, call.version, &format!("Node {ident}: Cannot change name to invalid name"))?;
    }
    for chassis in patch.values("chassis_uuid").filter_map(|chassis| chassis.as_str()?.parse().ok()) {
        check_chassis(&call, Some(chassis)).await?;
    }
    let change = |old: &Node, _: Option<&Node>| {
        let may_change = !(old.maintenance && patch.only_removes("instance_uuid"));
        if may_change {
            changeable(old, &ident)?;
        }
        let given = patch.applied::<Node>(document(old))?;
        let new = written(old.clone(), &given, &call.state)?;
        allowed(old, &new, call.version)?;
        Ok(touched(new, call.now))
    };
    let node = call.state.inventory.update(node.uuid, change).await.map_err(unchanged::<Node>(&ident))?;
    Ok(Reply::Shown(show(&node, &call, &Choice::All)))
}

/// The chassis that a node is put into must be there.
async fn check_chassis(call: &Call, chassis: Option<Uuid>) -> Result<(), Fault> {
    let Some(chassis) = chassis else { return Ok(()) };
    match call.state.inventory.get::<Chassis>(chassis).await? {
        Some(_) => Ok(()),
        None => Err(Fault::Invalid(Fault::missing::<Chassis>(chassis).to_string())),
    }
}

/// A node on its way from one state to another is left alone, but where the way has ended badly.
fn changeable(node: &Node, ident: &str) -> Result<(), Fault> {
    use ProvisionState::{CleanFailed, DeployFailed, Enroll, Error, InspectFailed, Verifying};
    let tolerated = matches!(
        node.provision_state,
        DeployFailed | CleanFailed | Enroll | Error | InspectFailed | Verifying
    );
    if node.target_provision_state.is_none() || tolerated {
        return Ok(());
    }
    Err(Fault::Conflict(format!("Node {ident} can not be updated while a state transition is in progress.")))
}

/// Changes that depend on what the node is doing (Ironic's conductor, `update_node`).
fn allowed(old: &Node, new: &Node, version: Version) -> Result<(), Fault> {
    use ProvisionState::{Available, Enroll, Manageable};
    if let (Some(had), Some(_)) = (old.instance_uuid, new.instance_uuid)
        && old.instance_uuid != new.instance_uuid
    {
        return Err(Fault::Conflict(format!("Node {} is associated with instance {had}.", old.uuid)));
    }
    if old.chassis_uuid.is_some() && new.chassis_uuid.is_none() && version < Version(25) {
        return Err(Fault::too_new());
    }
    let idle = matches!(old.provision_state, Enroll | Manageable | Available) || old.maintenance;
    let fields = interfaces::TYPES
        .iter()
        .filter(|(kind, _)| interfaces::of_node(old, kind) != interfaces::of_node(new, kind));
    let changed = fields.map(|(_, field)| *field).next();
    let changed =
        changed.or_else(|| (old.storage_interface != new.storage_interface).then_some("storage_interface"));
    match changed {
        Some(field) if !idle => Err(Fault::Conflict(format!(
            "Node {} can not have {field} updated unless it is in one of allowed (enroll, manageable, available) \
             states or in maintenance mode.",
            old.uuid
        ))),
        _ => Ok(()),
    }
}

/// `DELETE /v1/nodes/{node}`
pub(super) async fn delete(call: Call, At(ident): At<String>) -> Answer {
    let node = found(&call, &ident).await?;
    let deleted = call.state.inventory.delete(node.uuid, |node: &Node, _| deletable(node)).await;
    deleted.map_err(unchanged::<Node>(&ident))?;
    Ok(Reply::Done)
}

fn deletable(node: &Node) -> Result<(), Fault> {
    use ProvisionState::{AdoptFailed, Available, Enroll, Manageable};
    if node.maintenance {
        return Ok(());
    }
    if let Some(instance) = node.instance_uuid {
        return Err(Fault::Conflict(format!("Node {} is associated with instance {instance}.", node.uuid)));
    }
    if matches!(node.provision_state, Available | AdoptFailed | Enroll | Manageable) {
        return Ok(());
    }
    Err(Fault::Conflict(format!(
        "Can not delete node \"{}\" while it is in provision state \"{}\". Valid provision states to perform deletion \
         are: \"adopt failed, available, enroll, manageable\", or maintenance mode.",
        node.uuid,
        node.provision_state.as_str()
    )))
}

/// `PUT /v1/nodes/{node}/maintenance`
pub(super) async fn set_maintenance(call: Call, At(ident): At<String>, arguments: Arguments) -> Answer {
    arguments.only(&["reason"])?;
    let reason = arguments.text("reason")?.map(str::to_owned);
    maintain(&call, &ident, true, reason).await
}

/// `DELETE /v1/nodes/{node}/maintenance`
pub(super) async fn clear_maintenance(call: Call, At(ident): At<String>) -> Answer {
    maintain(&call, &ident, false, None).await
}

async fn maintain(call: &Call, ident: &str, maintenance: bool, reason: Option<String>) -> Answer {
    let node = found(call, ident).await?;
    let change = |old: &Node, _: Option<&Node>| {
        let new = Node { maintenance, maintenance_reason: reason.clone(), ..old.clone() };
        Ok(touched(new, call.now))
    };
    call.state.inventory.update(node.uuid, change).await.map_err(unchanged::<Node>(ident))?;
    Ok(Reply::Accepted)
}
