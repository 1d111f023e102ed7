//! Validates the records of a node: the requirements of a boot, and the faults in them.
//!
//! Ironic validates a node on request and at deployment. volboot does so at each boot too, with Ironic's terms. An
//! invalid record is a fault that names the field, never a guess. Each fault is a sentence, for reasons of the form
//! `node web-1: <sentence>`.

use crate::model::{Iqn, LoaderPath, Node, Properties, VolumeConnector, VolumeTarget};

use super::locate::VolumeLocator;
use super::records::{BootableRecords, target_fault};

/// The number of paths that Linux accepts in the iBFT (see [`SanTable`](crate::model::SanTable)).
const FIRMWARE_TABLE: usize = 2;

/// The property with the boot loader's file: of the boot target, else of the node.
const LOADER: &str = "uefi_loader";

/// The settings of a node's machine for the login and the loader, each with its fault.
#[derive(Debug)]
pub struct MachineSettings {
    /// The initiator name.
    pub initiator: Result<Iqn, String>,
    /// The boot loader's path, if the records name one.
    pub loader: Result<Option<LoaderPath>, String>,
}

/// Reads the settings of a node's machine, as a boot does. The targets are in the order of their boot indexes.
pub fn read_machine_settings(
    node: &Node,
    connectors: &[VolumeConnector],
    targets: &[VolumeTarget],
) -> MachineSettings {
    let boot = targets.iter().find(|target| target.boot_index == 0);
    MachineSettings { initiator: read_initiator(connectors), loader: read_loader(node, boot) }
}

/// Finds conditions that the operator should know, but that do not prevent a boot.
pub fn find_warnings(connectors: &[VolumeConnector], targets: &[VolumeTarget]) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut initiators = connectors.iter().filter(|connector| connector.is_iqn());
    if let (Some(used), Some(_)) = (initiators.next(), initiators.next()) {
        warnings.push(format!("several connectors of type iqn: the oldest is used, {}", used.connector_id));
    }
    if targets.len() > FIRMWARE_TABLE {
        warnings.push(format!(
            "{} volumes: the firmware's table (iBFT) holds {FIRMWARE_TABLE} paths, with BIOS those of the boot volume \
             alone; the operating system must find the others by its own configuration",
            targets.len()
        ));
    }
    warnings
}

/// Validates the records of a node whose volumes this locator finds, or returns all faults.
pub(super) fn validate<'a>(
    locator: VolumeLocator,
    node: &'a Node,
    connectors: &'a [VolumeConnector],
    targets: &'a [VolumeTarget],
) -> Result<BootableRecords<'a>, Vec<String>> {
    let mut faults = Vec::new();
    let boot = targets.iter().find(|target| target.boot_index == 0);
    if boot.is_none() {
        faults.push("there is no boot volume: no volume target has boot index 0".into());
    }
    for other in targets.iter().filter(|target| target.volume_type != "iscsi") {
        let (id, kind) = (&other.volume_id, &other.volume_type);
        faults.push(format!("volume {id} has type \"{kind}\": only iscsi can be booted"));
    }
    if !node.capabilities().is_true("iscsi_boot") {
        faults
            .push("capability iscsi_boot is missing: set properties/capabilities to iscsi_boot:True".into());
    }
    let initiator = collect_fault(read_initiator(connectors), &mut faults);
    let loader = collect_fault(read_loader(node, boot), &mut faults).flatten();
    let mut data: Vec<_> = targets.iter().filter(|target| target.boot_index != 0).collect();
    data.sort_by_key(|target| target.boot_index);
    for target in boot.into_iter().chain(data.iter().copied()) {
        collect_fault(locator.check_record(target), &mut faults);
    }
    match (boot, initiator) {
        (Some(boot), Some(initiator)) if faults.is_empty() => {
            Ok(BootableRecords { node, connectors, targets, initiator, loader, boot, data })
        }
        _ => Err(faults),
    }
}

/// Returns the value, or adds the error to `faults`.
fn collect_fault<T>(result: Result<T, String>, faults: &mut Vec<String>) -> Option<T> {
    result.map_err(|fault| faults.push(fault)).ok()
}

/// Reads the node's initiator name: the one of its oldest `iqn` connector.
fn read_initiator(connectors: &[VolumeConnector]) -> Result<Iqn, String> {
    let Some(connector) = connectors.iter().find(|connector| connector.is_iqn()) else {
        return Err("there is no initiator name: no volume connector has type iqn".into());
    };
    let describe =
        |error| format!("volume connector {} has an invalid connector_id: {error}", connector.uuid);
    connector.connector_id.parse().map_err(describe)
}

fn read_loader(node: &Node, boot: Option<&VolumeTarget>) -> Result<Option<LoaderPath>, String> {
    if let Some(boot) = boot
        && let Some(path) =
            read_loader_property(&boot.properties).map_err(|error| target_fault(boot, &error))?
    {
        return Ok(Some(path));
    }
    read_loader_property(&node.properties).map_err(|error| format!("properties/{error}"))
}

fn read_loader_property(properties: &Properties) -> Result<Option<LoaderPath>, String> {
    let Some(value) = properties.get(LOADER) else { return Ok(None) };
    let path = value.as_str().unwrap_or_default().parse();
    path.map(Some).map_err(|error| format!("{LOADER}: {error}"))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn warnings_name_the_initiator_and_the_firmware_table() {
        let uuid = Uuid::nil();
        let connector = |id| VolumeConnector::new(uuid, uuid, "iqn", id, Timestamp::UNIX_EPOCH);
        let target = |index| VolumeTarget::new(uuid, uuid, index, "v", Timestamp::UNIX_EPOCH);
        assert_eq!(find_warnings(&[connector("a")], &[target(0), target(1)]), Vec::<String>::new());
        let warnings = find_warnings(&[connector("a"), connector("b")], &[target(0), target(1), target(2)]);
        assert_eq!(warnings[0], "several connectors of type iqn: the oldest is used, a");
        assert!(
            warnings[1].starts_with("3 volumes: the firmware's table (iBFT) holds 2 paths"),
            "{}",
            warnings[1]
        );
    }
}
