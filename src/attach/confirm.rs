//! Boots while nothing can be written: from recorded connections that Cinder confirms.
//!
//! Every change in Cinder has a record before it, so without records nothing may change there. Reads go on: Cinder shows
//! whether an attachment is still the node's.

use std::collections::HashMap;

use futures_util::{StreamExt, stream};
use tokio::time::{Duration, Instant, timeout};
use uuid::Uuid;

use super::Attach;
use super::error::AttachError;
use super::last_known::{check_record, find_last_known};
use super::monitored_cinder::{CINDER_TIMEOUT, MonitoredCinder, timeout_reason};
use super::outcome::{self, Outcome};
use super::permits::PermitPool;
use super::progress::VolumeResults;
use super::request::{DesiredAttachment, VolumeRequest};
use super::resolution::{Resolution, ResolvedVolume};
use super::store_outage::{StoreOutage, WriteObstacle};
use crate::cinder::{Cinder, CinderAttachment, CinderError};
use crate::model::{Attachment, Connection, ConnectionSource, Mac};
use crate::store::{Attachments, StoreAccess};

/// The volumes of one node that are confirmed concurrently.
const MAX_CONCURRENT_VOLUMES: usize = 8;

impl Attach {
    /// Why nothing can be written at present.
    pub(super) fn find_write_obstacle(&self, request: &VolumeRequest<'_>) -> Option<WriteObstacle> {
        // A request from last known records stays one, even if the store responds again meanwhile.
        if let Some(outage) = request.store_outage.cloned().or_else(|| self.store_outage()) {
            return Some(WriteObstacle::Outage(outage));
        }
        match self.state.records.access() {
            StoreAccess::ReadWrite => None,
            StoreAccess::ReadOnly(reason) => Some(WriteObstacle::ReadOnly(reason)),
        }
    }

    /// The response while nothing can be written: nothing changes in Cinder.
    pub(super) async fn confirm(
        &self,
        cinder: Cinder,
        permits: &PermitPool,
        request: &VolumeRequest<'_>,
        obstacle: &WriteObstacle,
    ) -> Resolution {
        let (records, outage) = match obstacle {
            WriteObstacle::ReadOnly(_) => (self.state.records.clone(), None),
            WriteObstacle::Outage(outage) => (self.state.records.last_known(), Some(outage)),
        };
        if let Some(reason) = outage.and_then(StoreOutage::find_obstacle) {
            return outcome::wait_for_store_outage(reason);
        }
        let results = if let Some(reason) = self.cinder_outage() {
            let desired = request.desired_attachments().into_iter();
            desired.map(|desired| (desired.volume, Err(AttachError::cinder_unavailable(&reason)))).collect()
        } else {
            let cinder = self.state.monitor(cinder);
            confirm_volumes(&cinder, &records, permits, request, obstacle).await
        };
        if outage.is_none()
            && let Some(change) = self.find_change(request.node.uuid, &results).await
        {
            return outcome::wait_after_change(change);
        }
        let (resolved, outages) = match Outcome::of(&results) {
            Outcome::Transient(reason) | Outcome::Busy(reason) | Outcome::Refused(reason) => {
                return obstacle.wait(&reason);
            }
            Outcome::Usable { resolved, outages } => (resolved, outages),
        };
        let mut volumes: HashMap<_, _> =
            resolved.into_iter().map(|(volume, resolved)| (volume.to_owned(), resolved.clone())).collect();
        for (volume, cinder_outage) in outages {
            let Some(outage) = outage.filter(|outage| outage.trusts_last_known()) else {
                return obstacle.wait(&cinder_outage.to_string());
            };
            let max_age = Some(outage.max_age());
            match find_last_known(&records, max_age, request, volume, Some(cinder_outage)).await {
                Ok(last_known) => drop(volumes.insert(volume.to_owned(), last_known)),
                Err(reason) => return obstacle.wait(&format!("{cinder_outage}; {reason}")),
            }
        }
        Resolution::Ready(volumes)
    }
}

/// Confirms the recorded connection of each volume, with GET requests alone. `obstacle` is why nothing can be written.
async fn confirm_volumes(
    cinder: &MonitoredCinder,
    records: &Attachments,
    permits: &PermitPool,
    request: &VolumeRequest<'_>,
    obstacle: &WriteObstacle,
) -> VolumeResults {
    let volumes = request.desired_attachments().into_iter().map(|desired| async move {
        let result = async {
            let _permit = permits.acquire().await?;
            let confirmation = confirm_volume(cinder, records, &desired, request.card, obstacle);
            let result = timeout(CINDER_TIMEOUT, confirmation).await;
            result.unwrap_or_else(|_| Err(AttachError::cinder_unavailable(timeout_reason())))
        };
        let result = result.await;
        (desired.volume, result)
    });
    stream::iter(volumes).buffered(MAX_CONCURRENT_VOLUMES).collect().await
}

