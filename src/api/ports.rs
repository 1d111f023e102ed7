//! `/v1/ports`: the network cards that identify machines.

use serde_json::Value;
use uuid::Uuid;

use super::collection::{Collection, Parent as _, Scope};
use super::fault::{Fault, map_update_error};
use super::field::{Field, FieldValues, Purpose, Shape, parse_mac, parse_uuid};
use super::list::RecordFilter;
use super::node::find_node;
use super::patch::{Patch, document};
use super::portgroups::find_portgroup;
use super::relink::find_new_nodes;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, JsonBody, PathParam};
use super::resource::{ApiResource, FieldSelection, format_optional_time, format_time, show};
use crate::model::{Node, Port, PortGroup, ProvisionState};

impl ApiResource for Port {
    const PATH: &'static str = "ports";

    const FIELDS: &'static [Field] = &[
        Field::create_only("uuid", Shape::Uuid).in_summary(),
        Field::writable("address", Shape::Mac).required().in_summary(),
        Field::writable("node_uuid", Shape::Uuid).required().unsortable(),
        Field::writable("extra", Shape::Object),
        Field::read_only("internal_info", Shape::Object).since(18),
        Field::writable("local_link_connection", Shape::Object).since(19),
        Field::writable("pxe_enabled", Shape::Flag).since(19),
        Field::writable("portgroup_uuid", Shape::Uuid).since(24).unsortable(),
        Field::writable("physical_network", Shape::Text(64)).since(34),
        Field::read_only("created_at", Shape::Time),
        Field::read_only("updated_at", Shape::Time),
        Field::read_only("links", Shape::Links),
        // Newer than the last supported microversion.
        Field::writable("is_smartnic", Shape::Flag).since(53),
        Field::writable("name", Shape::Text(255)).since(88),
        Field::writable("node_ident", Shape::Text(255)).since(94),
        Field::writable("description", Shape::Text(255)).since(97),
        Field::writable("vendor", Shape::Text(32)).since(100),
        Field::writable("category", Shape::Text(80)).since(101),
        Field::writable("available_for_dynamic_portgroup", Shape::Flag).since(103),
    ];

    fn field(&self, name: &str, _: &ApiRequest) -> Value {
        match name {
            "uuid" => self.uuid.to_string().into(),
            "address" => self.address.to_string().into(),
            "node_uuid" => self.node_uuid.to_string().into(),
            "extra" => self.extra.to_masked().into(),
            "internal_info" => self.internal_info.to_masked().into(),
            "local_link_connection" => self.local_link_connection.to_masked().into(),
            "pxe_enabled" => self.pxe_enabled.into(),
            "portgroup_uuid" => self.portgroup_uuid.map(|uuid| uuid.to_string()).into(),
            "physical_network" => self.physical_network.clone().into(),
            "created_at" => format_time(self.created_at),
            "updated_at" => format_optional_time(self.updated_at),
            _ => Value::Null,
        }
    }
}

/// `POST /v1/ports`
pub(super) async fn create(request: ApiRequest, JsonBody(body): JsonBody) -> HandlerResult {
    let values = FieldValues::validate(Port::FIELDS, Purpose::Creation, "port", body)?;
    let values = values.check_version(Port::FIELDS, request.version)?;
    let (Some(node), Some(address)) = (values.uuid("node_uuid"), values.mac("address")) else {
        return Err(Fault::Internal); // both are required
    };
    let uuid = values.uuid("uuid").unwrap_or_else(Uuid::new_v4);
    let port = apply_values(Port::new(uuid, node, address, request.now), &values);
    check_physical_network(&values)?;
    check_group(&request, &port).await?;
    request.operator.inventory.create(&port).await?;
    Ok(Reply::for_new_record(&request, &port))
}

/// Rejects an empty name of the physical network.
fn check_physical_network(values: &FieldValues) -> Result<(), Fault> {
    if values.text("physical_network").is_some_and(|network| network.is_empty()) {
        return Err(Fault::Invalid("A non-empty value is required when setting physical_network".into()));
    }
    Ok(())
}

/// Checks that a port's group exists, belongs to the same node and has ports of the same physical network.
async fn check_group(request: &ApiRequest, port: &Port) -> Result<(), Fault> {
    let Some(group) = port.portgroup_uuid else { return Ok(()) };
    let inventory = &request.operator.inventory;
    match inventory.get::<PortGroup>(group).await? {
        None => return Err(Fault::Invalid(Fault::not_found::<PortGroup>(group).to_string())),
        Some(group) if group.value.node_uuid != port.node_uuid => {
            return Err(Fault::Invalid("Port can not be attached to a portgroup of another node.".into()));
        }
        Some(_) => {}
    }
    let members = inventory.list_all_of::<Port>(port.node_uuid).await?;
    let mut others =
        members.iter().filter(|other| other.portgroup_uuid == Some(group) && other.uuid != port.uuid);
    match others.next() {
        Some(other) if other.physical_network != port.physical_network => {
            let name = |port: &Port| port.physical_network.clone().unwrap_or_else(|| "None".into());
            Err(Fault::Conflict(format!(
                "Port with physical network {} cannot become a member of port group {group} which has ports in \
                 physical network {}.",
                name(port),
                name(other)
            )))
        }
        _ => Ok(()),
    }
}

