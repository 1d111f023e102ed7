//! `/v1/allocations`: reserves available nodes for clients, by resource class, traits and candidates.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use super::collection::{Collection, Scope};
use super::fault::{Fault, map_update_error, quote};
use super::field::{Field, FieldValues, Purpose, Shape};
use super::list::RecordFilter;
use super::node::{find_node, is_in_transition};
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, JsonBody, PathParam};
use super::resource::{ApiResource, FieldSelection, format_optional_time, format_time, show};
use super::route::Route;
use super::traits::parse_trait;
use crate::model::{Allocation, Node, ProvisionState, is_logical_name};
use crate::store::UniqueKey;

/// The operations on allocations.
pub(super) fn routes() -> Vec<Route> {
    const ALLOCATION: &str = "/v1/allocations/{allocation}";
    const OF_NODE: &str = "/v1/nodes/{node}/allocation";
    let routes = vec![
        Route::list::<Allocation>("/v1/allocations", "List allocations"),
        Route::post("/v1/allocations", "Reserve an available node", create)
            .creates::<Allocation>()
            .absent(|_| Fault::MethodNotAllowed),
        Route::get(ALLOCATION, "Show an allocation", get).returns_record::<Allocation>(),
        Route::delete(ALLOCATION, "Delete an allocation and free its node", delete)
            .returns_no_content()
            .absent(|_| Fault::MethodNotAllowed),
        Route::get(OF_NODE, "Show a node's allocation", get_of_node).returns_record::<Allocation>(),
        Route::delete(OF_NODE, "Delete a node's allocation and free the node", delete_of_node)
            .returns_no_content(),
    ];
    routes.into_iter().map(|route| route.since(52)).collect()
}

impl ApiResource for Allocation {
    const PATH: &'static str = "allocations";

    // Lists have all fields.
    const FIELDS: &'static [Field] = &[
        Field::create_only("uuid", Shape::Uuid).in_summary(),
        Field::create_only("name", Shape::Text(255)).in_summary(),
        Field::create_only("resource_class", Shape::Text(80)).in_summary(),
        Field::create_only("traits", Shape::TextList).in_summary(),
        Field::create_only("candidate_nodes", Shape::TextList).in_summary(),
        Field::create_only("extra", Shape::Object).in_summary(),
        Field::read_only("state", Shape::Text(15)).in_summary(),
        Field::read_only("node_uuid", Shape::Uuid).in_summary().unsortable(),
        Field::read_only("last_error", Shape::Text(1000)).in_summary(),
        Field::read_only("created_at", Shape::Time).in_summary(),
        Field::read_only("updated_at", Shape::Time).in_summary(),
        Field::read_only("links", Shape::Links),
        // Newer than the last supported microversion.
        Field::create_only("node", Shape::Text(255)).since(58),
        Field::create_only("owner", Shape::Text(255)).since(60),
    ];

    fn field(&self, name: &str, _: &ApiRequest) -> Value {
        match name {
            "uuid" => self.uuid.to_string().into(),
            "name" => self.name.clone().into(),
            "resource_class" => self.resource_class.clone().into(),
            "traits" => json!(self.traits),
            "candidate_nodes" => json!(self.candidate_nodes),
            "extra" => self.extra.to_masked().into(),
            "state" => self.state().as_str().into(),
            "node_uuid" => self.node_uuid.map(|uuid| uuid.to_string()).into(),
            "last_error" => self.last_error.clone().into(),
            "created_at" => format_time(self.created_at),
            "updated_at" => format_optional_time(self.updated_at),
            _ => Value::Null,
        }
    }
}

