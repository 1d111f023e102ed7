//! The records that a boot is decided from: as the store has them, and once they are validated.

use crate::model::{Iqn, LoaderPath, Node, VolumeConnector, VolumeTarget};

/// The records of a node.
#[derive(Debug)]
pub(super) struct NodeRecords {
    pub(super) node: Node,
    /// The oldest first.
    pub(super) connectors: Vec<VolumeConnector>,
    /// In the order of their boot indexes.
    pub(super) targets: Vec<VolumeTarget>,
}

impl NodeRecords {
    /// The target of the boot volume.
    pub(super) fn boot_target(&self) -> Option<&VolumeTarget> {
        self.targets.iter().find(|target| target.boot_index == 0)
    }
}

/// The records of a node that fulfil all requirements of a boot from its volumes.
#[derive(Debug)]
pub(super) struct BootableRecords<'a> {
    pub(super) node: &'a Node,
    pub(super) connectors: &'a [VolumeConnector],
    pub(super) targets: &'a [VolumeTarget],
    /// The name of the oldest `iqn` connector.
    pub(super) initiator: Iqn,
    pub(super) loader: Option<LoaderPath>,
    /// The target with boot index 0.
    pub(super) boot: &'a VolumeTarget,
    /// The other targets, in the order of their boot indexes.
    pub(super) data: Vec<&'a VolumeTarget>,
}

/// A fault in the properties of a volume target, as a sentence.
pub(super) fn target_fault(target: &VolumeTarget, fault: &str) -> String {
    format!("volume target {} (boot index {}): properties/{fault}", target.uuid, target.boot_index)
}
