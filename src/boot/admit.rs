//! Admits a node to booting from its volumes: permission first, then the records.

use crate::model::{Node, StorageInterface};

use super::decision::Stop;
use super::locate::VolumeLocator;
use super::records::{BootableRecords, NodeRecords};
use super::validate::validate;

/// A node that may boot, and the locator of its volumes.
#[derive(Debug)]
pub(super) struct AdmittedNode<'a> {
    pub(super) locator: VolumeLocator,
    pub(super) records: BootableRecords<'a>,
}

/// Decides from the records alone. With storage interface `noop`, a node boots from its local disk in every state.
pub(super) fn admit<'a>(
    NodeRecords { node, connectors, targets }: &'a NodeRecords,
    enabled: &[StorageInterface],
) -> Result<AdmittedNode<'a>, Stop> {
    let interface = &node.storage_interface;
    let Some(locator) = VolumeLocator::find(interface) else {
        return Err(Stop::boot_local_disk(node, format!("storage interface is {interface}")));
    };
    check_state(node).map_err(|reason| Stop::refuse(node, reason))?;
    let locator = locator.map_err(|reason| Stop::refuse(node, reason))?;
    if !enabled.contains(interface) {
        return Err(Stop::refuse(node, format!("storage interface {interface} is not enabled")));
    }
    let records = validate(locator, node, connectors, targets)
        .map_err(|faults| Stop::refuse(node, faults.join("; ")))?;
    Ok(AdmittedNode { locator, records })
}

/// Checks whether the node may boot at all, whatever its volumes.
pub(super) fn check_state(node: &Node) -> Result<(), String> {
    if node.maintenance {
        let reason = node.maintenance_reason.as_deref().filter(|reason| !reason.is_empty());
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        return Err(format!("maintenance is set{reason}"));
    }
    if !node.provision_state.is_bootable() {
        let state = node.provision_state.as_str();
        return Err(format!("provision state \"{state}\" does not allow booting"));
    }
    if node.undeployed {
        return Err("booting is not allowed after an undeployment; deploy the node again".into());
    }
    Ok(())
}
