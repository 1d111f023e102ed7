//! [`Driver`]: Ironic's hardware types and their interfaces.
//!
//! volboot has two drivers with the same behaviour. `manual-management` is Ironic's name for machines that operators
//! switch by hand. `fake-hardware`, with Ironic's names for its interfaces, is for client libraries' test suites.

use super::{Node, StorageInterface};

/// A driver: its name, and for each interface type the enabled interfaces, the default first.
#[derive(Debug)]
pub struct Driver {
    /// Ironic's name for the driver.
    pub name: &'static str,
    interfaces: &'static [(&'static str, &'static [&'static str])],
}

/// All drivers.
pub const DRIVERS: [Driver; 2] = [
    Driver {
        name: "fake-hardware",
        interfaces: &[
            ("bios", &["no-bios"]),
            ("boot", &["fake"]),
            ("console", &["no-console"]),
            ("deploy", &["fake"]),
            ("inspect", &["no-inspect"]),
            ("management", &["fake"]),
            ("network", &["noop"]),
            ("power", &["fake"]),
            ("raid", &["no-raid"]),
            ("rescue", &["no-rescue"]),
            ("vendor", &["no-vendor"]),
        ],
    },
    Driver {
        name: "manual-management",
        interfaces: &[
            ("bios", &["no-bios"]),
            ("boot", &["ipxe"]),
            ("console", &["no-console"]),
            ("deploy", &["direct"]),
            ("inspect", &["no-inspect"]),
            ("management", &["noop"]),
            ("network", &["noop"]),
            ("power", &["fake"]),
            ("raid", &["no-raid"]),
            ("rescue", &["no-rescue"]),
            ("vendor", &["no-vendor"]),
        ],
    },
];

/// The interface types other than `storage`, each with the node's field.
pub const INTERFACE_TYPES: [(&str, &str); 11] = [
    ("bios", "bios_interface"),
    ("boot", "boot_interface"),
    ("console", "console_interface"),
    ("deploy", "deploy_interface"),
    ("inspect", "inspect_interface"),
    ("management", "management_interface"),
    ("network", "network_interface"),
    ("power", "power_interface"),
    ("raid", "raid_interface"),
    ("rescue", "rescue_interface"),
    ("vendor", "vendor_interface"),
];

/// A node's driver or one of its interfaces is not enabled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceError {
    /// No driver has this name.
    #[error("there is no driver {0}")]
    UnknownDriver(String),
    /// The driver, or the configuration for the type `storage`, does not enable the interface.
    #[error("{kind} interface {name} is not enabled; enabled are {}", .enabled.join(", "))]
    NotEnabled {
        /// The interface type.
        kind: &'static str,
        /// The interface.
        name: String,
        /// The enabled interfaces of this type.
        enabled: Vec<String>,
    },
}

impl Driver {
    /// Finds a driver by name.
    pub fn find(name: &str) -> Option<&'static Self> {
        DRIVERS.iter().find(|driver| driver.name == name)
    }

    /// The enabled interfaces of a type, the default first.
    pub fn enabled_interfaces(&self, kind: &str) -> &'static [&'static str] {
        self.interfaces.iter().find(|(own, _)| *own == kind).map_or(&[], |(_, enabled)| enabled)
    }
}

impl Node {
    /// The node's interface of a type: the explicit setting or the driver's default.
    pub fn interface(&self, kind: &str) -> Option<&str> {
        let default = || Driver::find(&self.driver)?.enabled_interfaces(kind).first().copied();
        self.interfaces.text(kind).or_else(default)
    }

    /// Checks that the node's driver and interfaces are enabled. `enabled_storage` is from the configuration.
    pub fn check_interfaces(&self, enabled_storage: &[StorageInterface]) -> Result<(), InterfaceError> {
        let driver =
            Driver::find(&self.driver).ok_or_else(|| InterfaceError::UnknownDriver(self.driver.clone()))?;
        for (kind, _) in INTERFACE_TYPES {
            if let Some(name) = self.interfaces.text(kind) {
                check_enabled(kind, name, driver.enabled_interfaces(kind))?;
            }
        }
        let enabled: Vec<_> = enabled_storage.iter().map(StorageInterface::as_str).collect();
        check_enabled("storage", self.storage_interface.as_str(), &enabled)
    }
}

fn check_enabled(kind: &'static str, name: &str, enabled: &[&str]) -> Result<(), InterfaceError> {
    if enabled.contains(&name) {
        return Ok(());
    }
    let enabled = enabled.iter().copied().map(str::to_owned).collect();
    Err(InterfaceError::NotEnabled { kind, name: name.to_owned(), enabled })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn node(driver: &str, interfaces: serde_json::Value, storage: StorageInterface) -> Node {
        let mut node = Node::new(Uuid::nil(), driver, storage, Timestamp::UNIX_EPOCH);
        node.interfaces = serde_json::from_value(interfaces).expect("an object");
        node
    }

    #[test]
    fn the_driver_and_every_interface_must_be_enabled() {
        use StorageInterface::{Cinder, External, Noop};
        let enabled = [Noop, External];
        let check = |driver, interfaces, storage| {
            let checked = node(driver, interfaces, storage).check_interfaces(&enabled);
            checked.map_err(|error| error.to_string()).err()
        };
        assert_eq!(check("manual-management", json!({"boot": "ipxe"}), External), None);
        for (driver, interfaces, storage, error) in [
            ("ipmi", json!({}), Noop, "there is no driver ipmi"),
            (
                "fake-hardware",
                json!({"boot": "ipxe"}),
                Noop,
                "boot interface ipxe is not enabled; enabled are fake",
            ),
            (
                "fake-hardware",
                json!({}),
                Cinder,
                "storage interface cinder is not enabled; enabled are noop, external",
            ),
        ] {
            assert_eq!(check(driver, interfaces, storage).as_deref(), Some(error));
        }
    }

    #[test]
    fn an_interface_that_is_not_set_is_the_driver_s_default() {
        let node = node("fake-hardware", json!({"boot": "other"}), StorageInterface::Noop);
        assert_eq!((node.interface("boot"), node.interface("power")), (Some("other"), Some("fake")));
        let unknown = Node { driver: "ipmi".into(), ..node };
        assert_eq!((unknown.interface("boot"), unknown.interface("power")), (Some("other"), None));
    }
}
