//! `/v1/nodes`: creates, lists, shows, updates and deletes nodes.

use uuid::Uuid;

use super::chassis::find_chassis;
use super::collection::{Parent, Scope};
use super::fault::{Fault, map_update_error};
use super::field::{FieldValues, Purpose};
use super::node::{
    apply_values, check_name, document, find_node, is_in_transition, new_node, reset_interfaces,
    set_updated_at,
};
use super::patch::Patch;
use super::protection::{check_unprotected, settle_protection};
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, Arguments, JsonBody, PathParam};
use super::resource::{ApiResource, FieldSelection, show};
use super::version::Microversion;
use crate::model::{INTERFACE_TYPES, Node, ProvisionState, Released};
use crate::operator::check_unreserved;

/// `POST /v1/nodes`
pub(super) async fn create(request: ApiRequest, JsonBody(body): JsonBody) -> HandlerResult {
    let values = FieldValues::validate(Node::FIELDS, Purpose::Creation, "node", body)?;
    let values = values.check_version(Node::FIELDS, request.version)?;
    if let Some(name) = values.text("name") {
        check_name(&name, request.version, "Cannot create node with invalid name")?;
    }
    let node = apply_values(new_node(&values, &request), &values, &request.operator)?;
    check_chassis(&request, node.chassis_uuid).await?;
    request.operator.inventory.create(&node).await?;
    Ok(Reply::for_new_record(&request, &node))
}

impl Parent for Node {
    async fn find(request: &ApiRequest, ident: &str) -> Result<Self, Fault> {
        find_node(request, ident).await
    }

    fn scope(&self) -> Scope {
        Scope { node: Some(self.uuid), ..Scope::default() }
    }
}

/// `GET /v1/nodes/{node}`
pub(super) async fn get(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    request.query.reject_unknown(&["fields"])?;
    let node = find_node(&request, &ident).await?;
    let selection = FieldSelection::for_record::<Node>(&request)?;
    Ok(Reply::Json(show(&node, &request, &selection)))
}

/// `PATCH /v1/nodes/{node}`
pub(super) async fn update(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    JsonBody(body): JsonBody,
) -> HandlerResult {
    let resets = request.query.flag("reset_interfaces")?;
    if resets.is_some() {
        request.require_version(45)?;
    }
    let patch = Patch::parse::<Node>(body, &request)?;
    if resets == Some(true) && patch.values("driver").next().is_none() {
        return Err(Fault::Invalid(
            "The reset_interfaces parameter can only be used when changing the node's driver.".into(),
        ));
    }
    let node = find_node(&request, &ident).await?;
    for name in patch.values("name").filter_map(|name| name.as_str()) {
        request.require_version(5)?;
        check_name(name, request.version, &format!("Node {ident}: Cannot change name to invalid name"))?;
    }
    for chassis in patch.values("chassis_uuid").filter_map(|chassis| chassis.as_str()?.parse().ok()) {
        check_chassis(&request, Some(chassis)).await?;
    }
    let change = |old: &Node, _: Option<&Node>| {
        check_unreserved(old)?;
        let may_change = !(old.maintenance && patch.only_removes("instance_uuid"));
        if may_change {
            check_not_in_transition(old, &ident, request.version)?;
        }
        let mut values = patch.apply::<Node>(document(old))?;
        if resets == Some(true) && values.text("driver").as_ref() != Some(&old.driver) {
            values = reset_interfaces(values, old);
        }
        let new = apply_values(old.clone(), &values, &request.operator)?;
        check_update(old, &new, request.version)?;
        let new = settle_protection(old, new)?;
        if matches!(old.releases(Some(&new)), Released::All(_)) {
            // The loss of all volumes is an undeployment by another name.
            check_unprotected(&new)?;
        }
        Ok(set_updated_at(new, request.now))
    };
    let node = request
        .operator
        .inventory
        .update(node.uuid, change)
        .await
        .map_err(map_update_error::<Node>(&ident))?;
    Ok(Reply::Json(show(&node, &request, &FieldSelection::All)))
}

/// Checks that the chassis of a node exists.
async fn check_chassis(request: &ApiRequest, chassis: Option<Uuid>) -> Result<(), Fault> {
    let Some(chassis) = chassis else { return Ok(()) };
    match find_chassis(request, chassis).await {
        Err(Fault::NotFound(text)) => Err(Fault::Invalid(text)),
        found => found.map(drop),
    }
}