impl Collection for Allocation {
    const FILTERS: &'static [&'static str] = &["node", "resource_class", "state"];
    const FILTER_VERSIONS: &'static [(&'static str, u16)] = &[("owner", 60)];
    const DETAIL_SINCE: Option<u16> = None;

    async fn build_filter(request: &ApiRequest, scope: Scope) -> Result<RecordFilter<Self>, Fault> {
        // As in Ironic, an unknown node is an invalid argument.
        let node = scope.resolve_node(request).await.map_err(|fault| match fault {
            Fault::NotFound(text) => Fault::Invalid(text),
            other => other,
        })?;
        let class = request.query.text("resource_class")?.map(str::to_owned);
        let state = request.query.text("state")?.map(str::to_owned);
        Ok(RecordFilter::new(node, move |allocation: &Self| {
            class.as_ref().is_none_or(|class| allocation.resource_class == *class)
                && state.as_ref().is_none_or(|state| allocation.state().as_str() == *state)
        }))
    }
}

/// `POST /v1/allocations`. The response shows the allocation without its result, as Ironic's does: clients wait for a
/// change of the state `allocating`.
pub(super) async fn create(request: ApiRequest, JsonBody(body): JsonBody) -> HandlerResult {
    let values = FieldValues::validate(Allocation::FIELDS, Purpose::Creation, "allocation", body)?;
    let values = values.check_version(Allocation::FIELDS, request.version)?;
    let name = values.text("name");
    if let Some(name) = name.as_deref().filter(|name| !is_logical_name(name) || name.parse::<Uuid>().is_ok())
    {
        return Err(Fault::Invalid(format!("Cannot create allocation with invalid name '{name}'")));
    }
    let Some(class) = values.text("resource_class").filter(|class| !class.is_empty()) else {
        return Err(Fault::Invalid("The resource_class field is mandatory when not backfilling".into()));
    };
    let traits = distinct(values.texts("traits")).map(parse_trait).collect::<Result<_, _>>()?;
    let uuid = values.uuid("uuid").unwrap_or_else(Uuid::new_v4);
    let new = Allocation {
        name,
        traits,
        candidate_nodes: find_candidates(&request, distinct(values.texts("candidate_nodes"))).await?,
        extra: values.object("extra").into(),
        ..Allocation::new(uuid, class, request.now)
    };
    request.operator.inventory.allocate(&new, request.now).await?;
    Ok(Reply::for_new_record(&request, &new))
}

/// The names without repetitions. Each node is compared with each name, so that a long list would take long.
fn distinct(names: Vec<&str>) -> impl Iterator<Item = &str> {
    let mut known = BTreeSet::new();
    names.into_iter().filter(move |name| known.insert(*name))
}

