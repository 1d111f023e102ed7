//! Decides whether a node may boot: a pure function of its records, with a test for each rule.

#[cfg(test)]
mod tests;

use crate::attach::{Resolution, ResolvedVolume};
use crate::model::{
    BootAnswer, BootPlan, BootVolume, ConnectionSource, Iqn, Node, StorageInterface, VolumeConnector,
    VolumeTarget,
};

use super::{node_reason, validate};

/// The records of a node.
#[derive(Debug)]
pub(super) struct NodeRecords {
    pub(super) node: Node,
    /// The oldest first.
    pub(super) connectors: Vec<VolumeConnector>,
    pub(super) targets: Vec<VolumeTarget>,
}

/// The next step of a boot request.
#[derive(Debug, PartialEq)]
pub(super) enum NextStep {
    /// Send this answer.
    Answer(BootAnswer),
    /// Resolve the node's volumes with Cinder, for this initiator name.
    ResolveVolumes(Iqn),
}

/// Decides from the records alone.
pub(super) fn decide(records: &NodeRecords, enabled: &[StorageInterface]) -> NextStep {
    let NodeRecords { node, connectors, targets } = records;
    if node.storage_interface == StorageInterface::Noop {
        let reason = node_reason(node, "storage interface is noop");
        return NextStep::Answer(BootAnswer::LocalDisk { reason });
    }
    if let Err(reason) = check_permission(node, enabled) {
        return NextStep::Answer(BootAnswer::Refused { reason: node_reason(node, reason) });
    }
    if node.storage_interface == StorageInterface::Cinder {
        return match validate::find_initiator(node, connectors, targets) {
            Ok(initiator) => NextStep::ResolveVolumes(initiator),
            Err(faults) => NextStep::Answer(refuse(node, &faults)),
        };
    }
    NextStep::Answer(boot(node, validate::plan(node, connectors, targets, validate::read_volume)))
}

/// Decides after Cinder has resolved the volumes, or has failed to.
pub(super) fn answer_with_volumes(records: &NodeRecords, resolution: Resolution) -> BootAnswer {
    let NodeRecords { node, connectors, targets } = records;
    match resolution {
        Resolution::Wait { reason, seconds } => {
            BootAnswer::Wait { reason: node_reason(node, reason), seconds }
        }
        Resolution::Refused(reason) => BootAnswer::Refused { reason: node_reason(node, reason) },
        Resolution::Ready(volumes) => {
            let plan = validate::plan(node, connectors, targets, |target| {
                take_volume(target, volumes.get(&target.volume_id))
            });
            boot(node, plan.map(|plan| BootPlan { notes: collect_notes(volumes.values()), ..plan }))
        }
    }
}

fn boot(node: &Node, plan: Result<BootPlan, Vec<String>>) -> BootAnswer {
    match plan {
        Ok(plan) => BootAnswer::Boot(Box::new(plan)),
        Err(faults) => refuse(node, &faults),
    }
}

fn refuse(node: &Node, faults: &[String]) -> BootAnswer {
    BootAnswer::Refused { reason: node_reason(node, faults.join("; ")) }
}

/// The volume of a target, as Cinder resolved it.
fn take_volume(target: &VolumeTarget, volume: Option<&ResolvedVolume>) -> Result<BootVolume, String> {
    let id = &target.volume_id;
    let Some(volume) = volume else { return Err(format!("volume {id} was not resolved")) };
    let connection = volume.connection.clone();
    Ok(BootVolume { id: id.clone(), paths: connection.paths, chap: connection.chap })
}

/// Collects a note for each last known connection that stands in for Cinder.
fn collect_notes<'a>(volumes: impl Iterator<Item = &'a ResolvedVolume>) -> Vec<String> {
    let mut notes: Vec<_> = volumes
        .filter_map(|volume| match &volume.source {
            ConnectionSource::LastKnown { resolved_at, outage: Some(reason) } => Some(format!(
                "booting from the last known connection of {resolved_at:.0}: Cinder is unavailable: {reason}"
            )),
            ConnectionSource::LastKnown { outage: None, .. }
            | ConnectionSource::Records
            | ConnectionSource::Cinder => None,
        })
        .collect();
    notes.sort();
    notes.dedup();
    notes
}

/// Checks whether the node may boot at all, whatever its volumes.
fn check_permission(node: &Node, enabled: &[StorageInterface]) -> Result<(), String> {
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
    match &node.storage_interface {
        StorageInterface::Other(other) => Err(validate::unknown_interface(other)),
        interface if !enabled.contains(interface) => {
            Err(format!("storage interface {interface} is not enabled"))
        }
        StorageInterface::Cinder | StorageInterface::External | StorageInterface::Noop => Ok(()),
    }
}
