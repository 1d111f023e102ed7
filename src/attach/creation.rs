//! [`Creation`]: creates an attachment in Cinder, and recovers from an interrupted create by adopting its orphan.
//!
//! Where the node already has the volume through an attachment of another client, this attachment is recorded, and none
//! is created: Cinder would create a second one, and then refuse every export through either of them.

use std::time::Duration;

use jiff::Timestamp;

use super::error::{AttachError, classify};
use super::existing::find_existing;
use super::monitored_cinder::MonitoredCinder;
use super::record_ages::RecordAges;
use super::request::DesiredAttachment;
use super::steps;
use super::volume_status::explain_refusal;
use crate::cinder::{CinderAttachment, CinderError};
use crate::model::Attachment;
use crate::store::Attachments;

/// The creation of attachments: an intent, a reservation, and the id recorded for it.
///
/// Both clients require the claim of the volume, so that recovery never adopts another node's in-flight attachment.
pub(super) struct Creation<'a> {
    pub(super) cinder: MonitoredCinder,
    pub(super) records: Attachments,
    pub(super) record_ages: &'a RecordAges,
    /// How long a create request without a response may still take effect.
    pub(super) late_request: Duration,
}

/// The trace of an interrupted create in Cinder.
pub(super) enum InterruptedCreate {
    /// Its attachment, by id.
    Orphan(String),
    /// No attachment yet; the request may still take effect.
    Pending,
    /// No attachment.
    Absent,
}

