//! [`EnabledHardware`]: the drivers and interfaces that the configuration enables (Ironic's `enabled_hardware_types` and
//! `enabled_*_interfaces`).

use std::collections::BTreeMap;

use super::{DRIVERS, Driver, INTERFACE_TYPES};

/// The enabled drivers and interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnabledHardware {
    types: Vec<String>,
    /// By interface type; a type that is absent is not restricted.
    interfaces: BTreeMap<String, Vec<String>>,
}

impl Default for EnabledHardware {
    /// All drivers with all interfaces.
    fn default() -> Self {
        Self::new(DRIVERS.iter().map(|driver| driver.name.to_owned()).collect(), BTreeMap::new())
    }
}

impl EnabledHardware {
    /// These drivers, with these interfaces by type.
    pub fn new(types: Vec<String>, interfaces: BTreeMap<String, Vec<String>>) -> Self {
        Self { types, interfaces }
    }

    /// The enabled drivers.
    pub fn drivers(&self) -> impl Iterator<Item = &'static Driver> {
        DRIVERS.iter().filter(|driver| self.types.iter().any(|name| name == driver.name))
    }

    /// Finds an enabled driver by name.
    pub fn find(&self, name: &str) -> Option<&'static Driver> {
        self.drivers().find(|driver| driver.name == name)
    }

    /// The enabled interfaces of a driver, the default first.
    pub fn interfaces(&self, driver: &Driver, kind: &str) -> Vec<&'static str> {
        let supported = driver.supported_interfaces(kind).iter().copied();
        match self.interfaces.get(kind) {
            None => supported.collect(),
            Some(enabled) => supported.filter(|name| enabled.iter().any(|own| own == name)).collect(),
        }
    }

    /// Finds an interface type of which an enabled driver has no interface.
    pub fn find_missing_interface(&self) -> Option<(&'static Driver, &'static str)> {
        let pairs = self.drivers().flat_map(|driver| INTERFACE_TYPES.map(|(kind, _)| (driver, kind)));
        pairs.into_iter().find(|(driver, kind)| self.interfaces(driver, kind).is_empty())
    }

    /// All interfaces of a type that some driver supports.
    pub fn known_interfaces(kind: &str) -> Vec<&'static str> {
        let mut names: Vec<_> =
            DRIVERS.iter().flat_map(|driver| driver.supported_interfaces(kind).iter().copied()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
