//! Validates the records of a node: the requirements of a boot, and the faults in them.
//!
//! Ironic validates a node on request and at deployment. volboot does so at each boot too, with Ironic's terms. An
//! invalid record is a fault that names the field, never a guess. Each fault is a sentence, for reasons of the form
//! `node web-1: <sentence>`.

use crate::model::{
    BootPlan, BootVolume, Connection, Iqn, LoaderPath, Node, Properties, StorageInterface, VolumeConnector,
    VolumeTarget,
};

/// The number of paths that Linux accepts in the iBFT (see [`SanTable`](crate::model::SanTable)).
const FIRMWARE_TABLE: usize = 2;

/// The property with the boot loader's file: of the boot target, else of the node.
const LOADER: &str = "uefi_loader";

/// Finds all faults in the records that prevent a node from booting from its volumes. None with storage interface
/// `noop`.
pub fn find_faults(node: &Node, connectors: &[VolumeConnector], targets: &[VolumeTarget]) -> Vec<String> {
    match &node.storage_interface {
        StorageInterface::Noop => Vec::new(),
        StorageInterface::External => plan(node, connectors, targets, read_volume).err().unwrap_or_default(),
        StorageInterface::Cinder => Requirements::check(node, connectors, targets).faults,
        StorageInterface::Other(other) => vec![unknown_interface(other)],
    }
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

pub(super) fn unknown_interface(name: &str) -> String {
    format!("storage interface \"{name}\" is unknown")
}

/// Builds the boot plan of a node, or returns all faults. `connect` returns the volume of a target with its
/// connection.
pub(super) fn plan(
    node: &Node,
    connectors: &[VolumeConnector],
    targets: &[VolumeTarget],
    connect: impl Fn(&VolumeTarget) -> Result<BootVolume, String>,
) -> Result<BootPlan, Vec<String>> {
    let Requirements { boot, initiator, loader, mut faults } = Requirements::check(node, connectors, targets);
    let mut others: Vec<_> = targets.iter().filter(|target| target.boot_index != 0).collect();
    others.sort_by_key(|target| target.boot_index);
    let mut connect = |target| collect_fault(connect(target), &mut faults);
    let boot = boot.and_then(&mut connect);
    let data = others.into_iter().filter_map(connect).collect();
    match (boot, initiator) {
        (Some(boot), Some(initiator)) if faults.is_empty() => Ok(BootPlan {
            node: node.uuid,
            label: node.label(),
            initiator,
            boot,
            data,
            loader,
            notes: Vec::new(),
        }),
        _ => Err(faults),
    }
}

/// The requirements of every boot, whatever the source of the connections.
struct Requirements<'a> {
    boot: Option<&'a VolumeTarget>,
    initiator: Option<Iqn>,
    loader: Option<LoaderPath>,
    faults: Vec<String>,
}

impl<'a> Requirements<'a> {
    fn check(node: &Node, connectors: &[VolumeConnector], targets: &'a [VolumeTarget]) -> Self {
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
            faults.push(
                "capability iscsi_boot is missing: set properties/capabilities to iscsi_boot:True".into(),
            );
        }
        let initiator = collect_fault(read_initiator(connectors), &mut faults);
        let loader = collect_fault(read_loader(node, boot), &mut faults).flatten();
        Self { boot, initiator, loader, faults }
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

/// Returns the initiator name if the records fulfil all requirements, else all faults.
pub(super) fn find_initiator(
    node: &Node,
    connectors: &[VolumeConnector],
    targets: &[VolumeTarget],
) -> Result<Iqn, Vec<String>> {
    match Requirements::check(node, connectors, targets) {
        Requirements { initiator: Some(initiator), faults, .. } if faults.is_empty() => Ok(initiator),
        Requirements { faults, .. } => Err(faults),
    }
}

/// Reads the connection of a volume from its target's properties.
pub(super) fn read_volume(target: &VolumeTarget) -> Result<BootVolume, String> {
    let Connection { paths, chap } =
        Connection::try_from(&target.properties).map_err(|error| target_fault(target, &error.to_string()))?;
    Ok(BootVolume { id: target.volume_id.clone(), paths, chap })
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

fn target_fault(target: &VolumeTarget, fault: &str) -> String {
    format!("volume target {} (boot index {}): properties/{fault}", target.uuid, target.boot_index)
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
