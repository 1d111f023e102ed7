//! What a volume's status and holders say: an explanation of Cinder's refusal, and the check before any attachment.

use uuid::Uuid;

use super::error::{AttachError, check_status, classify, encrypted, still_detaching};
use super::existing::select_existing;
use super::findings::Finding;
use super::monitored_cinder::MonitoredCinder;
use super::node_identity::NodeIdentity;
use crate::cinder::{Cinder, CinderAttachment, CinderError, CinderVolume, VolumeHolder};
use crate::model::{Attachment, AttachmentState};
use crate::store::Attachments;

/// A volume that can be attached, or is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckedVolume {
    pub(super) volume_type: Option<String>,
    /// The server of the attachment that the node has, if another client created it.
    pub(super) server: Option<Uuid>,
}

/// Explains Cinder's refusal by the status and the holders of the volume.
pub(super) async fn explain_refusal(
    cinder: &MonitoredCinder,
    records: &Attachments,
    volume: &str,
    error: CinderError,
) -> AttachError {
    let CinderError::Refused { status: 400 | 409, .. } = error else { return classify(volume, error) };
    let cinder = cinder.unmonitored();
    match cinder.volume(volume).await {
        Ok(details) if is_detaching(records, &details).await => still_detaching(volume),
        Ok(details) => {
            let listed = list_others(cinder, &details).await;
            let details = with_holders(details, listed);
            match check_status(&details) {
                Some(error) => error,
                // The cause of the refusal has already passed.
                None if details.status == "available" => {
                    AttachError::Transient(format!("volume {volume}: {error}"))
                }
                None => classify(volume, error),
            }
        }
        Err(_) => classify(volume, error),
    }
}

/// Checks whether a volume can be attached and booted, without changing anything. `record` is the attachment that the node
/// already has, `finding` what its last export showed.
pub(super) async fn check_volume(
    cinder: &MonitoredCinder,
    records: &Attachments,
    identity: &NodeIdentity,
    volume: &str,
    record: Option<&Attachment>,
    finding: Option<&Finding>,
) -> Result<CheckedVolume, AttachError> {
    let details = cinder.volume(volume).await.map_err(|error| classify(volume, error))?;
    if let Some(finding) = finding.filter(|finding| finding.applies_to(&details)) {
        return Err(AttachError::Refused(finding.reason()));
    }
    if details.encrypted {
        return Err(encrypted(volume));
    }
    let recorded = record.and_then(|record| Some((record, record.cinder_id.as_deref()?)));
    if let Some((record, id)) = recorded
        && (details.attachments.is_empty()
            || details.attachments.iter().any(|holder| holder.attachment_id == id))
    {
        return Ok(CheckedVolume { volume_type: details.volume_type, server: record.server() });
    }
    let listed = list_others(cinder.unmonitored(), &details).await;
    if let Some(existing) = select_existing(identity, &details, &listed)? {
        let server = existing.ownership.server(identity.node());
        return Ok(CheckedVolume { volume_type: details.volume_type, server });
    }
    let details = with_holders(details, listed);
    match check_status(&details) {
        Some(AttachError::Refused(_)) if is_detaching(records, &details).await => {
            Err(still_detaching(volume))
        }
        Some(error) => Err(error),
        None => Ok(CheckedVolume { volume_type: details.volume_type, server: None }),
    }
}

/// The attachments of a volume that are reserved, or in transition: Cinder shows their holders in the list alone.
async fn list_others(cinder: &Cinder, details: &CinderVolume) -> Vec<CinderAttachment> {
    let is_complete =
        details.status == "available" || !(details.attachments.is_empty() || details.multiattach);
    if is_complete {
        return Vec::new();
    }
    cinder.list_attachments(&details.id).await.unwrap_or_default()
}

/// Adds the holders of a volume that Cinder shows only in the list of attachments.
fn with_holders(mut details: CinderVolume, listed: Vec<CinderAttachment>) -> CinderVolume {
    if details.attachments.is_empty() {
        let holders = listed.into_iter().map(|attachment| VolumeHolder {
            attachment_id: attachment.id,
            server_id: attachment.instance,
            host_name: None,
            device: None,
        });
        details.attachments = holders.collect();
    }
    details
}

/// Whether a holder of the volume is a node of this store that is being detached.
async fn is_detaching(records: &Attachments, details: &CinderVolume) -> bool {
    let records = records.list_by_volume(&details.id).await.unwrap_or_default();
    records.iter().filter(|record| record.state == AttachmentState::Detaching).any(|record| {
        details.attachments.iter().any(|holder| record.cinder_id.as_ref() == Some(&holder.attachment_id))
    })
}
