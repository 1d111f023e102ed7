//! Can it boot? What of a node's records a boot needs, and all that is wrong with them.
//!
//! What Ironic finds out when it validates or deploys a node is asked here at each boot, in Ironic's terms, and by
//! the API when somebody asks beforehand. A record that does not fit is a fault that names the field, never a guess.
//! Each fault is a phrase that goes on after the node's name.

use crate::model::{
    BootPlan, Connection, Iqn, LoaderPath, Node, Properties, StorageInterface, Volume, VolumeConnector,
    VolumeTarget,
};

/// Paths in the table that Linux accepts (see [`SanTable`](crate::model::SanTable)).
const FIRMWARE_TABLE: usize = 2;

/// The property, of the boot target or else of the node, that names the boot loader's file.
const LOADER: &str = "uefi_loader";

/// All that keeps a node from booting from its volumes, as far as its records tell. Nothing, if it is not to.
pub fn faults(node: &Node, connectors: &[VolumeConnector], targets: &[VolumeTarget]) -> Vec<String> {
    match &node.storage_interface {
        StorageInterface::Noop => Vec::new(),
        StorageInterface::External => plan(node, connectors, targets, recorded).err().unwrap_or_default(),
        StorageInterface::Cinder => Needs::of(node, connectors, targets).faults,
        StorageInterface::Other(other) => vec![unknown_interface(other)],
    }
}

/// What is no fault, but to be known.
pub fn warnings(connectors: &[VolumeConnector], targets: &[VolumeTarget]) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut initiators = connectors.iter().filter(|connector| connector.is_iqn());
    if let (Some(used), Some(_)) = (initiators.next(), initiators.next()) {
        warnings.push(format!("several iqn connectors: the oldest is used, {}", used.connector_id));
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
    format!("has the unknown storage interface \"{name}\"")
}

/// What a node would boot, or all that is in the way. `volume` tells where each of its volumes is.
pub(super) fn plan(
    node: &Node,
    connectors: &[VolumeConnector],
    targets: &[VolumeTarget],
    volume: impl Fn(&VolumeTarget) -> Result<Volume, String>,
) -> Result<BootPlan, Vec<String>> {
    let Needs { boot, initiator, loader, mut faults } = Needs::of(node, connectors, targets);
    let mut others: Vec<_> = targets.iter().filter(|target| target.boot_index != 0).collect();
    others.sort_by_key(|target| target.boot_index);
    let mut volume = |target| kept(volume(target), &mut faults);
    let boot = boot.and_then(&mut volume);
    let data = others.into_iter().filter_map(volume).collect();
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

/// What every boot needs, wherever the volumes' connections come from.
struct Needs<'a> {
    boot: Option<&'a VolumeTarget>,
    initiator: Option<Iqn>,
    loader: Option<LoaderPath>,
    faults: Vec<String>,
}

impl<'a> Needs<'a> {
    fn of(node: &Node, connectors: &[VolumeConnector], targets: &'a [VolumeTarget]) -> Self {
        let mut faults = Vec::new();
        let boot = targets.iter().find(|target| target.boot_index == 0);
        if boot.is_none() {
            faults.push("has no boot volume: no volume target with boot index 0".into());
        }
        for other in targets.iter().filter(|target| target.volume_type != "iscsi") {
            let (id, kind) = (&other.volume_id, &other.volume_type);
            faults.push(format!("has volume {id} of type \"{kind}\": only iscsi can be booted"));
        }
        if !node.capabilities().is_true("iscsi_boot") {
            faults.push(
                "lacks the capability iscsi_boot: set properties/capabilities to iscsi_boot:True".into(),
            );
        }
        let initiator = kept(initiator(connectors), &mut faults);
        let loader = kept(loader(node, boot), &mut faults).flatten();
        Self { boot, initiator, loader, faults }
    }
}

/// The value, or the fault is kept.
fn kept<T>(result: Result<T, String>, faults: &mut Vec<String>) -> Option<T> {
    result.map_err(|fault| faults.push(fault)).ok()
}

/// The node's initiator name: that of its oldest `iqn` connector, everywhere.
fn initiator(connectors: &[VolumeConnector]) -> Result<Iqn, String> {
    let Some(connector) = connectors.iter().find(|connector| connector.is_iqn()) else {
        return Err("has no initiator name: no volume connector of type iqn".into());
    };
    let fault =
        |error| format!("has volume connector {} whose connector_id is wrong: {error}", connector.uuid);
    connector.connector_id.parse().map_err(fault)
}

/// The name a node logs in with, if nothing but where its volumes are is missing; else all that is.
pub(super) fn initiator_of(
    node: &Node,
    connectors: &[VolumeConnector],
    targets: &[VolumeTarget],
) -> Result<Iqn, Vec<String>> {
    match Needs::of(node, connectors, targets) {
        Needs { initiator: Some(initiator), faults, .. } if faults.is_empty() => Ok(initiator),
        Needs { faults, .. } => Err(faults),
    }
}

/// Where a volume is, as its target's own properties say.
pub(super) fn recorded(target: &VolumeTarget) -> Result<Volume, String> {
    let Connection { paths, chap } =
        Connection::try_from(&target.properties).map_err(|error| fault(target, &error.to_string()))?;
    Ok(Volume { id: target.volume_id.clone(), paths, chap })
}

fn loader(node: &Node, boot: Option<&VolumeTarget>) -> Result<Option<LoaderPath>, String> {
    if let Some(boot) = boot
        && let Some(path) = loader_in(&boot.properties).map_err(|error| fault(boot, &error))?
    {
        return Ok(Some(path));
    }
    loader_in(&node.properties).map_err(|error| format!("has properties/{error}"))
}

fn loader_in(properties: &Properties) -> Result<Option<LoaderPath>, String> {
    let Some(value) = properties.get(LOADER) else { return Ok(None) };
    let path = value.as_str().unwrap_or_default().parse();
    path.map(Some).map_err(|error| format!("{LOADER}: {error}"))
}

fn fault(target: &VolumeTarget, fault: &str) -> String {
    format!("has volume target {} (boot index {}) with properties/{fault}", target.uuid, target.boot_index)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_to_be_known_is_told() {
        let uuid = Uuid::nil();
        let connector = |id| VolumeConnector::new(uuid, uuid, "iqn", id, Timestamp::UNIX_EPOCH);
        let target = |index| VolumeTarget::new(uuid, uuid, index, "v", Timestamp::UNIX_EPOCH);
        assert_eq!(warnings(&[connector("a")], &[target(0), target(1)]), Vec::<String>::new());
        let told = warnings(&[connector("a"), connector("b")], &[target(0), target(1), target(2)]);
        assert_eq!(told[0], "several iqn connectors: the oldest is used, a");
        assert!(told[1].starts_with("3 volumes: the firmware's table (iBFT) holds 2 paths"), "{}", told[1]);
    }
}
