//! `/v1/portgroups`: network cards that work as one.

use serde_json::Value;
use uuid::Uuid;

use super::call::{At, Call, Sent};
use super::fault::{Fault, unchanged};
use super::field::{Field, Given, Purpose, Shape, mac};
use super::list::{ARGUMENTS, Listing, any};
use super::node::{self, is_name};
use super::patch::{Patch, document};
use super::reply::{Answer, Reply};
use super::shown::{Choice, Shown, maybe_time, show, time};
use super::version::Version;
use crate::model::{Node, Port, PortGroup, Properties};
use crate::store::Unique;

/// Ironic's `[DEFAULT]default_portgroup_mode`.
const DEFAULT_MODE: &str = "active-backup";

impl Shown for PortGroup {
    const PATH: &'static str = "portgroups";

    const FIELDS: &'static [Field] = &[
        Field::fixed("uuid", Shape::Uuid).listed(),
        Field::given("name", Shape::Text(255)).listed(),
        Field::given("node_uuid", Shape::Uuid).required().unsorted(),
        Field::given("address", Shape::Mac).listed(),
        Field::given("standalone_ports_supported", Shape::Flag),
        Field::given("extra", Shape::Object),
        Field::shown("internal_info", Shape::Object),
        Field::given("mode", Shape::Text(255)).since(26),
        Field::given("properties", Shape::Object).since(26),
        Field::shown("created_at", Shape::Time),
        Field::shown("updated_at", Shape::Time),
        Field::shown("links", Shape::Links),
        Field::shown("ports", Shape::Links).since(24),
        // Later than the last version served.
        Field::shown("physical_network", Shape::Text(64)).since(102),
        Field::given("dynamic_portgroup", Shape::Flag).since(103),
        Field::given("category", Shape::Text(80)).since(104),
    ];

    fn field(&self, name: &str, call: &Call) -> Value {
        match name {
            "uuid" => self.uuid.to_string().into(),
            "name" => self.name.clone().into(),
            "node_uuid" => self.node_uuid.to_string().into(),
            "address" => self.address.map(|mac| mac.to_string()).into(),
            "standalone_ports_supported" => self.standalone_ports_supported.into(),
            "extra" => self.extra.masked().into(),
            "internal_info" => self.internal_info.masked().into(),
            "mode" => self.mode.clone().into(),
            "properties" => self.properties.masked().into(),
            "created_at" => time(self.created_at),
            "updated_at" => maybe_time(self.updated_at),
            "ports" => call.links.pair(&format!("portgroups/{}/ports", self.uuid)),
            _ => Value::Null,
        }
    }
}

/// By what port groups can be chosen.
pub(super) const FILTERS: [&str; 2] = ["node", "address"];

fn written(group: PortGroup, given: &Given) -> PortGroup {
    PortGroup {
        name: given.text("name"),
        node_uuid: given.uuid("node_uuid").unwrap_or(group.node_uuid),
        address: given.mac("address"),
        mode: given.text("mode").unwrap_or_else(|| DEFAULT_MODE.into()),
        properties: given.object("properties").into(),
        standalone_ports_supported: given.flag("standalone_ports_supported").unwrap_or(true),
        extra: given.object("extra").into(),
        ..group
    }
}

fn check_name(name: Option<&str>, refusal: &str) -> Result<(), Fault> {
    match name {
        Some(name) if !is_name(name, Version::MAX) || name.parse::<Uuid>().is_ok() => {
            Err(Fault::Invalid(format!("{refusal} '{name}'")))
        }
        _ => Ok(()),
    }
}

/// The port group of a name or UUID that a client gave.
pub(super) async fn found(call: &Call, ident: &str) -> Result<PortGroup, Fault> {
    let inventory = &call.state.inventory;
    let group = if let Ok(uuid) = ident.parse() {
        inventory.get::<PortGroup>(uuid).await?
    } else if is_name(ident, Version::MAX) {
        inventory.find::<PortGroup>(&Unique::PortGroupName(ident.into())).await?
    } else {
        return Err(Fault::Invalid(format!("Expected a logical name or UUID but received {ident}.")));
    };
    group.map(|group| group.value).ok_or_else(|| Fault::missing::<PortGroup>(ident))
}

