//! `/v1/portgroups`: bonded network cards.

use serde_json::Value;
use uuid::Uuid;

use super::collection::{Collection, Parent, Scope};
use super::fault::{Fault, map_update_error};
use super::field::{Field, FieldValues, Purpose, Shape, parse_mac};
use super::list::{RecordFilter, exists};
use super::patch::{Patch, document};
use super::relink::find_new_nodes;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, JsonBody, PathParam};
use super::resource::{ApiResource, FieldSelection, format_optional_time, format_time, show};
use crate::model::{Node, Port, PortGroup, Properties, is_logical_name};
use crate::store::UniqueKey;

/// Ironic's `[DEFAULT]default_portgroup_mode`.
const DEFAULT_MODE: &str = "active-backup";

impl ApiResource for PortGroup {
    const PATH: &'static str = "portgroups";

    const FIELDS: &'static [Field] = &[
        Field::create_only("uuid", Shape::Uuid).in_summary(),
        Field::writable("name", Shape::Text(255)).in_summary(),
        Field::writable("node_uuid", Shape::Uuid).required().unsortable(),
        Field::writable("address", Shape::Mac).in_summary(),
        Field::writable("standalone_ports_supported", Shape::Flag),
        Field::writable("extra", Shape::Object),
        Field::read_only("internal_info", Shape::Object),
        Field::writable("mode", Shape::Text(255)).since(26),
        Field::writable("properties", Shape::Object).since(26),
        Field::read_only("created_at", Shape::Time),
        Field::read_only("updated_at", Shape::Time),
        Field::read_only("links", Shape::Links),
        Field::read_only("ports", Shape::Links).since(24),
        // Newer than the last supported microversion.
        Field::read_only("physical_network", Shape::Text(64)).since(102),
        Field::writable("dynamic_portgroup", Shape::Flag).since(103),
        Field::writable("category", Shape::Text(80)).since(104),
    ];

    fn field(&self, name: &str, request: &ApiRequest) -> Value {
        match name {
            "uuid" => self.uuid.to_string().into(),
            "name" => self.name.clone().into(),
            "node_uuid" => self.node_uuid.to_string().into(),
            "address" => self.address.map(|mac| mac.to_string()).into(),
            "standalone_ports_supported" => self.standalone_ports_supported.into(),
            "extra" => self.extra.to_masked().into(),
            "internal_info" => self.internal_info.to_masked().into(),
            "mode" => self.mode.clone().into(),
            "properties" => self.properties.to_masked().into(),
            "created_at" => format_time(self.created_at),
            "updated_at" => format_optional_time(self.updated_at),
            "ports" => request.links.pair(&format!("portgroups/{}/ports", self.uuid)),
            _ => Value::Null,
        }
    }
}

impl Collection for PortGroup {
    const FILTERS: &'static [&'static str] = &["node", "address"];

    async fn build_filter(request: &ApiRequest, scope: Scope) -> Result<RecordFilter<Self>, Fault> {
        let node = scope.resolve_node(request).await?;
        let address = request.query.text("address")?.map(|text| parse_mac("address", text)).transpose()?;
        Ok(RecordFilter::new(node, move |group: &Self| address.is_none() || group.address == address))
    }
}

impl Parent for PortGroup {
    async fn find(request: &ApiRequest, ident: &str) -> Result<Self, Fault> {
        find_portgroup(request, ident).await
    }

    fn scope(&self) -> Scope {
        Scope { node: Some(self.node_uuid), portgroup: Some(self.uuid), ..Scope::default() }
    }
}

fn apply_values(group: PortGroup, values: &FieldValues) -> PortGroup {
    PortGroup {
        name: values.text("name"),
        node_uuid: values.uuid("node_uuid").unwrap_or(group.node_uuid),
        address: values.mac("address"),
        mode: values.text("mode").unwrap_or_else(|| DEFAULT_MODE.into()),
        properties: values.object("properties").into(),
        standalone_ports_supported: values.flag("standalone_ports_supported").unwrap_or(true),
        extra: values.object("extra").into(),
        ..group
    }
}

