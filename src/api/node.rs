//! The node resource: its fields, their validation, and the lookup by name or UUID.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::conductors::read_conductor_group;
use super::fault::Fault;
use super::field::{Field, FieldValues, Shape};
use super::patch;
use super::request::ApiRequest;
use super::resource::{ApiResource, format_optional_time, format_time};
use super::version::Microversion;
use crate::model::{
    INTERFACE_TYPES, Node, NodeNameError, PowerState, Properties, ProvisionState, RESERVED_NAMES,
    StorageInterface, is_logical_name,
};
use crate::operator::{Operator, check_unreserved};

const NAME: Shape = Shape::Text(255);
const LONG_TEXT: Shape = Shape::Text(4096);

impl ApiResource for Node {
    const PATH: &'static str = "nodes";
    const REMOVAL_IS_VERSIONED: bool = false;

    const FIELDS: &'static [Field] = &[
        Field::create_only("uuid", Shape::Uuid).in_summary(),
        Field::writable("name", NAME).since(5).in_summary(),
        Field::writable("driver", NAME).required(),
        Field::writable("driver_info", Shape::Object),
        Field::read_only("driver_internal_info", Shape::Object).since(3),
        Field::writable("properties", Shape::Object),
        Field::writable("extra", Shape::Object),
        Field::writable("instance_info", Shape::Object),
        Field::writable("instance_uuid", Shape::Uuid).in_summary(),
        Field::writable("chassis_uuid", Shape::Uuid).unsortable(),
        Field::writable("resource_class", Shape::Text(80)).since(21),
        Field::writable("conductor_group", NAME).since(46),
        Field::read_only("conductor", NAME).since(49).unsortable(),
        Field::read_only("allocation_uuid", Shape::Uuid).since(52).unsortable(),
        Field::read_only("traits", Shape::TextList).since(37),
        Field::writable("network_interface", NAME).since(20),
        Field::writable("bios_interface", NAME).since(40),
        Field::writable("boot_interface", NAME).since(31),
        Field::writable("console_interface", NAME).since(31),
        Field::writable("deploy_interface", NAME).since(31),
        Field::writable("inspect_interface", NAME).since(31),
        Field::writable("management_interface", NAME).since(31),
        Field::writable("power_interface", NAME).since(31),
        Field::writable("raid_interface", NAME).since(31),
        Field::writable("rescue_interface", NAME).since(38),
        Field::writable("vendor_interface", NAME).since(31),
        Field::writable("storage_interface", NAME).since(33),
        Field::writable("maintenance", Shape::Flag).in_summary(),
        Field::read_only("maintenance_reason", NAME),
        Field::read_only("fault", NAME).since(42),
        Field::writable("automated_clean", Shape::Flag).since(47),
        Field::patch_only("protected", Shape::Flag).since(48),
        Field::patch_only("protected_reason", LONG_TEXT).since(48),
        Field::writable("owner", NAME).since(50),
        Field::writable("description", LONG_TEXT).since(51),
        Field::create_only("console_enabled", Shape::Flag),
        Field::read_only("power_state", NAME).in_summary(),
        Field::read_only("target_power_state", NAME),
        Field::read_only("provision_state", NAME).in_summary(),
        Field::read_only("target_provision_state", NAME),
        Field::read_only("provision_updated_at", Shape::Time),
        Field::read_only("last_error", NAME),
        Field::read_only("reservation", NAME),
        Field::read_only("inspection_started_at", Shape::Time).since(6),
        Field::read_only("inspection_finished_at", Shape::Time).since(6),
        Field::read_only("clean_step", Shape::Object).since(7),
        Field::read_only("deploy_step", Shape::Object).since(44),
        Field::read_only("raid_config", Shape::Object).since(12),
        Field::read_only("target_raid_config", Shape::Object).since(12),
        Field::read_only("created_at", Shape::Time),
        Field::read_only("updated_at", Shape::Time),
        Field::read_only("links", Shape::Links),
        Field::read_only("ports", Shape::Links),
        Field::read_only("states", Shape::Links).since(14),
        Field::read_only("portgroups", Shape::Links).since(24),
        Field::read_only("volume", Shape::Links).since(32),
        // Newer than the last supported microversion.
        Field::writable("retired", Shape::Flag).since(61),
        Field::writable("retired_reason", NAME).since(61),
        Field::writable("lessee", NAME).since(65),
        Field::writable("network_data", Shape::Object).since(66),
        Field::create_only("boot_mode", NAME).since(75),
        Field::create_only("secure_boot", Shape::Flag).since(75),
        Field::writable("shard", NAME).since(82),
        Field::writable("parent_node", NAME).since(83),
        Field::writable("firmware_interface", NAME).since(86),
        Field::read_only("service_step", Shape::Object).since(87),
        Field::writable("disable_power_off", Shape::Flag).since(95),
        Field::writable("instance_name", NAME).since(104),
        Field::read_only("health", NAME).since(109),
    ];

    fn field(&self, name: &str, request: &ApiRequest) -> Value {
        let below = |what: &str| request.links.pair(&format!("nodes/{}/{what}", self.uuid));
        match name {
            "uuid" => self.uuid.to_string().into(),
            "name" => self.name.clone().into(),
            "driver" => self.driver.clone().into(),
            "driver_info" => self.driver_info.to_masked().into(),
            "driver_internal_info" => self.driver_internal_info.to_masked().into(),
            "properties" => self.properties.to_masked().into(),
            "extra" => self.extra.to_masked().into(),
            "instance_info" => mask_instance_info(&self.instance_info),
            "instance_uuid" => self.instance_uuid.map(|uuid| uuid.to_string()).into(),
            "chassis_uuid" => self.chassis_uuid.map(|uuid| uuid.to_string()).into(),
            "resource_class" => self.resource_class.clone().into(),
            "conductor_group" => self.conductor_group.as_str().into(),
            "conductor" => {
                let conductor = &request.operator.conductor;
                conductor.manages(self).then(|| conductor.hostname.clone()).into()
            }
            "allocation_uuid" => self.allocation().map(|uuid| uuid.to_string()).into(),
            "traits" => json!(self.traits),
            "storage_interface" => self.storage_interface.as_str().into(),
            "maintenance" => self.maintenance.into(),
            "maintenance_reason" => self.maintenance_reason.clone().into(),
            "automated_clean" => self.automated_clean.into(),
            "protected" => self.protected.into(),
            "protected_reason" => self.protected_reason.clone().into(),
            "owner" => self.owner.clone().into(),
            "description" => self.description.clone().into(),
            // No driver has a console.
            "console_enabled" => false.into(),
            "target_power_state" => self.target_power_state.map(PowerState::as_str).into(),
            "reservation" => self.reservation.clone().into(),
            "power_state" => self.recorded_power_state().map(PowerState::as_str).into(),
            "provision_state" => show_provision_state(self.provision_state, request.version),
            "target_provision_state" => self.target_provision_state.map(ProvisionState::as_str).into(),
            "provision_updated_at" => format_optional_time(self.provision_updated_at),
            "last_error" => self.last_error.clone().into(),
            "clean_step" | "deploy_step" | "raid_config" | "target_raid_config" => json!({}),
            "created_at" => format_time(self.created_at),
            "updated_at" => format_optional_time(self.updated_at),
            "ports" | "states" | "portgroups" | "volume" => below(name),
            _ => match INTERFACE_TYPES.iter().find(|(_, field)| *field == name) {
                Some((kind, _)) => self.interface(kind).into(),
                // Fields set only by Ironic's conductors.
                None => Value::Null,
            },
        }
    }
}

