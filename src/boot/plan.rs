//! Plans the boot of an admitted node from its located volumes.

use crate::model::{BootPlan, BootVolume, VolumeTarget};

use super::decision::{Decision, Stop, VolumeResolution};
use super::records::BootableRecords;

/// The volumes of a node with their connections.
#[derive(Debug)]
pub(super) struct LocatedVolumes {
    pub(super) boot: BootVolume,
    /// In the order of their boot indexes.
    pub(super) data: Vec<BootVolume>,
    /// Notes for the machine's console.
    pub(super) notes: Vec<String>,
    /// Empty if the connections are in the records.
    pub(super) resolutions: Vec<VolumeResolution>,
}

impl LocatedVolumes {
    /// Collects the volume of each target. Refuses the boot if a volume has no usable connection.
    pub(super) fn collect(
        records: &BootableRecords<'_>,
        connect: impl Fn(&VolumeTarget) -> Result<BootVolume, String>,
    ) -> Result<Self, Stop> {
        let connect = |target| connect(target).map_err(|fault| Stop::refuse(records.node, fault));
        Ok(Self {
            boot: connect(records.boot)?,
            data: records.data.iter().copied().map(connect).collect::<Result<_, _>>()?,
            notes: Vec::new(),
            resolutions: Vec::new(),
        })
    }
}

/// Plans the boot.
pub(super) fn plan(records: BootableRecords<'_>, volumes: LocatedVolumes) -> Decision {
    let BootableRecords { node, initiator, loader, .. } = records;
    let LocatedVolumes { boot, data, notes, resolutions } = volumes;
    let plan = BootPlan {
        node: node.uuid,
        label: node.label(),
        initiator,
        boot,
        data,
        loader,
        notes,
        once: None,
        portal_notes: Vec::new(),
    };
    Decision::boot(plan, resolutions)
}