fn apply_values(port: Port, values: &FieldValues) -> Port {
    Port {
        node_uuid: values.uuid("node_uuid").unwrap_or(port.node_uuid),
        address: values.mac("address").unwrap_or(port.address),
        pxe_enabled: values.flag("pxe_enabled").unwrap_or(true),
        local_link_connection: values.object("local_link_connection").into(),
        portgroup_uuid: values.uuid("portgroup_uuid"),
        physical_network: values.text("physical_network"),
        extra: values.object("extra").into(),
        ..port
    }
}

impl Collection for Port {
    const FILTERS: &'static [&'static str] = &["node", "node_uuid", "portgroup", "address"];

    async fn build_filter(request: &ApiRequest, scope: Scope) -> Result<RecordFilter<Self>, Fault> {
        let query = &request.query;
        let scope = match (query.text("node")?.or(query.text("node_uuid")?), query.text("portgroup")?) {
            _ if scope != Scope::default() => scope,
            (Some(_), Some(_)) => return Err(Fault::Forbidden),
            (Some(node), None) => find_node(request, node).await?.scope(),
            (None, Some(group)) => {
                request.require_version(24)?;
                find_portgroup(request, group).await?.scope()
            }
            (None, None) => scope,
        };
        let address = query.text("address")?.map(|text| parse_mac("address", text)).transpose()?;
        Ok(RecordFilter::new(scope.node, move |port: &Self| {
            address.is_none_or(|address| port.address == address)
                && (scope.portgroup.is_none() || port.portgroup_uuid == scope.portgroup)
        }))
    }
}

/// `GET /v1/ports/{port}`
pub(super) async fn get(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    request.query.reject_unknown(&["fields"])?;
    let uuid = parse_uuid("port_ident", &ident)?;
    let selection = FieldSelection::for_record::<Port>(&request)?;
    let port =
        request.operator.inventory.get::<Port>(uuid).await?.ok_or_else(|| Fault::not_found::<Port>(uuid))?;
    Ok(Reply::Json(show(&port.value, &request, &selection)))
}

/// `PATCH /v1/ports/{port}`
pub(super) async fn update(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    JsonBody(body): JsonBody,
) -> HandlerResult {
    let uuid = parse_uuid("port_ident", &ident)?;
    let patch = Patch::parse::<Port>(body, &request)?;
    find_new_nodes::<Port>(&request, uuid, &patch).await?;
    let inventory = &request.operator.inventory;
    if patch.writes("portgroup_uuid") || patch.writes("physical_network") {
        let port = inventory.get::<Port>(uuid).await?.ok_or_else(|| Fault::not_found::<Port>(uuid))?;
        let values = patch.apply::<Port>(document(&port.value))?;
        check_group(&request, &apply_values(port.value, &values)).await?;
    }
    let change = |old: &Port, node: Option<&Node>| {
        let values = patch.apply::<Port>(document(old))?;
        check_physical_network(&values)?;
        let new = Port { updated_at: Some(request.now), ..apply_values(old.clone(), &values) };
        if let Some(node) = node {
            check_update(old, &new, node)?;
        }
        Ok(new)
    };
    let port = inventory.update(uuid, change).await.map_err(map_update_error::<Port>(uuid))?;
    Ok(Reply::Json(show(&port, &request, &FieldSelection::All)))
}

/// Checks the changes that depend on the node's state (Ironic's conductor, `update_port`).
fn check_update(old: &Port, new: &Port, node: &Node) -> Result<(), Fault> {
    use ProvisionState::{Enroll, InspectFailed, InspectWait, Inspecting, Manageable};
    if node.maintenance {
        return Ok(());
    }
    let in_use = node.instance_uuid.is_some() || node.provision_state == ProvisionState::Active;
    if old.address != new.address && in_use {
        return Err(Fault::Conflict(format!(
            "Cannot update the address of port {} on node {} while it is in use, unless it is in maintenance mode.",
            old.uuid, node.uuid
        )));
    }
    let is_rewired = old.pxe_enabled != new.pxe_enabled
        || old.portgroup_uuid != new.portgroup_uuid
        || old.physical_network != new.physical_network
        || old.local_link_connection != new.local_link_connection;
    let free = matches!(node.provision_state, Enroll | Inspecting | InspectWait | InspectFailed | Manageable);
    if is_rewired && !free {
        return Err(Fault::Conflict(format!(
            "Port {} can not have any connectivity attributes (pxe_enabled, portgroup_uuid, physical_network, \
             local_link_connection) updated unless node {} is in a enroll, inspecting, inspect wait, inspect failed, manageable state or in maintenance \
             mode.",
            old.uuid, node.uuid
        )));
    }
    Ok(())
}

/// `DELETE /v1/ports/{port}`
pub(super) async fn delete(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let uuid = parse_uuid("port_ident", &ident)?;
    let check = |_: &Port, _: Option<&Node>| Ok(());
    request.operator.inventory.delete(uuid, check).await.map_err(map_update_error::<Port>(uuid))?;
    Ok(Reply::NoContent)
}