/// Masks secrets and, as Ironic does, two values that may contain secrets.
fn mask_instance_info(info: &Properties) -> Value {
    let mut masked = info.to_masked();
    for name in ["configdrive", "image_url"] {
        if let Some(value) = masked.get_mut(name).filter(|value| !value.is_null() && *value != "") {
            *value = "******".into();
        }
    }
    masked.into()
}

/// The provision state at a microversion. Before 1.2, `available` was shown as `null`; `inspect wait` came with 1.39.
fn show_provision_state(state: ProvisionState, version: Microversion) -> Value {
    match state {
        ProvisionState::Available if version < Microversion(2) => Value::Null,
        ProvisionState::InspectWait if version < Microversion(39) => {
            ProvisionState::Inspecting.as_str().into()
        }
        state => state.as_str().into(),
    }
}

/// The document that a patch of a node applies to.
pub(super) fn document(node: &Node) -> Map<String, Value> {
    let mut document = patch::document(node);
    for (kind, field) in INTERFACE_TYPES {
        document.insert(field.into(), node.interfaces.text(kind).into());
    }
    document
}

/// Builds a new node with its UUID, defaults and initial state.
pub(super) fn new_node(values: &FieldValues, request: &ApiRequest) -> Node {
    let uuid = values.uuid("uuid").unwrap_or_else(Uuid::new_v4);
    let mut node = Node::new(uuid, "", request.operator.default_storage_interface.clone(), request.now);
    node.conductor_group = request.operator.conductor.group.clone();
    // Before 1.11, new nodes were `available`; the initial state `enroll` came with 1.11.
    if request.version < Microversion(11) {
        node.provision_state = ProvisionState::Available;
    }
    node
}

/// Removes the interfaces that a patch leaves unchanged, so that the new driver's defaults take their place.
pub(super) fn reset_interfaces(values: FieldValues, old: &Node) -> FieldValues {
    let is_unchanged = |name: &str, value: &Value| match INTERFACE_TYPES.iter().find(|(_, own)| *own == name)
    {
        Some((kind, _)) => old.interfaces.text(kind) == value.as_str(),
        None => name == "storage_interface" && value == old.storage_interface.as_str(),
    };
    values.without(is_unchanged)
}