fn check_name(name: Option<&str>, refusal: &str) -> Result<(), Fault> {
    match name {
        Some(name) if !is_logical_name(name) || name.parse::<Uuid>().is_ok() => {
            Err(Fault::Invalid(format!("{refusal} '{name}'")))
        }
        _ => Ok(()),
    }
}

/// Finds a port group by the name or UUID that a client sent.
pub(super) async fn find_portgroup(request: &ApiRequest, ident: &str) -> Result<PortGroup, Fault> {
    let inventory = &request.operator.inventory;
    let group = if let Ok(uuid) = ident.parse() {
        inventory.get::<PortGroup>(uuid).await?
    } else if is_logical_name(ident) {
        inventory.find::<PortGroup>(&UniqueKey::PortGroupName(ident.into())).await?
    } else {
        return Err(Fault::Invalid(format!("Expected a logical name or UUID but received {ident}.")));
    };
    group.map(|group| group.value).ok_or_else(|| Fault::not_found::<PortGroup>(ident))
}

/// `POST /v1/portgroups`
pub(super) async fn create(request: ApiRequest, JsonBody(body): JsonBody) -> HandlerResult {
    let values = FieldValues::validate(PortGroup::FIELDS, Purpose::Creation, "portgroup", body)?;
    let values = values.check_version(PortGroup::FIELDS, request.version)?;
    check_name(values.text("name").as_deref(), "Cannot create portgroup with invalid name")?;
    let group = PortGroup {
        uuid: values.uuid("uuid").unwrap_or_else(Uuid::new_v4),
        created_at: request.now,
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
    let group = apply_values(group, &values);
    request.operator.inventory.create(&group).await?;
    Ok(Reply::for_new_record(&request, &group))
}

/// `GET /v1/portgroups/{portgroup}`
pub(super) async fn get(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    request.query.reject_unknown(&["fields"])?;
    let selection = FieldSelection::for_record::<PortGroup>(&request)?;
    Ok(Reply::Json(show(&find_portgroup(&request, &ident).await?, &request, &selection)))
}

/// `PATCH /v1/portgroups/{portgroup}`
pub(super) async fn update(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    JsonBody(body): JsonBody,
) -> HandlerResult {
    let patch = Patch::parse::<PortGroup>(body, &request)?;
    let uuid = find_portgroup(&request, &ident).await?.uuid;
    find_new_nodes::<PortGroup>(&request, uuid, &patch).await?;
    let change = |old: &PortGroup, _: Option<&Node>| {
        let values = patch.apply::<PortGroup>(document(old))?;
        let name = values.text("name");
        check_name(name.as_deref(), &format!("Portgroup {ident}: Cannot change name to invalid name"))?;
        Ok(PortGroup { updated_at: Some(request.now), ..apply_values(old.clone(), &values) })
    };
    let group =
        request.operator.inventory.update(uuid, change).await.map_err(map_update_error::<PortGroup>(uuid))?;
    Ok(Reply::Json(show(&group, &request, &FieldSelection::All)))
}

/// `DELETE /v1/portgroups/{portgroup}`
pub(super) async fn delete(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let group = find_portgroup(&request, &ident).await?;
    let uuid = group.uuid;
    let members =
        RecordFilter::new(Some(group.node_uuid), move |port: &Port| port.portgroup_uuid == Some(uuid));
    if exists(&request, members).await? {
        return Err(Fault::Invalid(format!(
            "Cannot complete the requested action because portgroup {uuid} contains ports."
        )));
    }
    let check = |_: &PortGroup, _: Option<&Node>| Ok(());
    request.operator.inventory.delete(uuid, check).await.map_err(map_update_error::<PortGroup>(uuid))?;
    Ok(Reply::NoContent)
}
