//! Finds a node's fallback: in force, as a boot would get it, or as its machine may run from it.

use super::FallbackWatch;
use crate::boot::records::NodeRecords;
use crate::model::{
    Fallback, FallbackInForce, FallbackNotice, FallbackSource, Node, StorageInterface, VolumeTarget,
};
use crate::store::{FallbackSnapshot, StoreError};

/// A boot from the fallback.
#[derive(Debug)]
pub(in crate::boot) struct FallbackBoot {
    /// The node's records, with the fallback in place of its boot target.
    pub(in crate::boot) records: NodeRecords,
    pub(in crate::boot) notice: FallbackNotice,
}

/// A node's fallback, as a boot would get it.
#[derive(Debug, Clone)]
pub struct FallbackAtBoot {
    /// The node, with the storage interface of the fallback.
    pub node: Node,
    /// The volume target that stands for the fallback.
    pub target: VolumeTarget,
    /// Whether the machine boots from the fallback.
    pub is_in_force: bool,
}

impl FallbackBoot {
    pub(super) fn new(
        own: &NodeRecords,
        fallback: &Fallback,
        snapshot: &FallbackSnapshot,
        in_force: &FallbackInForce,
        is_first: bool,
    ) -> Self {
        let FallbackInForce { failed_boots, failed_volume, .. } = in_force;
        let text = format!(
            "boots from its fallback, volume {}: the last {failed_boots} boots of volume {failed_volume} did not report up; \
             volboot retry {} returns to that volume, volboot promote keeps the fallback",
            fallback.source.name(),
            own.node.label()
        );
        Self { records: own.with_fallback(fallback, snapshot), notice: FallbackNotice { text, is_first } }
    }
}

impl NodeRecords {
    /// The records with the fallback in place of the boot target.
    pub(super) fn with_fallback(&self, fallback: &Fallback, snapshot: &FallbackSnapshot) -> Self {
        let target = fallback.volume_target(&self.node, snapshot.secret.as_ref());
        let data = self.targets.iter().filter(|target| fallback.with_data && target.boot_index != 0).cloned();
        let storage_interface = storage_interface(&fallback.source);
        Self {
            node: Node { storage_interface, ..self.node.clone() },
            connectors: self.connectors.clone(),
            targets: std::iter::once(target).chain(data).collect(),
        }
    }
}

/// The storage interface that finds a fallback's volume, whatever the node's own is.
pub(in crate::boot) fn storage_interface(source: &FallbackSource) -> StorageInterface {
    match source {
        FallbackSource::Volume(_) => StorageInterface::Cinder,
        FallbackSource::Target { .. } => StorageInterface::External,
    }
}

impl FallbackWatch {
    /// Finds the fallback that is in force for a node. Reads nothing for a node without one.
    pub(in crate::boot) async fn find_in_force(
        &self,
        own: &NodeRecords,
    ) -> Result<Option<FallbackBoot>, StoreError> {
        let Ok(Some(fallback)) = Fallback::of(&own.node) else { return Ok(None) };
        if own.node.storage_interface == StorageInterface::Noop {
            return Ok(None);
        }
        let Some(snapshot) = self.records.read(own.node.uuid, None).await? else { return Ok(None) };
        let in_force = snapshot.state.in_force_for(&fallback.source);
        Ok(in_force.map(|in_force| FallbackBoot::new(own, &fallback, &snapshot, in_force, false)))
    }

    /// Finds the fallback as a boot would get it; `None`: the node has none, or cannot boot from it.
    pub(in crate::boot) async fn find(&self, node: &Node) -> Result<Option<FallbackAtBoot>, StoreError> {
        let Ok(Some(fallback)) = Fallback::of(node) else { return Ok(None) };
        if node.storage_interface == StorageInterface::Noop {
            return Ok(None);
        }
        let Some(snapshot) = self.records.read(node.uuid, None).await? else { return Ok(None) };
        let storage_interface = storage_interface(&fallback.source);
        Ok(Some(FallbackAtBoot {
            target: fallback.volume_target(node, snapshot.secret.as_ref()),
            node: Node { storage_interface, ..node.clone() },
            is_in_force: snapshot.state.in_force_for(&fallback.source).is_some(),
        }))
    }

    /// Finds the records of a node whose machine may run from its fallback: the fallback is in force, or was in force at the
    /// machine's last boot.
    pub(in crate::boot) async fn find_running(
        &self,
        own: &NodeRecords,
    ) -> Result<Option<NodeRecords>, StoreError> {
        let Ok(Some(fallback)) = Fallback::of(&own.node) else { return Ok(None) };
        let Some(snapshot) = self.records.read(own.node.uuid, None).await? else { return Ok(None) };
        let state = &snapshot.state;
        let may_run = state.may_run || state.in_force_for(&fallback.source).is_some();
        Ok(may_run.then(|| own.with_fallback(&fallback, &snapshot)))
    }
}
