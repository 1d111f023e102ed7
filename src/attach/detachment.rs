//! The detachment of a volume: Cinder first, then the record.

use super::attacher::{AttachContext, Attacher};
use super::backend_calls::{BackendCallError, send_delete};
use super::borrowed;
use super::creation::InterruptedCreate;
use super::error::{AttachError, Outage};
use super::steps;
use crate::cinder::CinderError;
use crate::model::Attachment;

impl Attacher {
    /// Deletes the attachment in Cinder, then its record. A borrowed attachment is completed and forgotten.
    pub(super) async fn detach(&self, record: &Attachment) -> Result<(), AttachError> {
        let not_yet = |reason: &dyn std::fmt::Display| {
            format!("volume {} cannot be detached yet: {reason}", record.volume)
        };
        let unavailable =
            |outage: Outage| AttachError::Unavailable(outage.map_reason(|reason| not_yet(&reason)));
        if record.is_borrowed() {
            borrowed::complete_pending(&self.cinder, &self.records, record).await.map_err(
                |error| match error {
                    AttachError::Unavailable(outage) => unavailable(outage),
                    error => error,
                },
            )?;
            tracing::info!(node = %record.node, volume = %record.volume, "borrowed attachment forgotten");
            return Ok(self.records.delete(record).await?);
        }
        let id = match &record.cinder_id {
            Some(id) => Some(id.clone()),
            None => match self.claim_creation(&record.volume).await?.find_interrupted_create(record).await? {
                InterruptedCreate::Orphan(id) => Some(id),
                InterruptedCreate::Pending => {
                    let reason = "its create request had no response and may still take effect";
                    return Err(AttachError::Busy(not_yet(&reason)));
                }
                InterruptedCreate::Absent => None,
            },
        };
        if let Some(id) = id {
            let _probe = match &record.volume_type {
                Some(volume_type) => self.try_backend(volume_type).map_err(unavailable)?,
                None => None,
            };
            let store = self.records.check_writable()?;
            match send_delete(store, &self.cinder, &self.records, record, &id).await {
                Ok(()) | Err(BackendCallError::Cinder(CinderError::NotFound(_))) => {}
                Err(BackendCallError::NoComputeService(reason)) => {
                    steps::record_obstacle(&self.records, record, &reason).await;
                    return Err(AttachError::Transient(not_yet(&reason)));
                }
                Err(BackendCallError::Failed(reason) | BackendCallError::Unavailable(reason)) => {
                    return Err(unavailable(Outage::Backend(reason)));
                }
                Err(BackendCallError::Cinder(
                    error @ (CinderError::Unavailable(_) | CinderError::Failed { .. }),
                )) => return Err(unavailable(Outage::Cinder(error.to_string()))),
                Err(BackendCallError::Cinder(error @ CinderError::Refused { .. })) => {
                    if record.server().is_some() {
                        steps::record_obstacle(&self.records, record, &error.to_string()).await;
                    }
                    return Err(AttachError::Transient(not_yet(&error)));
                }
            }
            tracing::info!(node = %record.node, volume = %record.volume, attachment = %id, "volume detached");
            // Cinder refused an earlier create because the volume was attached. It no longer is.
            let AttachContext { record_ages, windows, .. } = &self.shared;
            if record.superseded_create && record_ages.create_age(record) < windows.late_request {
                steps::expect_late_create(&self.records, record).await?;
                let reason = "an earlier create request had no response and may still take effect";
                return Err(AttachError::Busy(not_yet(&reason)));
            }
        }
        self.records.delete(record).await?;
        let (node, volume) = (record.node, &record.volume);
        if self.shared.findings.needs_version(node, volume) {
            let details = self.cinder.volume(volume).await;
            self.shared.findings.note_detachment(node, volume, details.ok().as_ref());
        }
        Ok(())
    }
}
