//! What a volume's status and holders say: an explanation of Cinder's refusal, and the check before any attachment.

use super::error::{AttachError, check_status, classify, encrypted, still_detaching};
use super::findings::Finding;
use super::monitored_cinder::MonitoredCinder;
use crate::cinder::{Cinder, CinderError, CinderVolume, VolumeHolder};
use crate::model::AttachmentState;
use crate::store::Attachments;

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
            let details = load_holders(cinder, details).await;
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

/// Checks whether a volume can be attached and booted, without changing anything. Returns the volume's type.
/// `own_attachment` is the attachment that the node already has, `finding` what its last export showed.
pub(super) async fn check_volume(
    cinder: &MonitoredCinder,
    records: &Attachments,
    volume: &str,
    own_attachment: Option<&str>,
    finding: Option<&Finding>,
) -> Result<Option<String>, AttachError> {
    let details = cinder.volume(volume).await.map_err(|error| classify(volume, error))?;
    if let Some(finding) = finding.filter(|finding| finding.applies_to(&details)) {
        return Err(AttachError::Refused(finding.reason()));
    }
    if details.encrypted {
        return Err(encrypted(volume));
    }
    let is_own = |holder: &VolumeHolder| own_attachment == Some(holder.attachment_id.as_str());
    if own_attachment.is_some() && (details.attachments.iter().any(is_own) || details.attachments.is_empty())
    {
        return Ok(details.volume_type);
    }
    let details = load_holders(cinder.unmonitored(), details).await;
    match check_status(&details) {
        Some(AttachError::Refused(_)) if is_detaching(records, &details).await => {
            Err(still_detaching(volume))
        }
        Some(error) => Err(error),
        None => Ok(details.volume_type),
    }
}

/// Adds the holders of a reserved volume, which Cinder shows only in the list of attachments.
async fn load_holders(cinder: &Cinder, mut details: CinderVolume) -> CinderVolume {
    if details.attachments.is_empty() && details.status != "available" {
        let attachments = cinder.list_attachments(&details.id).await.unwrap_or_default();
        let holders = attachments.into_iter().map(|attachment| VolumeHolder {
            attachment_id: attachment.id,
            server_id: attachment.instance,
            host_name: None,
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