async fn confirm_volume(
    cinder: &MonitoredCinder,
    records: &Attachments,
    desired: &DesiredAttachment,
    card: Option<Mac>,
    obstacle: &WriteObstacle,
) -> Result<ResolvedVolume, AttachError> {
    let started_at = Instant::now();
    let volume = &desired.volume;
    let record = records.get(desired.node, volume).await.map_err(|error| not_now(error.to_string()))?;
    let now = jiff::Timestamp::now();
    let initiator = &desired.connector.initiator;
    let (connection, resolved_at) =
        check_record(record.as_ref(), volume, initiator, Duration::MAX, now).map_err(not_now)?;
    if obstacle.requires_hook()
        && !record.as_ref().is_some_and(|record| card.is_some() && record.hooked_by == card)
    {
        return Err(not_now(format!("this card is not the one that last hooked volume {volume}")));
    }
    let server = record.as_ref().and_then(Attachment::server);
    let Some(Attachment { id, cinder_id: Some(cinder_id), .. }) = record else {
        return Err(not_now(format!("volume {volume} has no attachment")));
    };
    match cinder.attachment(&cinder_id).await {
        Ok(attachment) => check_attachment(&attachment, volume, server, &connection).map_err(not_now)?,
        Err(CinderError::NotFound(_)) => {
            return Err(not_now(format!("Cinder no longer has the attachment of volume {volume}")));
        }
        Err(error @ (CinderError::Unavailable(_) | CinderError::Failed { .. })) => {
            return Err(AttachError::cinder_unavailable(error.to_string()));
        }
        Err(error @ CinderError::Refused { .. }) => {
            let reason = format!("Cinder does not show the attachment of volume {volume}: {error}");
            return Err(not_now(reason));
        }
    }
    let source = ConnectionSource::Confirmed { resolved_at, store: obstacle.describe() };
    Ok(ResolvedVolume { connection, source, duration: started_at.elapsed(), attachment: Some(id), server })
}

/// None of the reasons lasts longer than the obstacle.
fn not_now(reason: String) -> AttachError {
    AttachError::Transient(reason)
}

/// Checks that the attachment is still the one that the record describes.
fn check_attachment(
    attachment: &CinderAttachment,
    volume: &str,
    server: Option<Uuid>,
    recorded: &Connection,
) -> Result<(), String> {
    if attachment.status != "attached" {
        let status = &attachment.status;
        return Err(format!("Cinder shows the attachment of volume {volume} in state \"{status}\""));
    }
    // volboot attaches without an instance; the attachment of another client has its server.
    let has_server = attachment.instance.as_deref().map(str::parse) == server.map(Ok);
    if !has_server || attachment.volume.as_ref().is_some_and(|shown| shown != volume) {
        return Err(format!("Cinder shows the attachment of volume {volume} as another server's"));
    }
    let shown = attachment.connection.as_ref().and_then(|shown| Connection::from_cinder(shown).ok());
    if shown.as_ref() != Some(recorded) {
        return Err(format!("Cinder shows another connection of volume {volume} than the recorded one"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn connection(lun: u64) -> Value {
        json!({"target_portal": "192.0.2.1:3260", "target_iqn": "iqn.2010-10.org.openstack:root", "target_lun": lun})
    }

    #[test]
    fn only_an_attached_volume_with_the_recorded_connection_is_confirmed() {
        let properties = serde_json::from_value(connection(1)).expect("an object");
        let recorded = Connection::from_cinder(&properties).expect("a connection");
        let server = Uuid::from_u128(7);
        let check_for = |server: Option<Uuid>, change: Value| {
            let mut attachment = json!({
                "id": "a", "status": "attached", "instance": null, "volume_id": "root",
                "connection_info": connection(1),
            });
            attachment
                .as_object_mut()
                .expect("an object")
                .extend(change.as_object().expect("an object").clone());
            let attachment = serde_json::from_value(attachment).expect("an attachment");
            check_attachment(&attachment, "root", server, &recorded)
        };
        let check = |change| check_for(None, change);
        assert_eq!(check(json!({})), Ok(()));
        for status in ["reserved", "attaching", "detaching", "error_attaching", ""] {
            let reason = format!("Cinder shows the attachment of volume root in state \"{status}\"");
            assert_eq!(check(json!({"status": status})), Err(reason));
        }
        assert_eq!(check_for(Some(server), json!({"instance": server})), Ok(()));
        for instance in [Value::Null, json!(Uuid::from_u128(8)), json!("server 7")] {
            let reason = "Cinder shows the attachment of volume root as another server's".to_owned();
            assert_eq!(check_for(Some(server), json!({"instance": instance})), Err(reason));
        }
        for change in
            [json!({"instance": "server 7"}), json!({"instance": server}), json!({"volume_id": "data"})]
        {
            let reason = "Cinder shows the attachment of volume root as another server's".to_owned();
            assert_eq!(check(change), Err(reason));
        }
        for shown in [connection(2), json!({}), Value::Null] {
            let reason = "Cinder shows another connection of volume root than the recorded one".to_owned();
            assert_eq!(check(json!({"connection_info": shown})), Err(reason));
        }
    }
}
