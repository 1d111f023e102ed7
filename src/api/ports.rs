//! `/v1/ports`: the network cards by which machines are recognised.

use serde_json::Value;
use uuid::Uuid;

use super::call::{At, Call, Sent};
use super::fault::{Fault, unchanged};
use super::field::{Field, Given, Purpose, Shape, mac, uuid};
use super::list::{ARGUMENTS, Listing};
use super::node::found;
use super::patch::{Patch, document};
use super::portgroups;
use super::reply::{Answer, Reply};
use super::shown::{Choice, Shown, maybe_time, show, time};
use crate::model::{Node, Port, PortGroup, ProvisionState};

impl Shown for Port {
    const PATH: &'static str = "ports";

    const FIELDS: &'static [Field] = &[
        Field::fixed("uuid", Shape::Uuid).listed(),
        Field::given("address", Shape::Mac).required().listed(),
        Field::given("node_uuid", Shape::Uuid).required().unsorted(),
        Field::given("extra", Shape::Object),
        Field::shown("internal_info", Shape::Object).since(18),
        Field::given("local_link_connection", Shape::Object).since(19),
        Field::given("pxe_enabled", Shape::Flag).since(19),
        Field::given("portgroup_uuid", Shape::Uuid).since(24).unsorted(),
        Field::shown("created_at", Shape::Time),
        Field::shown("updated_at", Shape::Time),
        Field::shown("links", Shape::Links),
        // Later than the last version served.
        Field::given("physical_network", Shape::Text(64)).since(34),
        Field::given("is_smartnic", Shape::Flag).since(53),
        Field::given("name", Shape::Text(255)).since(88),
        Field::given("node_ident", Shape::Text(255)).since(94),
        Field::given("description", Shape::Text(255)).since(97),
        Field::given("vendor", Shape::Text(32)).since(100),
        Field::given("category", Shape::Text(80)).since(101),
        Field::given("available_for_dynamic_portgroup", Shape::Flag).since(103),
    ];

    fn field(&self, name: &str, _: &Call) -> Value {
        match name {
            "uuid" => self.uuid.to_string().into(),
            "address" => self.address.to_string().into(),
            "node_uuid" => self.node_uuid.to_string().into(),
            "extra" => self.extra.masked().into(),
            "internal_info" => self.internal_info.masked().into(),
            "local_link_connection" => self.local_link_connection.masked().into(),
            "pxe_enabled" => self.pxe_enabled.into(),
            "portgroup_uuid" => self.portgroup_uuid.map(|uuid| uuid.to_string()).into(),
            "created_at" => time(self.created_at),
            "updated_at" => maybe_time(self.updated_at),
            _ => Value::Null,
        }
    }
}

/// `POST /v1/ports`
pub(super) async fn create(call: Call, Sent(body): Sent) -> Answer {
    let given = Given::checked(Port::FIELDS, Purpose::Creation, "port", body)?;
    let given = given.in_version(Port::FIELDS, call.version)?;
    let (Some(node), Some(address)) = (given.uuid("node_uuid"), given.mac("address")) else {
        return Err(Fault::Broken); // both are required
    };
    let port = Port {
        uuid: given.uuid("uuid").unwrap_or_else(Uuid::new_v4),
        created_at: call.now,
        updated_at: None,
        node_uuid: node,
        address,
        pxe_enabled: true,
        local_link_connection: crate::model::Properties::default(),
        portgroup_uuid: None,
        internal_info: crate::model::Properties::default(),
        extra: crate::model::Properties::default(),
    };
    let port = written(port, &given);
    check_group(&call, port.portgroup_uuid, node).await?;
    call.state.inventory.create(&port).await?;
    Ok(Reply::created(&call, &port))
}

/// The port group that a port is put into must be there, and be the same node's.
async fn check_group(call: &Call, group: Option<Uuid>, node: Uuid) -> Result<(), Fault> {
    let Some(group) = group else { return Ok(()) };
    match call.state.inventory.get::<PortGroup>(group).await? {
        None => Err(Fault::Invalid(Fault::missing::<PortGroup>(group).to_string())),
        Some(found) if found.value.node_uuid != node => {
            Err(Fault::Invalid("Port can not be attached to a portgroup of another node.".into()))
        }
        Some(_) => Ok(()),
    }
}

fn written(port: Port, given: &Given) -> Port {
    Port {
        node_uuid: given.uuid("node_uuid").unwrap_or(port.node_uuid),
        address: given.mac("address").unwrap_or(port.address),
        pxe_enabled: given.flag("pxe_enabled").unwrap_or(true),
        local_link_connection: given.object("local_link_connection").into(),
        portgroup_uuid: given.uuid("portgroup_uuid"),
        extra: given.object("extra").into(),
        ..port
    }
}

/// `GET /v1/ports`
pub(super) async fn list(call: Call) -> Answer {
    let choice = Choice::of_list::<Port>(&call, 43)?;
    page(&call, "ports", choice, &ARGUMENTS, Scope::All).await
}

/// `GET /v1/ports/detail`
pub(super) async fn detail(call: Call) -> Answer {
    page(&call, "ports/detail", Choice::All, &ARGUMENTS[..4], Scope::All).await
}

/// `GET /v1/nodes/{node}/ports`
pub(super) async fn list_of_node(call: Call, At(ident): At<String>) -> Answer {
    let node = found(&call, &ident).await?;
    let choice = Choice::of_list::<Port>(&call, 43)?;
    page(&call, &format!("nodes/{}/ports", node.uuid), choice, &ARGUMENTS, Scope::Node(node.uuid)).await
}