impl Creation<'_> {
    /// Records the attachment that the node already has. Otherwise records the intent and the volume's present
    /// attachments, then creates an attachment. `None`: another task changed the records meanwhile.
    pub(super) async fn create(
        &self,
        desired: &DesiredAttachment,
    ) -> Result<Option<Attachment>, AttachError> {
        let foreign = self.cinder.list_attachments(&desired.volume).await;
        let foreign = foreign.map_err(|error| classify(&desired.volume, error))?;
        if let Some(record) = self.find_existing(desired, &foreign).await? {
            let (id, server) = (record.cinder_id.as_deref(), record.server());
            let is_recorded = self.records.intend(&record).await?;
            tracing::info!(
                node = %record.node, volume = %record.volume, attachment = id, server = server.map(tracing::field::display),
                ownership = ?record.ownership, is_recorded, "attachment of another client found"
            );
            return Ok(is_recorded.then_some(record));
        }
        let foreign_ids = foreign.into_iter().map(|attachment| attachment.id).collect();
        let now = Timestamp::now();
        let record = Attachment::new(desired.node, &desired.volume, desired.target, foreign_ids, now);
        if !self.records.intend(&record).await? {
            return Ok(None);
        }
        self.record_ages.note(&record, true);
        let store = self.records.check_writable()?;
        match self.cinder.reserve(store, &desired.volume, desired.read_only).await {
            Ok(id) => steps::record_cinder_id(&self.records, &record, id).await.map(Some),
            Err(error @ (CinderError::Unavailable(_) | CinderError::Failed { .. })) => {
                Err(classify(&desired.volume, error))
            }
            // Cinder created none: a reserved attachment that appears later is foreign.
            Err(refusal @ (CinderError::NotFound(_) | CinderError::Refused { .. })) => {
                self.records.delete(&record).await?;
                Err(explain_refusal(&self.cinder, &self.records, &desired.volume, refusal).await)
            }
        }
    }

    /// The record of the attachment through which the node already has the volume, if another client created one.
    async fn find_existing(
        &self,
        desired: &DesiredAttachment,
        listed: &[CinderAttachment],
    ) -> Result<Option<Attachment>, AttachError> {
        let found = find_existing(&self.cinder, &desired.identity, &desired.volume, listed).await?;
        Ok(found.map(|found| {
            let connector = found.connector(&desired.connector);
            let existing = (found.id, found.ownership);
            Attachment::of_another(
                desired.node,
                &desired.volume,
                desired.target,
                existing,
                connector,
                Timestamp::now(),
            )
        }))
    }

    /// Recovers from an interrupted create: adopts the orphan if there is one, otherwise creates again. `None`: the node
    /// has the volume through an attachment of another client by now, and the intent is deleted.
    pub(super) async fn recover(
        &self,
        record: &Attachment,
        desired: &DesiredAttachment,
    ) -> Result<Option<Attachment>, AttachError> {
        let attachments = self.list_attachments(&record.volume).await?;
        if let Some(id) = self.find_orphan(record, &attachments).await? {
            return steps::record_cinder_id(&self.records, record, id).await.map(Some);
        }
        let has_existing = self.find_existing(desired, &attachments).await?.is_some();
        // The first create may still take effect. Cinder admits no other attachment beside it, unless the volume is
        // multi-attachable: then the second has to wait, and so has the attachment of another client. Without the intent, that
        // of a late create would be foreign.
        let was_pending = self.is_create_pending(record);
        if was_pending {
            let volume = &desired.volume;
            let details = self.cinder.volume(volume).await.map_err(|error| classify(volume, error))?;
            if details.multiattach {
                return Err(AttachError::Busy(format!(
                    "an earlier create request for volume {volume} may still take effect"
                )));
            }
        }
        if has_existing {
            self.records.delete(record).await?;
            return Ok(None);
        }
        let before = record;
        let record = steps::restart_create(&self.records, before, was_pending).await?;
        self.record_ages.note(&record, true);
        let store = self.records.check_writable()?;
        match self.cinder.reserve(store, &desired.volume, desired.read_only).await {
            Ok(id) => steps::record_cinder_id(&self.records, &record, id).await.map(Some),
            Err(error @ (CinderError::Unavailable(_) | CinderError::Failed { .. })) => {
                Err(classify(&desired.volume, error))
            }
            Err(refusal @ (CinderError::NotFound(_) | CinderError::Refused { .. })) => {
                let attachments = self.list_attachments(&record.volume).await?;
                if let Some(id) = self.find_orphan(&record, &attachments).await? {
                    return steps::record_cinder_id(&self.records, &record, id).await.map(Some);
                }
                if was_pending {
                    // The refusal is of the second create alone: without the record, the attachment of the first would be
                    // foreign.
                    steps::undo_restart(&self.records, &record, before).await?;
                } else {
                    self.records.delete(&record).await?;
                }
                Err(explain_refusal(&self.cinder, &self.records, &desired.volume, refusal).await)
            }
        }
    }

    /// Like [`recover`](Self::recover) without a boot request, so nothing is created. Returns whether the work is
    /// done.
    pub(super) async fn adopt_orphan(&self, record: &Attachment) -> Result<bool, AttachError> {
        match self.search(record).await? {
            InterruptedCreate::Orphan(id) => {
                tracing::info!(node = %record.node, volume = %record.volume, attachment = %id, "orphan adopted");
                steps::record_cinder_id(&self.records, record, id).await.map(|_| true)
            }
            InterruptedCreate::Pending => Ok(false),
            InterruptedCreate::Absent => {
                self.records.delete(record).await?;
                Ok(true)
            }
        }
    }

    /// Searches for the orphan of a create whose attachment is no longer wanted, and records its id: no other create may
    /// take it while it is being deleted.
    pub(super) async fn find_interrupted_create(
        &self,
        record: &Attachment,
    ) -> Result<InterruptedCreate, AttachError> {
        let found = self.search(record).await?;
        if let InterruptedCreate::Orphan(id) = &found {
            steps::record_unwanted(&self.records, record, id).await?;
        }
        Ok(found)
    }

    async fn search(&self, record: &Attachment) -> Result<InterruptedCreate, AttachError> {
        let attachments = self.list_attachments(&record.volume).await?;
        Ok(match self.find_orphan(record, &attachments).await? {
            Some(id) => InterruptedCreate::Orphan(id),
            None if self.is_create_pending(record) => InterruptedCreate::Pending,
            None => InterruptedCreate::Absent,
        })
    }

    /// Whether a create request without a response may still take effect.
    fn is_create_pending(&self, record: &Attachment) -> bool {
        self.record_ages.create_age(record) < self.late_request
    }

    /// Lists the attachments of a volume, of which there are none without the volume.
    async fn list_attachments(&self, volume: &str) -> Result<Vec<CinderAttachment>, AttachError> {
        match self.cinder.list_attachments(volume).await {
            Err(CinderError::NotFound(_)) => Ok(Vec::new()),
            attachments => attachments.map_err(|error| classify(volume, error)),
        }
    }

    /// Finds the orphan of an interrupted create.
    ///
    /// An orphan is reserved, without instance and connection, absent before the create, and no other node's. Several
    /// creates of a multi-attachable volume may have left one orphan each. Such orphans are alike, and each create takes any of them.
    /// With more orphans than interrupted creates, one is another client's, and none is taken.
    async fn find_orphan(
        &self,
        record: &Attachment,
        attachments: &[CinderAttachment],
    ) -> Result<Option<String>, AttachError> {
        let records = self.records.list_by_volume(&record.volume).await?;
        let candidates: Vec<_> = attachments
            .iter()
            .filter(|attachment| {
                attachment.is_reserved()
                    && attachment.instance.is_none()
                    && attachment.connection.is_none()
                    && !record.foreign_ids.contains(&attachment.id)
                    && records.iter().all(|record| record.cinder_id.as_ref() != Some(&attachment.id))
            })
            .map(|attachment| &attachment.id)
            .collect();
        let interrupted: Vec<_> = records.iter().filter(|record| record.cinder_id.is_none()).collect();
        if candidates.len() > interrupted.len() {
            let volume = &record.volume;
            tracing::warn!(%volume, "cannot adopt orphan: more attachments qualify than creates were interrupted");
            return Ok(None);
        }
        // The one that the fewest other creates can take.
        let unfit = |id: &&String| interrupted.iter().filter(|other| other.foreign_ids.contains(id)).count();
        Ok(candidates.into_iter().max_by_key(unfit).cloned())
    }
}
