//! Storage interface `cinder`: [`crate::attach`] attaches the volumes, and has their connections.

use crate::attach::{Attach, Resolution, ResolvedVolume, StoreOutage, VolumeRequest};
use crate::boot::decision::{Mode, Stop, VolumeResolution};
use crate::boot::plan::LocatedVolumes;
use crate::boot::records::BootableRecords;
use crate::model::{BootRequest, BootVolume, ConnectionSource, VolumeTarget};

use super::records::read_volume;

/// Locates the volumes. Attaches them, unless the decision is a preview.
pub(super) async fn locate(
    attach: &Attach,
    records: &BootableRecords<'_>,
    request: &BootRequest,
    mode: Mode,
    store_outage: Option<&StoreOutage>,
) -> Result<LocatedVolumes, Stop> {
    let resolution = resolve(attach, records, records.targets, request, mode, store_outage).await;
    take_volumes(records, resolution, |_| false)
}

/// Resolves the volumes of these targets, or predicts the result for a preview.
pub(super) async fn resolve(
    attach: &Attach,
    records: &BootableRecords<'_>,
    targets: &[VolumeTarget],
    request: &BootRequest,
    mode: Mode,
    store_outage: Option<&StoreOutage>,
) -> Resolution {
    let BootableRecords { node, connectors, initiator, .. } = records;
    let journey = request.journey.as_deref().map(|journey| (journey, request.attempt));
    let card = Some(request.mac());
    let volumes = VolumeRequest { node, initiator, connectors, targets, journey, card, store_outage };
    match mode {
        Mode::Boot => attach.resolve(volumes).await,
        Mode::Preview | Mode::NextSession => attach.preview(volumes).await,
    }
}

/// Attaches the volumes outside of a boot session.
pub(super) async fn attach(attach: &Attach, records: &BootableRecords<'_>) -> Resolution {
    let BootableRecords { node, connectors, targets, initiator, .. } = records;
    attach
        .resolve(VolumeRequest {
            node,
            initiator,
            connectors,
            targets,
            journey: None,
            card: None,
            store_outage: None,
        })
        .await
}

/// Takes the volumes from a resolution, and those with a fixed connection from their records. Stops unless all are
/// ready.
pub(super) fn take_volumes(
    records: &BootableRecords<'_>,
    resolution: Resolution,
    is_fixed: impl Fn(&VolumeTarget) -> bool,
) -> Result<LocatedVolumes, Stop> {
    let volumes = match resolution {
        Resolution::Ready(volumes) => volumes,
        Resolution::Wait { reason, seconds } => return Err(Stop::wait(records.node, reason, seconds)),
        Resolution::Refused(reason) => return Err(Stop::refuse(records.node, reason)),
    };
    let located = LocatedVolumes::collect(records, |target| {
        if is_fixed(target) {
            return read_volume(target);
        }
        let id = &target.volume_id;
        let volume = volumes.get(id).ok_or_else(|| format!("volume {id} was not resolved"))?;
        let connection = volume.connection.clone();
        Ok(BootVolume { id: id.clone(), paths: connection.paths, chap: connection.chap })
    })?;
    let resolutions = volumes.iter().map(|(id, volume)| VolumeResolution::new(id, volume)).collect();
    Ok(LocatedVolumes { notes: collect_notes(volumes.values()), resolutions, ..located })
}

/// Collects a note for each connection that Cinder did not export for this boot.
fn collect_notes<'a>(volumes: impl Iterator<Item = &'a ResolvedVolume>) -> Vec<String> {
    let mut notes: Vec<_> = volumes
        .filter_map(|volume| match &volume.source {
            ConnectionSource::LastKnown { resolved_at, outage: Some(outage) } => {
                Some(format!("booting from the last known connection of {resolved_at:.0}: {outage}"))
            }
            ConnectionSource::Existing { refusal } => Some(format!(
                "booting from the connection that the volume's attachment has: Cinder refused to export it again: {refusal}"
            )),
            ConnectionSource::Confirmed { resolved_at, store } => Some(format!(
                "booting from the recorded connection of {resolved_at:.0}, confirmed by Cinder: the store is \
                 read-only: {store}"
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::boot::decision::Decision;
    use crate::boot::plan::plan;
    use crate::model::{BootAnswer, Connection, Node, Properties, StorageInterface};

    fn expect_answer(result: Result<LocatedVolumes, Stop>) -> BootAnswer {
        match result {
            Err(Stop::Decided(decision)) => decision.answer,
            other => panic!("expected an answer, got {other:?}"),
        }
    }

    fn resolved(id: &str, source: ConnectionSource) -> (String, ResolvedVolume) {
        let properties = json!({
            "target_portal": "192.0.2.1:3260", "target_iqn": format!("iqn.2010-10.org.openstack:{id}"), "target_lun": 1,
        });
        let properties: Properties = serde_json::from_value(properties).expect("an object");
        let connection = Connection::from_cinder(&properties).expect("a connection");
        (
            id.to_owned(),
            ResolvedVolume { connection, source, duration: Duration::ZERO, attachment: None, server: None },
        )
    }

    #[test]
    fn resolution_decides_for_a_valid_node() {
        let (uuid, now) = (Uuid::nil(), Timestamp::UNIX_EPOCH);
        let node = Node::new(uuid, "manual-management", StorageInterface::Cinder, now);
        let node = Node { name: Some("web-1".into()), ..node };
        let targets = [(0, "root"), (1, "data")].map(|(at, id)| VolumeTarget::new(uuid, uuid, at, id, now));
        let records = BootableRecords {
            node: &node,
            connectors: &[],
            targets: &targets,
            initiator: "iqn.2017-08.org.openstack.web-1".parse().expect("a name"),
            loader: None,
            boot: &targets[0],
            data: vec![&targets[1]],
        };
        let take = |resolution| take_volumes(&records, resolution, |_| false);
        let wait = Resolution::Wait { reason: "Cinder is attaching volume root".into(), seconds: 2 };
        let reason = "node web-1: Cinder is attaching volume root".into();
        assert_eq!(expect_answer(take(wait)), BootAnswer::Wait { reason, seconds: 2 });
        let refusal = Resolution::Refused("volume root is in use by server 7".into());
        let reason = "node web-1: volume root is in use by server 7".into();
        assert_eq!(expect_answer(take(refusal)), BootAnswer::Refused { reason });

        let outage = Some("Cinder is unavailable: no answer".into());
        let last_known = ConnectionSource::LastKnown { resolved_at: now, outage };
        let volumes = [resolved("root", ConnectionSource::Cinder), resolved("data", last_known)];
        let volumes = take(Resolution::Ready(volumes.into())).expect("located");
        let Decision { answer: BootAnswer::Boot(boot), resolutions, .. } = plan(records, volumes) else {
            panic!("no boot");
        };
        assert_eq!(boot.boot.paths[0].target.as_str(), "iqn.2010-10.org.openstack:root");
        assert_eq!(boot.data[0].paths[0].target.as_str(), "iqn.2010-10.org.openstack:data");
        assert_eq!(
            boot.notes,
            [
                "booting from the last known connection of 1970-01-01T00:00:00Z: Cinder is unavailable: no answer"
            ]
        );
        assert_eq!(resolutions.len(), 2);
    }
}
