//! How nodes look to clients, and what may be written into them.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::ApiState;
use super::call::Call;
use super::fault::Fault;
use super::field::{Field, Given, Shape};
use super::interfaces;
use super::patch;
use super::shown::{Shown, maybe_time, time};
use super::version::Version;
use crate::model::{Node, PowerState, Properties, ProvisionState, RESERVED_NAMES, StorageInterface};
use crate::store::Unique;

const NAME: Shape = Shape::Text(255);

impl Shown for Node {
    const PATH: &'static str = "nodes";

    const FIELDS: &'static [Field] = &[
        Field::fixed("uuid", Shape::Uuid).listed(),
        Field::given("name", NAME).since(5).listed(),
        Field::given("driver", NAME).required(),
        Field::given("driver_info", Shape::Object),
        Field::shown("driver_internal_info", Shape::Object).since(3),
        Field::given("properties", Shape::Object),
        Field::given("extra", Shape::Object),
        Field::given("instance_info", Shape::Object),
        Field::given("instance_uuid", Shape::Uuid).listed(),
        Field::given("chassis_uuid", Shape::Uuid).unsorted(),
        Field::given("resource_class", Shape::Text(80)).since(21),
        Field::given("network_interface", NAME).since(20),
        Field::given("boot_interface", NAME).since(31),
        Field::given("console_interface", NAME).since(31),
        Field::given("deploy_interface", NAME).since(31),
        Field::given("inspect_interface", NAME).since(31),
        Field::given("management_interface", NAME).since(31),
        Field::given("power_interface", NAME).since(31),
        Field::given("raid_interface", NAME).since(31),
        Field::given("vendor_interface", NAME).since(31),
        Field::given("storage_interface", NAME).since(33),
        Field::given("maintenance", Shape::Flag).listed(),
        Field::shown("maintenance_reason", NAME),
        Field::fixed("console_enabled", Shape::Flag),
        Field::shown("power_state", NAME).listed(),
        Field::shown("target_power_state", NAME),
        Field::shown("provision_state", NAME).listed(),
        Field::shown("target_provision_state", NAME),
        Field::shown("provision_updated_at", Shape::Time),
        Field::shown("last_error", NAME),
        Field::shown("reservation", NAME),
        Field::shown("inspection_started_at", Shape::Time).since(6),
        Field::shown("inspection_finished_at", Shape::Time).since(6),
        Field::shown("clean_step", Shape::Object).since(7),
        Field::shown("raid_config", Shape::Object).since(12),
        Field::shown("target_raid_config", Shape::Object).since(12),
        Field::shown("created_at", Shape::Time),
        Field::shown("updated_at", Shape::Time),
        Field::shown("links", Shape::Links),
        Field::shown("ports", Shape::Links),
        Field::shown("states", Shape::Links).since(14),
        Field::shown("portgroups", Shape::Links).since(24),
        Field::shown("volume", Shape::Links).since(32),
        // Later than the last version served.
        Field::shown("traits", Shape::Object).since(37),
        Field::given("rescue_interface", NAME).since(38),
        Field::given("bios_interface", NAME).since(40),
        Field::shown("fault", NAME).since(42),
        Field::shown("deploy_step", Shape::Object).since(44),
        Field::given("conductor_group", NAME).since(46),
        Field::given("automated_clean", Shape::Flag).since(47),
        Field::given("protected", Shape::Flag).since(48),
        Field::given("protected_reason", NAME).since(48),
        Field::shown("conductor", NAME).since(49),
        Field::given("owner", NAME).since(50),
        Field::given("description", Shape::Text(4096)).since(51),
        Field::shown("allocation_uuid", Shape::Uuid).since(52),
        Field::given("retired", Shape::Flag).since(61),
        Field::given("retired_reason", NAME).since(61),
        Field::given("lessee", NAME).since(65),
        Field::given("network_data", Shape::Object).since(66),
        Field::fixed("boot_mode", NAME).since(75),
        Field::fixed("secure_boot", Shape::Flag).since(75),
        Field::given("shard", NAME).since(82),
        Field::given("parent_node", NAME).since(83),
        Field::given("firmware_interface", NAME).since(86),
        Field::shown("service_step", Shape::Object).since(87),
        Field::given("disable_power_off", Shape::Flag).since(95),
        Field::given("instance_name", NAME).since(104),
        Field::shown("health", NAME).since(109),
    ];

    fn field(&self, name: &str, call: &Call) -> Value {
        let below = |what: &str| call.links.pair(&format!("nodes/{}/{what}", self.uuid));
        match name {
            "uuid" => self.uuid.to_string().into(),
            "name" => self.name.clone().into(),
            "driver" => self.driver.clone().into(),
            "driver_info" => self.driver_info.masked().into(),
            "driver_internal_info" => self.driver_internal_info.masked().into(),
            "properties" => self.properties.masked().into(),
            "extra" => self.extra.masked().into(),
            "instance_info" => instance_info(&self.instance_info),
            "instance_uuid" => self.instance_uuid.map(|uuid| uuid.to_string()).into(),
            "chassis_uuid" => self.chassis_uuid.map(|uuid| uuid.to_string()).into(),
            "resource_class" => self.resource_class.clone().into(),
            "storage_interface" => self.storage_interface.as_str().into(),
            "maintenance" => self.maintenance.into(),
            "maintenance_reason" => self.maintenance_reason.clone().into(),
            // No console can be switched on.
            "console_enabled" => false.into(),
            "power_state" => self.power_state.map(PowerState::as_str).into(),
            "provision_state" => provision_state(self.provision_state, call.version),
            "target_provision_state" => self.target_provision_state.map(ProvisionState::as_str).into(),
            "provision_updated_at" => maybe_time(self.provision_updated_at),
            "last_error" => self.last_error.clone().into(),
            "clean_step" | "raid_config" | "target_raid_config" => json!({}),
            "created_at" => time(self.created_at),
            "updated_at" => maybe_time(self.updated_at),
            "ports" | "states" | "portgroups" | "volume" => below(name),
            _ => match interfaces::TYPES.iter().find(|(_, field)| *field == name) {
                Some((kind, _)) => interfaces::of_node(self, kind),
                // What only Ironic's conductors set.
                None => Value::Null,
            },
        }
    }
}