/// `POST /v1/portgroups`
pub(super) async fn create(call: Call, Sent(body): Sent) -> Answer {
    let given = Given::checked(PortGroup::FIELDS, Purpose::Creation, "portgroup", body)?;
    let given = given.in_version(PortGroup::FIELDS, call.version)?;
    check_name(given.text("name").as_deref(), "Cannot create portgroup with invalid name")?;
    let group = PortGroup {
        uuid: given.uuid("uuid").unwrap_or_else(Uuid::new_v4),
        created_at: call.now,
        updated_at: None,
        node_uuid: Uuid::nil(),
        name: None,
        address: None,
        mode: String::new(),
        properties: Properties::default(),
        standalone_ports_supported: true,
        internal_info: Properties::default(),
        extra: Properties::default(),
    };
    let group = written(group, &given);
    call.state.inventory.create(&group).await?;
    Ok(Reply::created(&call, &group))
}

/// `GET /v1/portgroups`
pub(super) async fn list(call: Call) -> Answer {
    let choice = Choice::of_list::<PortGroup>(&call, 43)?;
    page(&call, "portgroups", choice, &ARGUMENTS, None).await
}

/// `GET /v1/portgroups/detail`
pub(super) async fn detail(call: Call) -> Answer {
    page(&call, "portgroups/detail", Choice::All, &ARGUMENTS[..4], None).await
}

/// `GET /v1/nodes/{node}/portgroups`
pub(super) async fn list_of_node(call: Call, At(ident): At<String>) -> Answer {
    let node = node::found(&call, &ident).await?.uuid;
    let choice = Choice::of_list::<PortGroup>(&call, 43)?;
    page(&call, &format!("nodes/{node}/portgroups"), choice, &ARGUMENTS, Some(node)).await
}

/// `GET /v1/nodes/{node}/portgroups/detail`
pub(super) async fn detail_of_node(call: Call, At(ident): At<String>) -> Answer {
    let node = node::found(&call, &ident).await?.uuid;
    page(&call, &format!("nodes/{node}/portgroups/detail"), Choice::All, &ARGUMENTS[..4], Some(node)).await
}

async fn page(call: &Call, path: &str, choice: Choice, arguments: &[&str], of_node: Option<Uuid>) -> Answer {
    let known: Vec<_> = arguments.iter().chain(&FILTERS).copied().collect();
    call.query.only(&known)?;
    let of_node = match call.query.text("node")? {
        Some(ident) if of_node.is_none() => Some(node::found(call, ident).await?.uuid),
        _ => of_node,
    };
    let address = call.query.text("address")?.map(|text| mac("address", text)).transpose()?;
    let keeps = Box::new(move |group: &PortGroup| address.is_none() || group.address == address);
    Listing { call, path: path.into(), choice, of_node, keeps }.page().await.map(Reply::Shown)
}

/// `GET /v1/portgroups/{portgroup}`
pub(super) async fn get(call: Call, At(ident): At<String>) -> Answer {
    call.query.only(&["fields"])?;
    let choice = Choice::of_one::<PortGroup>(&call)?;
    Ok(Reply::Shown(show(&found(&call, &ident).await?, &call, &choice)))
}

/// `PATCH /v1/portgroups/{portgroup}`
pub(super) async fn update(call: Call, At(ident): At<String>, Sent(body): Sent) -> Answer {
    let patch = Patch::read::<PortGroup>(body, &call)?;
    let uuid = found(&call, &ident).await?.uuid;
    let change = |old: &PortGroup, _: Option<&Node>| {
        let given = patch.applied::<PortGroup>(document(old))?;
        let name = given.text("name");
        check_name(name.as_deref(), &format!("Portgroup {ident}: Cannot change name to invalid name"))?;
        Ok(PortGroup { updated_at: Some(call.now), ..written(old.clone(), &given) })
    };
    let group = call.state.inventory.update(uuid, change).await.map_err(unchanged::<PortGroup>(uuid))?;
    Ok(Reply::Shown(show(&group, &call, &Choice::All)))
}

/// `DELETE /v1/portgroups/{portgroup}`
pub(super) async fn delete(call: Call, At(ident): At<String>) -> Answer {
    let group = found(&call, &ident).await?;
    let uuid = group.uuid;
    if any(&call, Some(group.node_uuid), Box::new(move |port: &Port| port.portgroup_uuid == Some(uuid)))
        .await?
    {
        return Err(Fault::Invalid(format!(
            "Cannot complete the requested action because portgroup {uuid} contains ports."
        )));
    }
    let allowed = |_: &PortGroup, _: Option<&Node>| Ok(());
    call.state.inventory.delete(uuid, allowed).await.map_err(unchanged::<PortGroup>(uuid))?;
    Ok(Reply::Done)
}
