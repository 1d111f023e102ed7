//! [`Driver`]: Ironic's hardware types and their interfaces.
//!
//! `redfish` switches machines through their BMCs. `manual-management` is Ironic's name for machines that operators switch
//! by hand. `fake-hardware`, with Ironic's names for its interfaces and the same behaviour, is for client libraries' test
//! suites.

use super::{EnabledHardware, Node, StorageInterface};

/// A driver: its name, and for each interface type the supported interfaces, the default first.
#[derive(Debug)]
pub struct Driver {
    /// Ironic's name for the driver.
    pub name: &'static str,
    interfaces: &'static [(&'static str, &'static [&'static str])],
}

/// All drivers.
pub const DRIVERS: [Driver; 3] = [
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
    Driver {
        name: "redfish",
        interfaces: &[
            ("bios", &["no-bios"]),
            ("boot", &["ipxe"]),
            ("console", &["no-console"]),
            ("deploy", &["direct"]),
            ("inspect", &["no-inspect"]),
            ("management", &["redfish", "noop"]),
            ("network", &["noop"]),
            ("power", &["redfish"]),
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
    /// The driver does not support the interface, or the configuration does not enable it.
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

    /// The supported interfaces of a type, the default first.
    pub fn supported_interfaces(&self, kind: &str) -> &'static [&'static str] {
        self.interfaces.iter().find(|(own, _)| *own == kind).map_or(&[], |(_, enabled)| enabled)
    }
}

impl Node {
    /// The node's interface of a type: the explicit setting or the driver's default.
    pub fn interface(&self, kind: &str) -> Option<&str> {
        let default = || Driver::find(&self.driver)?.supported_interfaces(kind).first().copied();
        self.interfaces.text(kind).or_else(default)
    }

    /// Whether volboot switches the machine through its BMC.
    pub fn has_bmc(&self) -> bool {
        self.interface("power") == Some("redfish")
    }

    /// Whether volboot sets the boot device through the BMC.
    pub fn has_managed_boot_device(&self) -> bool {
        self.interface("management") == Some("redfish")
    }

    /// Sets the interfaces whose default the configuration does not enable to the first enabled ones.
    #[must_use]
    pub fn with_enabled_defaults(mut self, hardware: &EnabledHardware) -> Self {
        let Some(driver) = hardware.find(&self.driver) else { return self };
        for (kind, _) in INTERFACE_TYPES {
            let enabled = hardware.interfaces(driver, kind);
            let default = driver.supported_interfaces(kind).first();
            if let Some(first) = enabled.first()
                && Some(first) != default
                && self.interfaces.text(kind).is_none()
            {
                self.interfaces = self.interfaces.with_text(kind, first);
            }
        }
        self
    }

    /// Checks that the node's driver and interfaces are enabled. `hardware` and `enabled_storage` are from the
    /// configuration.
    pub fn check_interfaces(
        &self,
        hardware: &EnabledHardware,
        enabled_storage: &[StorageInterface],
    ) -> Result<(), InterfaceError> {
        let driver =
            hardware.find(&self.driver).ok_or_else(|| InterfaceError::UnknownDriver(self.driver.clone()))?;
        for (kind, _) in INTERFACE_TYPES {
            if let Some(name) = self.interfaces.text(kind) {
                check_enabled(kind, name, &hardware.interfaces(driver, kind))?;
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
            let checked =
                node(driver, interfaces, storage).check_interfaces(&EnabledHardware::default(), &enabled);
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
    fn a_node_with_power_through_its_bmc_is_one_of_driver_redfish() {
        let of = |driver, interfaces| {
            let node = node(driver, interfaces, StorageInterface::Noop);
            (node.has_bmc(), node.has_managed_boot_device())
        };
        assert_eq!(of("redfish", json!({})), (true, true));
        assert_eq!(of("redfish", json!({"management": "noop"})), (true, false));
        assert_eq!(of("manual-management", json!({})), (false, false));
        assert_eq!(of("fake-hardware", json!({})), (false, false));
    }

    #[test]
    fn a_default_that_is_not_enabled_gives_way_to_an_enabled_interface() {
        let hardware = EnabledHardware::new(
            vec!["redfish".into()],
            [("management".to_owned(), vec!["noop".to_owned()])].into(),
        );
        let default = node("redfish", json!({}), StorageInterface::Noop);
        let settled = default.clone().with_enabled_defaults(&hardware);
        assert_eq!(settled.interface("management"), Some("noop"));
        assert_eq!(settled.interfaces.text("power"), None);
        let explicit = node("redfish", json!({"management": "redfish"}), StorageInterface::Noop);
        let error =
            explicit.check_interfaces(&hardware, &[StorageInterface::Noop]).expect_err("is not enabled");
        assert_eq!(error.to_string(), "management interface redfish is not enabled; enabled are noop");
        let other = node("fake-hardware", json!({}), StorageInterface::Noop);
        assert!(other.check_interfaces(&hardware, &[StorageInterface::Noop]).is_err());
    }

    #[test]
    fn an_interface_that_is_not_set_is_the_driver_s_default() {
        let node = node("fake-hardware", json!({"boot": "other"}), StorageInterface::Noop);
        assert_eq!((node.interface("boot"), node.interface("power")), (Some("other"), Some("fake")));
        let unknown = Node { driver: "ipmi".into(), ..node };
        assert_eq!((unknown.interface("boot"), unknown.interface("power")), (Some("other"), None));
    }
}
