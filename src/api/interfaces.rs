//! The drivers (Ironic's hardware types) and their interfaces.
//!
//! volboot has two drivers with the same behaviour. `manual-management` is Ironic's name for machines that operators
//! switch by hand. `fake-hardware`, with Ironic's names for its interfaces, is for client libraries' test suites.

use serde_json::Value;

use super::ApiState;
use super::fault::Fault;
use crate::model::{Node, StorageInterface};

/// A driver: its name, and for each interface type the enabled interfaces, the default first.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) name: &'static str,
    interfaces: &'static [(&'static str, &'static [&'static str])],
}

/// All drivers.
pub(super) const DRIVERS: [Driver; 2] = [
    Driver {
        name: "fake-hardware",
        interfaces: &[
            ("boot", &["fake"]),
            ("console", &["no-console"]),
            ("deploy", &["fake"]),
            ("inspect", &["no-inspect"]),
            ("management", &["fake"]),
            ("network", &["noop"]),
            ("power", &["fake"]),
            ("raid", &["no-raid"]),
            ("vendor", &["no-vendor"]),
        ],
    },
    Driver {
        name: "manual-management",
        interfaces: &[
            ("boot", &["ipxe"]),
            ("console", &["no-console"]),
            ("deploy", &["direct"]),
            ("inspect", &["no-inspect"]),
            ("management", &["noop"]),
            ("network", &["noop"]),
            ("power", &["fake"]),
            ("raid", &["no-raid"]),
            ("vendor", &["no-vendor"]),
        ],
    },
];

/// The interface types other than `storage`, each with the node's field.
pub(super) const TYPES: [(&str, &str); 9] = [
    ("boot", "boot_interface"),
    ("console", "console_interface"),
    ("deploy", "deploy_interface"),
    ("inspect", "inspect_interface"),
    ("management", "management_interface"),
    ("network", "network_interface"),
    ("power", "power_interface"),
    ("raid", "raid_interface"),
    ("vendor", "vendor_interface"),
];

/// Finds a driver by name.
pub(super) fn find_driver(name: &str) -> Option<&'static Driver> {
    DRIVERS.iter().find(|driver| driver.name == name)
}

impl Driver {
    /// The enabled interfaces of a type, the default first.
    pub(super) fn enabled_interfaces(&self, kind: &str) -> &'static [&'static str] {
        self.interfaces.iter().find(|(own, _)| *own == kind).map_or(&[], |(_, enabled)| enabled)
    }
}

/// The node's interface of a type: the explicit setting or the driver's default.
pub(super) fn interface_of_node(node: &Node, kind: &str) -> Value {
    let default =
        || find_driver(&node.driver).and_then(|driver| driver.enabled_interfaces(kind).first()).copied();
    node.interfaces.text(kind).or_else(default).map_or(Value::Null, Value::from)
}

/// Checks that a node's driver and interfaces are enabled. Ironic has the same check at creation and update, and
/// answers 400.
pub(super) fn check(node: &Node, state: &ApiState) -> Result<(), Fault> {
    let Some(driver) = find_driver(&node.driver) else {
        return Err(Fault::Invalid(format!(
            "No valid host was found. Reason: No conductor service registered which supports driver {}.",
            node.driver
        )));
    };
    for (kind, _) in TYPES {
        let enabled = driver.enabled_interfaces(kind);
        if let Some(name) = node.interfaces.text(kind)
            && !enabled.contains(&name)
        {
            return Err(not_enabled(kind, name, enabled));
        }
    }
    let storage = &node.storage_interface;
    if state.enabled_storage_interfaces.contains(storage) {
        return Ok(());
    }
    let enabled: Vec<_> = state.enabled_storage_interfaces.iter().map(StorageInterface::as_str).collect();
    Err(not_enabled("storage", storage.as_str(), &enabled))
}

fn not_enabled(kind: &str, name: &str, enabled: &[&str]) -> Fault {
    let enabled = enabled.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    Fault::Invalid(format!(
        "Could not find the following interface in the 'ironic.hardware.interfaces.{kind}' entrypoint: {name}. \
         Valid interfaces are [{enabled}]."
    ))
}