/// Writes a client's values into a node and checks its interfaces. Checks that need other records are the caller's.
pub(super) fn apply_values(node: Node, values: &FieldValues, operator: &Operator) -> Result<Node, Fault> {
    let set = INTERFACE_TYPES
        .iter()
        .filter_map(|(kind, field)| Some(((*kind).to_owned(), values.text(field)?.into())));
    let storage = values.text("storage_interface").map(StorageInterface::from);
    let maintenance = values.flag("maintenance").unwrap_or(false);
    let instance_uuid = values.uuid("instance_uuid");
    let conductor_group = read_conductor_group(&node, values, &operator.conductor)?;
    let node = Node {
        name: values.text("name"),
        driver: values.text("driver").unwrap_or_default(),
        driver_info: values.object("driver_info").into(),
        properties: values.object("properties").into(),
        extra: values.object("extra").into(),
        instance_info: values.object("instance_info").into(),
        instance_uuid,
        // The instance of an allocated node is its allocation.
        allocation_uuid: node.allocation_uuid.filter(|allocation| instance_uuid == Some(*allocation)),
        chassis_uuid: values.uuid("chassis_uuid"),
        resource_class: values.text("resource_class").filter(|class| !class.is_empty()),
        conductor_group,
        interfaces: set.collect::<Map<_, _>>().into(),
        storage_interface: storage.unwrap_or_else(|| operator.default_storage_interface.clone()),
        maintenance,
        maintenance_reason: node.maintenance_reason.filter(|_| maintenance),
        automated_clean: values.flag("automated_clean"),
        protected: values.flag("protected").unwrap_or(false),
        protected_reason: values.text("protected_reason"),
        owner: values.text("owner"),
        description: values.text("description"),
        ..node
    };
    let hardware = &operator.conductor.hardware;
    let node = node.with_enabled_defaults(hardware);
    node.check_interfaces(hardware, &operator.enabled_storage_interfaces)?;
    Ok(node)
}

/// Whether a conductor changes the node's provision state, so that clients may not change the node. After a failure
/// they may.
pub(super) fn is_in_transition(node: &Node) -> bool {
    use ProvisionState::{
        AdoptFailed, CleanFailed, DeployFailed, Enroll, Error, InspectFailed, InspectWait, Inspecting,
        RescueFailed, UnrescueFailed, Verifying,
    };
    let tolerated = matches!(
        node.provision_state,
        DeployFailed
            | CleanFailed
            | Enroll
            | Error
            | Inspecting
            | InspectWait
            | InspectFailed
            | Verifying
            | AdoptFailed
            | RescueFailed
            | UnrescueFailed
    );
    node.target_provision_state.is_some() && !tolerated
}

/// Rejects a change while a conductor works on the node: this one, if the node has a BMC, or another service.
pub(super) fn check_not_locked(node: &Node) -> Result<(), Fault> {
    check_unreserved(node)?;
    if !node.provision_state.is_locked() {
        return Ok(());
    }
    Err(Fault::Conflict(format!(
        "Node {} is locked by host volboot, please retry after the current operation is completed.",
        node.uuid
    )))
}

/// Sets the time of a node's last change.
pub(super) fn set_updated_at(node: Node, now: Timestamp) -> Node {
    Node { updated_at: Some(now), ..node }
}

/// Finds a node by the name or UUID that a client sent.
pub(super) async fn find_node(request: &ApiRequest, ident: &str) -> Result<Node, Fault> {
    match lookup(request, ident).await {
        // The name itself may end with `.json`.
        Err(Fault::NotFound(_)) if request.json_suffix => lookup(request, &format!("{ident}.json")).await,
        result => result,
    }
    .map_err(|fault| match fault {
        Fault::NotFound(_) => Fault::not_found::<Node>(ident),
        other => other,
    })
}

async fn lookup(request: &ApiRequest, ident: &str) -> Result<Node, Fault> {
    let not_found = || Fault::not_found::<Node>(ident);
    if ident.parse::<Uuid>().is_err() {
        if request.version < Microversion(5) {
            return Err(not_found());
        }
        if !is_name(ident, request.version) {
            return Err(Fault::Invalid(format!("Expected a logical name or UUID but received {ident}.")));
        }
    }
    request.operator.find_node(ident).await?.ok_or_else(not_found)
}

/// Rejects invalid and reserved node names. `refusal` is Ironic's message without the name.
pub(super) fn check_name(name: &str, version: Microversion, refusal: &str) -> Result<(), Fault> {
    let checked = if is_name(name, version) { Node::check_name(name) } else { Err(NodeNameError::Invalid) };
    checked.map_err(|error| name_fault(error, name, refusal))
}

/// The fault for an invalid node name. `refusal` is Ironic's message without the name.
pub(super) fn name_fault(error: NodeNameError, name: &str, refusal: &str) -> Fault {
    Fault::Invalid(match error {
        NodeNameError::Invalid => format!("{refusal} '{name}'"),
        NodeNameError::Reserved => format!(
            "The word \"{name}\" is reserved and can not be used as a node name. Reserved words are: {}.",
            RESERVED_NAMES.join(", ")
        ),
    })
}

/// Whether a text is a valid name: unreserved URL characters, or before 1.10 a host name.
fn is_name(name: &str, version: Microversion) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    is_logical_name(name) && (version >= Microversion(10) || name.split('.').all(is_label))
}
