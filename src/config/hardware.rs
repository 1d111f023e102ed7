//! `enabled_hardware_types` and `enabled_*_interfaces`, as Ironic names them.

use super::read::Section;
use crate::model::{DRIVERS, EnabledHardware};

/// Each interface type with its key.
const KEYS: [(&str, &str); 11] = [
    ("bios", "enabled_bios_interfaces"),
    ("boot", "enabled_boot_interfaces"),
    ("console", "enabled_console_interfaces"),
    ("deploy", "enabled_deploy_interfaces"),
    ("inspect", "enabled_inspect_interfaces"),
    ("management", "enabled_management_interfaces"),
    ("network", "enabled_network_interfaces"),
    ("power", "enabled_power_interfaces"),
    ("raid", "enabled_raid_interfaces"),
    ("rescue", "enabled_rescue_interfaces"),
    ("vendor", "enabled_vendor_interfaces"),
];

pub(super) fn from_section(root: &mut Section) -> EnabledHardware {
    let drivers = DRIVERS.each_ref().map(|driver| driver.name);
    let types = read_names(root, "enabled_hardware_types", &drivers);
    let interfaces = KEYS.map(|(kind, key)| {
        let known = EnabledHardware::known_interfaces(kind);
        (kind.to_owned(), read_names(root, key, &known))
    });
    EnabledHardware::new(types, interfaces.into())
}

/// Reads a list of names; the default is all.
fn read_names(root: &mut Section, key: &'static str, known: &[&str]) -> Vec<String> {
    let all = known.iter().copied().map(str::to_owned).collect();
    root.list(key, all, |text| {
        let expected = || format!("\"{text}\" is not one of {}", known.join(", "));
        if known.contains(&text) { Ok(text.to_owned()) } else { Err(expected()) }
    })
}

/// Checks that each enabled driver has an interface of every type.
pub(super) fn check(hardware: &EnabledHardware) -> Option<(&'static str, String)> {
    if hardware.drivers().next().is_none() {
        return Some(("enabled_hardware_types", "expected at least one driver".into()));
    }
    let (driver, kind) = hardware.find_missing_interface()?;
    let (_, key) = KEYS.iter().find(|(own, _)| *own == kind)?;
    let supported = driver.supported_interfaces(kind).join(", ");
    Some((key, format!("driver {} needs one of {supported}; enabled_hardware_types has it", driver.name)))
}