/// `GET /v1/portgroups/{portgroup}/ports`
pub(super) async fn list_of_group(call: Call, At(ident): At<String>) -> Answer {
    let group = portgroups::found(&call, &ident).await?;
    let choice = Choice::of_list::<Port>(&call, 43)?;
    page(&call, &format!("portgroups/{}/ports", group.uuid), choice, &ARGUMENTS, Scope::Group(group)).await
}

/// `GET /v1/portgroups/{portgroup}/ports/detail`
pub(super) async fn detail_of_group(call: Call, At(ident): At<String>) -> Answer {
    let group = portgroups::found(&call, &ident).await?;
    let path = format!("portgroups/{}/ports/detail", group.uuid);
    page(&call, &path, Choice::All, &ARGUMENTS[..4], Scope::Group(group)).await
}

/// `GET /v1/nodes/{node}/ports/detail`
pub(super) async fn detail_of_node(call: Call, At(ident): At<String>) -> Answer {
    let node = found(&call, &ident).await?;
    let path = format!("nodes/{}/ports/detail", node.uuid);
    page(&call, &path, Choice::All, &ARGUMENTS[..4], Scope::Node(node.uuid)).await
}

/// By what ports can be chosen.
pub(super) const FILTERS: [&str; 4] = ["node", "node_uuid", "portgroup", "address"];

/// Whose ports a list shows.
enum Scope {
    All,
    Node(Uuid),
    Group(PortGroup),
}

async fn page(call: &Call, path: &str, choice: Choice, arguments: &[&str], scope: Scope) -> Answer {
    let query = &call.query;
    let known: Vec<_> = arguments.iter().chain(&FILTERS).copied().collect();
    query.only(&known)?;
    let scope = match (scope, query.text("node")?.or(query.text("node_uuid")?), query.text("portgroup")?) {
        (Scope::All, Some(_), Some(_)) => return Err(Fault::Forbidden),
        (Scope::All, Some(node), None) => Scope::Node(found(call, node).await?.uuid),
        (Scope::All, None, Some(group)) => {
            call.needs(24)?;
            Scope::Group(portgroups::found(call, group).await?)
        }
        (scope, ..) => scope,
    };
    let (of_node, group) = match scope {
        Scope::All => (None, None),
        Scope::Node(node) => (Some(node), None),
        Scope::Group(group) => (Some(group.node_uuid), Some(group.uuid)),
    };
    let address = query.text("address")?.map(|text| mac("address", text)).transpose()?;
    let keeps = Box::new(move |port: &Port| {
        address.is_none_or(|address| port.address == address)
            && (group.is_none() || port.portgroup_uuid == group)
    });
    Listing { call, path: path.into(), choice, of_node, keeps }.page().await.map(Reply::Shown)
}

/// `GET /v1/ports/{port}`
pub(super) async fn get(call: Call, At(ident): At<String>) -> Answer {
    call.query.only(&["fields"])?;
    let uuid = uuid("port_ident", &ident)?;
    let choice = Choice::of_one::<Port>(&call)?;
    let port = call.state.inventory.get::<Port>(uuid).await?.ok_or_else(|| Fault::missing::<Port>(uuid))?;
    Ok(Reply::Shown(show(&port.value, &call, &choice)))
}

/// `PATCH /v1/ports/{port}`
pub(super) async fn update(call: Call, At(ident): At<String>, Sent(body): Sent) -> Answer {
    let uuid = uuid("port_ident", &ident)?;
    let patch = Patch::read::<Port>(body, &call)?;
    for group in patch.values("portgroup_uuid").filter_map(|group| group.as_str()?.parse().ok()) {
        let port =
            call.state.inventory.get::<Port>(uuid).await?.ok_or_else(|| Fault::missing::<Port>(uuid))?;
        check_group(&call, Some(group), port.value.node_uuid).await?;
    }
    let change = |old: &Port, node: Option<&Node>| {
        let given = patch.applied::<Port>(document(old))?;
        let new = Port { updated_at: Some(call.now), ..written(old.clone(), &given) };
        if let Some(node) = node {
            allowed(old, &new, node)?;
        }
        Ok(new)
    };
    let port = call.state.inventory.update(uuid, change).await.map_err(unchanged::<Port>(uuid))?;
    Ok(Reply::Shown(show(&port, &call, &Choice::All)))
}

/// Changes that depend on what the node is doing (Ironic's conductor, `update_port`).
fn allowed(old: &Port, new: &Port, node: &Node) -> Result<(), Fault> {
    use ProvisionState::{Enroll, InspectFailed, Inspecting, Manageable};
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
    let wiring = |port: &Port| (port.pxe_enabled, port.portgroup_uuid, port.local_link_connection.clone());
    let free = matches!(node.provision_state, Enroll | Inspecting | InspectFailed | Manageable);
    if wiring(old) != wiring(new) && !free {
        return Err(Fault::Conflict(format!(
            "Port {} can not have any connectivity attributes (pxe_enabled, portgroup_uuid, local_link_connection) \
             updated unless node {} is in a enroll, inspecting, inspect failed, manageable state or in maintenance \
             mode.",
            old.uuid, node.uuid
        )));
    }
    Ok(())
}

/// `DELETE /v1/ports/{port}`
pub(super) async fn delete(call: Call, At(ident): At<String>) -> Answer {
    let uuid = uuid("port_ident", &ident)?;
    let allowed = |_: &Port, _: Option<&Node>| Ok(());
    call.state.inventory.delete(uuid, allowed).await.map_err(unchanged::<Port>(uuid))?;
    Ok(Reply::Done)
}