/// Finds the nodes with these names or UUIDs.
async fn find_candidates(
    request: &ApiRequest,
    idents: impl Iterator<Item = &str>,
) -> Result<Vec<Uuid>, Fault> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for ident in idents {
        match request.operator.find_node(ident).await? {
            Some(node) => found.push(node.uuid),
            None => missing.push(quote(&ident.into())),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    Err(Fault::Invalid(format!("Nodes cannot be found: {}", missing.join(", "))))
}

/// `GET /v1/allocations/{allocation}`
pub(super) async fn get(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    request.query.reject_unknown(&["fields"])?;
    let allocation = find_allocation(&request, &ident).await?;
    let selection = FieldSelection::for_record::<Allocation>(&request)?;
    Ok(Reply::Json(show(&allocation, &request, &selection)))
}

/// `DELETE /v1/allocations/{allocation}`
pub(super) async fn delete(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let allocation = find_allocation(&request, &ident).await?.uuid;
    delete_allocation(&request, allocation).await
}

/// `GET /v1/nodes/{node}/allocation`. For an unknown node, Ironic answers 400 here, and 404 to `DELETE`.
pub(super) async fn get_of_node(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    request.query.reject_unknown(&["fields"])?;
    let node = find_node(&request, &ident).await.map_err(|fault| match fault {
        Fault::NotFound(text) => Fault::Invalid(text),
        other => other,
    })?;
    let uuid = node.allocation().ok_or_else(|| no_allocation(&ident))?;
    let selection = FieldSelection::for_record::<Allocation>(&request)?;
    let allocation = request.operator.inventory.get::<Allocation>(uuid).await?;
    let allocation = allocation.ok_or_else(|| no_allocation(&ident))?.value;
    Ok(Reply::Json(show(&allocation, &request, &selection)))
}

/// `DELETE /v1/nodes/{node}/allocation`
pub(super) async fn delete_of_node(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
) -> HandlerResult {
    let node = find_node(&request, &ident).await?;
    delete_allocation(&request, node.allocation().ok_or_else(|| no_allocation(&ident))?).await
}

/// Finds an allocation by the name or UUID that a client sent.
async fn find_allocation(request: &ApiRequest, ident: &str) -> Result<Allocation, Fault> {
    let inventory = &request.operator.inventory;
    let allocation = if let Ok(uuid) = ident.parse() {
        inventory.get::<Allocation>(uuid).await?
    } else if is_logical_name(ident) {
        let by_name = |name: &str| UniqueKey::AllocationName(name.to_owned());
        match inventory.find::<Allocation>(&by_name(ident)).await? {
            // The name itself may end with `.json`.
            None if request.json_suffix => inventory.find(&by_name(&format!("{ident}.json"))).await?,
            found => found,
        }
    } else {
        return Err(Fault::Invalid(format!("Expected a logical name or UUID but received {ident}.")));
    };
    allocation.map(|allocation| allocation.value).ok_or_else(|| Fault::not_found::<Allocation>(ident))
}

fn no_allocation(ident: &str) -> Fault {
    Fault::NotFound(format!("Allocation for node {ident} was not found"))
}

async fn delete_allocation(request: &ApiRequest, uuid: Uuid) -> HandlerResult {
    let deleted = request.operator.inventory.deallocate(uuid, request.now, check_deletable).await;
    deleted.map_err(map_update_error::<Allocation>(uuid))?;
    Ok(Reply::NoContent)
}

/// Rejects the deletion of the allocation of a deployed node (Ironic's conductor, `verify_node_for_deallocation`).
fn check_deletable(allocation: &Allocation, node: Option<&Node>) -> Result<(), Fault> {
    let Some(node) = node.filter(|node| !node.maintenance) else { return Ok(()) };
    let because = if is_in_transition(node) {
        let state = node.provision_state.as_str();
        format!("is in state {state} where updates are not allowed")
    } else if node.provision_state == ProvisionState::Active {
        "is active".to_owned()
    } else {
        return Ok(());
    };
    Err(Fault::Conflict(format!(
        "Cannot remove allocation {} for node {}, because the node {because} (and maintenance mode is off)",
        allocation.uuid, node.uuid
    )))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::StorageInterface;

    #[test]
    fn the_allocation_of_a_deployed_node_stays_unless_in_maintenance() {
        use ProvisionState::{Active, Available, DeployFailed, DeployWait};
        let allocation = Allocation::new(Uuid::nil(), "large", Timestamp::UNIX_EPOCH);
        let new = Node::new(Uuid::nil(), "fake-hardware", StorageInterface::Noop, Timestamp::UNIX_EPOCH);
        assert_eq!(check_deletable(&allocation, None), Ok(()));
        for (state, target, maintenance, expected) in [
            (Available, None, false, None),
            (DeployFailed, Some(Active), false, None),
            (Active, None, false, Some("is active (and")),
            (
                DeployWait,
                Some(Active),
                false,
                Some("is in state wait call-back where updates are not allowed (and"),
            ),
            (Active, None, true, None),
            (DeployWait, Some(Active), true, None),
        ] {
            let node =
                Node { provision_state: state, target_provision_state: target, maintenance, ..new.clone() };
            let refusal = check_deletable(&allocation, Some(&node)).err().map(|fault| fault.to_string());
            match expected {
                Some(text) => assert!(refusal.as_ref().is_some_and(|it| it.contains(text)), "{refusal:?}"),
                None => assert_eq!(refusal, None, "{state:?}"),
            }
        }
    }
}