/// Beside secrets, Ironic hides two values that may have one inside.
fn instance_info(info: &Properties) -> Value {
    let mut shown = info.masked();
    for name in ["configdrive", "image_url"] {
        if let Some(value) = shown.get_mut(name).filter(|value| !value.is_null() && *value != "") {
            *value = "******".into();
        }
    }
    shown.into()
}

/// Before 1.2, a node that can be deployed had no state.
fn provision_state(state: ProvisionState, version: Version) -> Value {
    if state == ProvisionState::Available && version < Version(2) {
        Value::Null
    } else {
        state.as_str().into()
    }
}

/// What a patch of a node applies to.
pub(super) fn document(node: &Node) -> Map<String, Value> {
    let mut document = patch::document(node);
    for (kind, field) in interfaces::TYPES {
        document.insert(field.into(), node.interfaces.text(kind).into());
    }
    document
}

/// A node that stands before its creation.
pub(super) fn fresh(given: &Given, call: &Call) -> Node {
    let uuid = given.uuid("uuid").unwrap_or_else(Uuid::new_v4);
    let mut node = Node::new(uuid, "", call.state.default_storage_interface.clone(), call.now);
    // Nodes began as `available` until clients knew `enroll`.
    if call.version < Version(11) {
        node.provision_state = ProvisionState::Available;
    }
    node
}

/// A node with what was given written into it, as far as a node's own fields tell right from wrong.
pub(super) fn written(node: Node, given: &Given, state: &ApiState) -> Result<Node, Fault> {
    let set = interfaces::TYPES
        .iter()
        .filter_map(|(kind, field)| Some(((*kind).to_owned(), given.text(field)?.into())));
    let storage = given.text("storage_interface").map(StorageInterface::from);
    let maintenance = given.flag("maintenance").unwrap_or(false);
    let node = Node {
        name: given.text("name"),
        driver: given.text("driver").unwrap_or_default(),
        driver_info: given.object("driver_info").into(),
        properties: given.object("properties").into(),
        extra: given.object("extra").into(),
        instance_info: given.object("instance_info").into(),
        instance_uuid: given.uuid("instance_uuid"),
        chassis_uuid: given.uuid("chassis_uuid"),
        resource_class: given.text("resource_class").filter(|class| !class.is_empty()),
        interfaces: set.collect::<Map<_, _>>().into(),
        storage_interface: storage.unwrap_or_else(|| state.default_storage_interface.clone()),
        maintenance,
        maintenance_reason: node.maintenance_reason.filter(|_| maintenance),
        ..node
    };
    interfaces::check(&node, state)?;
    Ok(node)
}

/// When a node was changed last.
pub(super) fn touched(node: Node, now: Timestamp) -> Node {
    Node { updated_at: Some(now), ..node }
}

/// The node of a name or UUID that a client gave.
pub(super) async fn found(call: &Call, ident: &str) -> Result<Node, Fault> {
    match lookup(call, ident).await {
        // The client may have meant the name that ends so.
        Err(Fault::NotFound(_)) if call.json_suffix => lookup(call, &format!("{ident}.json")).await,
        answer => answer,
    }
    .map_err(|fault| match fault {
        Fault::NotFound(_) => Fault::missing::<Node>(ident),
        other => other,
    })
}

async fn lookup(call: &Call, ident: &str) -> Result<Node, Fault> {
    let inventory = &call.state.inventory;
    let node = if let Ok(uuid) = ident.parse() {
        inventory.get::<Node>(uuid).await?
    } else if call.version < Version(5) {
        None
    } else if is_name(ident, call.version) {
        inventory.find::<Node>(&Unique::NodeName(ident.into())).await?
    } else {
        return Err(Fault::Invalid(format!("Expected a logical name or UUID but received {ident}.")));
    };
    node.map(|node| node.value).ok_or_else(|| Fault::missing::<Node>(ident))
}

/// Refuses a name that no node may have. `refusal` is Ironic's sentence without the name.
pub(super) fn check_name(name: &str, version: Version, refusal: &str) -> Result<(), Fault> {
    if !is_name(name, version) || name.parse::<Uuid>().is_ok() {
        return Err(Fault::Invalid(format!("{refusal} '{name}'")));
    }
    if RESERVED_NAMES.contains(&name) {
        return Err(Fault::Invalid(format!(
            "The word \"{name}\" is reserved and can not be used as a node name. Reserved words are: {}.",
            RESERVED_NAMES.join(", ")
        )));
    }
    Ok(())
}

/// Whether a text could be a name: what needs no escape in a URL, and before 1.10 only a host name.
pub(super) fn is_name(name: &str, version: Version) -> bool {
    if name.is_empty() || name.len() > 255 {
        return false;
    }
    if version >= Version(10) {
        return name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    }
    name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}