/// Rejects updates during a state transition.
fn check_not_in_transition(node: &Node, ident: &str, version: Microversion) -> Result<(), Fault> {
    // Since 1.39, asynchronous inspection has its own state, so that the conductor is at work in this one.
    if node.provision_state == ProvisionState::Inspecting && version >= Microversion(39) {
        return Err(Fault::Conflict(format!(
            "Cannot update node \"{}\" while it is in state \"inspecting\".",
            node.uuid
        )));
    }
    if !is_in_transition(node) {
        return Ok(());
    }
    Err(Fault::Conflict(format!("Node {ident} can not be updated while a state transition is in progress.")))
}

/// The first microversion that can remove a node from its chassis.
const CHASSIS_REMOVAL: Microversion = Microversion(25);

/// Checks the changes that depend on the node's state (Ironic's conductor, `update_node`).
fn check_update(old: &Node, new: &Node, version: Microversion) -> Result<(), Fault> {
    use ProvisionState::{Available, Enroll, InspectWait, Inspecting, Manageable};
    if let (Some(instance), Some(_)) = (old.instance_uuid, new.instance_uuid)
        && old.instance_uuid != new.instance_uuid
    {
        return Err(Fault::Conflict(format!("Node {} is associated with instance {instance}.", old.uuid)));
    }
    if old.chassis_uuid.is_some() && new.chassis_uuid.is_none() && version < CHASSIS_REMOVAL {
        return Err(Fault::needs_version(CHASSIS_REMOVAL));
    }
    let has_idle_state =
        matches!(old.provision_state, Enroll | Inspecting | InspectWait | Manageable | Available);
    if old.resource_class.is_some() && old.resource_class != new.resource_class && !has_idle_state {
        return Err(Fault::Conflict(format!(
            "Node {} can not have resource_class updated unless it is in one of allowed (enroll, inspecting, inspect \
             wait, manageable, available) states. Current state is '{}'.",
            old.uuid,
            old.provision_state.as_str()
        )));
    }
    let idle = has_idle_state || old.maintenance;
    if old.ends_allocation(Some(new)).is_some() && !idle {
        return Err(Fault::Conflict(format!(
            "Node {} with an allocation can not have instance_uuid removed unless it is in one of allowed (enroll, \
             inspecting, inspect wait, manageable, available) states or in maintenance mode. Current state is '{}'.",
            old.uuid,
            old.provision_state.as_str()
        )));
    }
    let fields = INTERFACE_TYPES.iter().filter(|(kind, _)| old.interface(kind) != new.interface(kind));
    let changed = fields.map(|(_, field)| *field).next();
    let changed =
        changed.or_else(|| (old.storage_interface != new.storage_interface).then_some("storage_interface"));
    match changed {
        Some(field) if !idle => Err(Fault::Conflict(format!(
            "Node {} can not have {field} updated unless it is in one of allowed (enroll, inspecting, inspect \
             wait, manageable, available) states or in maintenance mode. Current state is '{}'.",
            old.uuid,
            old.provision_state.as_str()
        ))),
        _ => Ok(()),
    }
}

/// `DELETE /v1/nodes/{node}`
pub(super) async fn delete(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let node = find_node(&request, &ident).await?;
    let deleted = request.operator.inventory.delete(node.uuid, |node: &Node, _| check_deletable(node)).await;
    deleted.map_err(map_update_error::<Node>(&ident))?;
    Ok(Reply::NoContent)
}

fn check_deletable(node: &Node) -> Result<(), Fault> {
    use ProvisionState::{AdoptFailed, Available, Enroll, Manageable};
    if let Some(instance) = node.instance_uuid.filter(|_| !node.maintenance) {
        return Err(Fault::Conflict(format!("Node {} is associated with instance {instance}.", node.uuid)));
    }
    check_unreserved(node)?;
    check_unprotected(node)?;
    if node.maintenance || matches!(node.provision_state, Available | AdoptFailed | Enroll | Manageable) {
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
pub(super) async fn set_maintenance(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    arguments: Arguments,
) -> HandlerResult {
    arguments.reject_unknown(&["reason"])?;
    let reason = arguments.text("reason")?.map(str::to_owned);
    write_maintenance(&request, &ident, true, reason).await
}

/// `DELETE /v1/nodes/{node}/maintenance`
pub(super) async fn clear_maintenance(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
) -> HandlerResult {
    write_maintenance(&request, &ident, false, None).await
}

async fn write_maintenance(
    request: &ApiRequest,
    ident: &str,
    maintenance: bool,
    reason: Option<String>,
) -> HandlerResult {
    let node = find_node(request, ident).await?;
    let change = |old: &Node, _: Option<&Node>| {
        check_unreserved(old)?;
        let new = Node { maintenance, maintenance_reason: reason.clone(), ..old.clone() };
        Ok::<_, Fault>(set_updated_at(new, request.now))
    };
    request.operator.inventory.update(node.uuid, change).await.map_err(map_update_error::<Node>(ident))?;
    Ok(Reply::Accepted)
}
