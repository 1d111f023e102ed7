//! `/v1/nodes`: creates, lists, shows, updates and deletes nodes.

use uuid::Uuid;

use super::chassis::find_chassis;
use super::collection::{Parent, Scope};
use super::fault::{Fault, map_refusal, map_update_error};
use super::field::{FieldValues, Purpose};
use super::node::{
    apply_values, check_name, document, find_node, is_in_transition, new_node, reset_interfaces,
    set_updated_at,
};
use super::patch::Patch;
use super::protection::settle_protection;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, Arguments, JsonBody, PathParam};
use super::resource::{ApiResource, FieldSelection, show};
use super::version::Microversion;
use crate::model::{Fallback, INTERFACE_TYPES, Node, ProvisionState, Released};
use crate::operator::{MaintenanceChange, check_unprotected, check_unreserved};
use crate::store::FallbackBasis;

/// `POST /v1/nodes`
pub(super) async fn create(request: ApiRequest, JsonBody(body): JsonBody) -> HandlerResult {
    let values = FieldValues::validate(Node::FIELDS, Purpose::Creation, "node", body)?;
    let values = values.check_version(Node::FIELDS, request.version)?;
    if let Some(name) = values.text("name") {
        check_name(&name, request.version, "Cannot create node with invalid name")?;
    }
    let node = apply_values(new_node(&values, &request), &values, &request.operator)?;
    check_chassis(&request, node.chassis_uuid).await?;
    request.operator.check_new_fallback(&Fallback::write(None, node.clone()), &node).await?;
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
    let node = if patch.writes("extra") || patch.writes("storage_interface") {
        update_with_fallback(&request, &ident, |old| change(old, None)).await?
    } else {
        let updated = request.operator.inventory.update(node.uuid, change).await;
        updated.map_err(map_update_error::<Node>(&ident))?
    };
    Ok(Reply::Json(show(&node, &request, &FieldSelection::All)))
}

/// Applies a change that may set another fallback: its volume must not be another node's, now or at the write.
async fn update_with_fallback(
    request: &ApiRequest,
    ident: &str,
    change: impl Fn(&Node) -> Result<Node, Fault>,
) -> Result<Node, Fault> {
    let inventory = &request.operator.inventory;
    for _ in 0..FALLBACK_ATTEMPTS {
        let since = inventory.revision_after(0).unwrap_or_default();
        let node = find_node(request, ident).await?;
        let new = change(&node)?;
        let idle = request.operator.check_new_fallback(&node, &new).await?;
        if Fallback::of(&new) == Ok(None) && Fallback::of(&node) == Ok(None) {
            let updated = inventory.update(node.uuid, |old: &Node, _| change(old)).await;
            return updated.map_err(map_update_error::<Node>(ident));
        }
        let basis = FallbackBasis { since: Some(since), idle: idle.as_ref() };
        let updated = inventory.update_checked(node.uuid, basis, &change).await;
        if let Some(node) = updated.map_err(map_update_error::<Node>(ident))? {
            return Ok(node);
        }
    }
    Err(Fault::Conflict("Other volumes are being named at the same time; please retry.".into()))
}

/// Attempts at a change of a node with a fallback, while other volumes are named.
const FALLBACK_ATTEMPTS: usize = 20;

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
    request.operator.delete_node(node.uuid).await.map_err(map_refusal::<Node>(&ident))?;
    Ok(Reply::NoContent)
}

/// `PUT /v1/nodes/{node}/maintenance`
pub(super) async fn set_maintenance(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    arguments: Arguments,
) -> HandlerResult {
    arguments.reject_unknown(&["reason"])?;
    let reason = arguments.text("reason")?.map(str::to_owned);
    write_maintenance(&request, &ident, MaintenanceChange::Set(reason)).await
}

/// `DELETE /v1/nodes/{node}/maintenance`
pub(super) async fn clear_maintenance(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
) -> HandlerResult {
    write_maintenance(&request, &ident, MaintenanceChange::Clear).await
}

async fn write_maintenance(request: &ApiRequest, ident: &str, change: MaintenanceChange) -> HandlerResult {
    let node = find_node(request, ident).await?;
    let changed = request.operator.change_maintenance(node.uuid, change, request.now).await;
    changed.map_err(map_refusal::<Node>(ident))?;
    Ok(Reply::Accepted)
}
