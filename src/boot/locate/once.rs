//! The volumes of a one-time boot: some are in Cinder, others have their connection in their record.

use std::collections::HashMap;

use super::{cinder, records};
use crate::attach::{Attach, Resolution, StoreOutage};
use crate::boot::decision::{Mode, Stop};
use crate::boot::plan::LocatedVolumes;
use crate::boot::records::BootableRecords;
use crate::model::{BootRequest, VolumeTarget};

/// Locates the volumes of `records`. One resolution covers the targets `in_cinder`; the `fixed` targets have a connection.
pub(in crate::boot) async fn locate_once(
    attach: &Attach,
    records: &BootableRecords<'_>,
    in_cinder: &[VolumeTarget],
    fixed: &[VolumeTarget],
    request: &BootRequest,
    mode: Mode,
    outage: Option<&StoreOutage>,
) -> Result<LocatedVolumes, Stop> {
    let note = if fixed.is_empty() { None } else { records::confirm_records(records.node, outage)? };
    let resolution = if in_cinder.is_empty() {
        Resolution::Ready(HashMap::new())
    } else {
        cinder::resolve(attach, records, in_cinder, request, mode, outage).await
    };
    let is_fixed = |target: &VolumeTarget| fixed.iter().any(|fixed| fixed.uuid == target.uuid);
    let mut located = cinder::take_volumes(records, resolution, is_fixed)?;
    located.notes.extend(note);
    Ok(located)
}
