//! Storage interface `external`: the connections are in the node's volume targets.

use crate::attach::StoreOutage;
use crate::boot::decision::Stop;
use crate::boot::plan::LocatedVolumes;
use crate::boot::records::{BootableRecords, target_fault};
use crate::model::{BootVolume, Connection, Node, VolumeTarget};

/// The delay before a machine retries while the store does not respond, in seconds.
const OUTAGE_RETRY_SECONDS: u32 = 10;

/// Locates the volumes: the same for a boot and for its preview. Nothing can confirm last known records.
pub(super) fn locate(
    records: &BootableRecords<'_>,
    outage: Option<&StoreOutage>,
) -> Result<LocatedVolumes, Stop> {
    let note = confirm_records(records.node, outage)?;
    let located = LocatedVolumes::collect(records, read_volume)?;
    Ok(LocatedVolumes { notes: note.into_iter().collect(), ..located })
}

/// Whether the recorded connections may be used; with a note for the console if they are the last known ones.
pub(super) fn confirm_records(node: &Node, outage: Option<&StoreOutage>) -> Result<Option<String>, Stop> {
    let Some(outage) = outage else { return Ok(None) };
    if !outage.trusts_last_known() {
        let reason =
            format!("{outage}; nothing confirms the recorded connections of storage interface external");
        return Err(Stop::wait(node, reason, OUTAGE_RETRY_SECONDS));
    }
    Ok(Some(format!("booting from the last known records: {outage}")))
}

/// Reads the connection of a volume from its target's properties.
pub(super) fn read_volume(target: &VolumeTarget) -> Result<BootVolume, String> {
    let Connection { paths, chap } = Connection::from_record(&target.properties)
        .map_err(|error| target_fault(target, &error.to_string()))?;
    Ok(BootVolume { id: target.volume_id.clone(), paths, chap })
}
