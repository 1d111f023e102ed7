//! Storage interface `external`: the connections are in the node's volume targets.

use crate::boot::decision::Stop;
use crate::boot::plan::LocatedVolumes;
use crate::boot::records::{BootableRecords, target_fault};
use crate::model::{BootVolume, Connection, VolumeTarget};

/// Locates the volumes: the same for a boot and for its preview.
pub(super) fn locate(records: &BootableRecords<'_>) -> Result<LocatedVolumes, Stop> {
    LocatedVolumes::collect(records, read_volume)
}

/// Reads the connection of a volume from its target's properties.
pub(super) fn read_volume(target: &VolumeTarget) -> Result<BootVolume, String> {
    let Connection { paths, chap } = Connection::from_record(&target.properties)
        .map_err(|error| target_fault(target, &error.to_string()))?;
    Ok(BootVolume { id: target.volume_id.clone(), paths, chap })
}
