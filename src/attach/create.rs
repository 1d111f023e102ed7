//! Creates an attachment in Cinder, and recovers from an interrupted create by adopting its orphan.

use std::time::Duration;

use jiff::Timestamp;

use super::error::{AttachError, classify};
use super::volume::{AttachmentWorker, DesiredAttachment, ensure_not_detaching};
use crate::cinder::CinderError;
use crate::model::{Attachment, AttachmentState};

/// How long a create request without a response may still take effect.
const CREATE_GRACE: Duration = Duration::from_secs(120);

impl AttachmentWorker {
    /// Records the intent and the volume's present attachments, then creates an attachment. `None`: another task
    /// changed the records meanwhile.
    pub(super) async fn create(
        &self,
        desired: &DesiredAttachment,
    ) -> Result<Option<Attachment>, AttachError> {
        let _shared = self.create_lock.read().await;
        let foreign = self.report(self.cinder.list_attachments(&desired.volume).await);
        let foreign = foreign.map_err(|error| classify(&desired.volume, error))?;
        let foreign_ids = foreign.into_iter().map(|attachment| attachment.id).collect();
        let now = Timestamp::now();
        let record = Attachment::new(desired.node, &desired.volume, desired.target, foreign_ids, now);
        if !self.records.intend(&record).await? {
            return Ok(None);
        }
        match self.report(self.cinder.reserve(&desired.volume, desired.read_only).await) {
            Ok(id) => self.record_cinder_id(&record, id).await.map(Some),
            Err(CinderError::Unavailable(reason)) => Err(AttachError::Unavailable(reason)),
            // Cinder created none: a reserved attachment that appears later is foreign.
            Err(refusal) => {
                self.records.delete(&record).await?;
                Err(self.explain(&desired.volume, refusal).await)
            }
        }
    }

    /// Records the id of an attachment.
    async fn record_cinder_id(&self, record: &Attachment, id: String) -> Result<Attachment, AttachError> {
        let change = self.records.change(record, |record| {
            record.cinder_id = Some(id.clone());
            if record.state == AttachmentState::Intended {
                record.state = AttachmentState::Reserved;
            }
        });
        ensure_not_detaching(change.await?)
    }

    /// Recovers from an interrupted create: adopts the orphan if there is one, otherwise creates again.
    pub(super) async fn recover(
        &self,
        record: &Attachment,
        desired: &DesiredAttachment,
    ) -> Result<Attachment, AttachError> {
        let _exclusive = self.create_lock.write().await;
        if let Some(id) = self.find_orphan(record).await? {
            return self.record_cinder_id(record, id).await;
        }
        // The first create may still take effect. Cinder admits only one of the two unless the volume is
        // multi-attachable; then the second has to wait.
        let volume = self.report(self.cinder.volume(&desired.volume).await);
        if is_create_pending(record) && volume.is_ok_and(|volume| volume.multiattach) {
            let volume = &desired.volume;
            return Err(AttachError::Transient(format!(
                "an earlier create request for volume {volume} may still take effect"
            )));
        }
        let now = Timestamp::now();
        let change = self.records.change(record, |record| record.begun_at = now);
        let record = ensure_not_detaching(change.await?)?;
        match self.report(self.cinder.reserve(&desired.volume, desired.read_only).await) {
            Ok(id) => self.record_cinder_id(&record, id).await,
            Err(CinderError::Unavailable(reason)) => Err(AttachError::Unavailable(reason)),
            Err(refusal) => {
                if let Some(id) = self.find_orphan(&record).await? {
                    return self.record_cinder_id(&record, id).await;
                }
                self.records.delete(&record).await?;
                Err(self.explain(&desired.volume, refusal).await)
            }
        }
    }

    /// Like [`recover`](Self::recover) without a boot request, so nothing is created. Returns whether the work is
    /// done.
    pub(super) async fn adopt_orphan(&self, record: &Attachment) -> Result<bool, AttachError> {
        let _exclusive = self.create_lock.write().await;
        if let Some(id) = self.find_orphan(record).await? {
            tracing::info!(node = %record.node, volume = %record.volume, attachment = %id, "orphan adopted");
            return self.record_cinder_id(record, id).await.map(|_| true);
        }
        if is_create_pending(record) {
            return Ok(false);
        }
        self.records.delete(record).await?;
        Ok(true)
    }

    /// Finds the orphan of an interrupted create. The caller holds the create lock exclusively.
    ///
    /// An orphan is reserved, without instance and connection, absent before the create, and no other node's. It
    /// counts only if it is the single candidate.
    pub(super) async fn find_orphan(&self, record: &Attachment) -> Result<Option<String>, AttachError> {
        let attachments = match self.report(self.cinder.list_attachments(&record.volume).await) {
            Err(CinderError::NotFound(_)) => return Ok(None),
            attachments => attachments.map_err(|error| classify(&record.volume, error))?,
        };
        let records = self.records.list_by_volume(&record.volume).await?;
        let mut candidates = attachments.into_iter().filter(|attachment| {
            attachment.status == "reserved"
                && attachment.instance.is_none()
                && attachment.connection.is_none()
                && !record.foreign_ids.contains(&attachment.id)
                && records.iter().all(|record| record.cinder_id.as_ref() != Some(&attachment.id))
        });
        match (candidates.next(), candidates.next()) {
            (Some(orphan), None) => Ok(Some(orphan.id)),
            (Some(_), Some(_)) => {
                let volume = &record.volume;
                tracing::warn!(%volume, "cannot adopt orphan: several attachments qualify");
                Ok(None)
            }
            (None, _) => Ok(None),
        }
    }
}

/// Whether a create request without a response may still take effect.
pub(super) fn is_create_pending(record: &Attachment) -> bool {
    Timestamp::now().duration_since(record.begun_at).unsigned_abs() < CREATE_GRACE
}
