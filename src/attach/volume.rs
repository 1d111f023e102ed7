//! [`AttachmentWorker`]: the Cinder calls for one volume of one node, and the records written between them.
//!
//! ```text
//!   list ─► intent recorded ─► reserve ─► id recorded ─► pending export recorded ─► export ─► complete ─► recorded
//! ```
//!
//! A crash can follow any step. Each record therefore states what may have happened in Cinder, so that a later boot
//! or the reconciler can continue. Later boots start at «pending export recorded». The caller holds the volume's
//! lock.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::RwLock;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::CINDER_TIMEOUT;
use super::breaker::{Breaker, CircuitScope};
use super::create::is_create_pending;
use super::error::{AttachError, check_connection, classify};
use crate::cinder::{self, Cinder, CinderError};
use crate::model::{Attachment, AttachmentState, ConnectorProperties, Properties};
use crate::store::Attachments;

/// How often a resolution starts again after its record or attachment disappeared.
const MAX_ATTEMPTS: usize = 4;

/// A volume that a node should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DesiredAttachment {
    pub(super) node: Uuid,
    pub(super) volume: String,
    pub(super) target: Uuid,
    pub(super) read_only: bool,
    pub(super) connector: ConnectorProperties,
}

/// An attached and exported volume: the id of its record, and its connection.
#[derive(Debug, Clone)]
pub(super) struct ExportedVolume {
    pub(super) record: Uuid,
    pub(super) connection: Properties,
}

/// Works on volumes: Cinder, the records and what all workers share. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct AttachmentWorker {
    pub(super) cinder: Cinder,
    pub(super) records: Attachments,
    pub(super) breaker: Arc<Breaker>,
    /// Held shared while creating an attachment, exclusively while searching for an orphan, so that recovery never
    /// adopts another node's in-flight attachment.
    pub(super) create_lock: Arc<RwLock<()>>,
    /// When Cinder last responded to this worker.
    pub(super) last_response: Arc<Mutex<Instant>>,
}

impl AttachmentWorker {
    /// Attaches a volume unless it is attached, and has it exported in any case.
    pub(super) async fn resolve(&self, desired: &DesiredAttachment) -> Result<ExportedVolume, AttachError> {
        for _ in 0..MAX_ATTEMPTS {
            let record = match self.records.get(desired.node, &desired.volume).await? {
                None => match self.create(desired).await? {
                    Some(record) => record,
                    None => continue,
                },
                Some(record) if record.state == AttachmentState::Detaching => {
                    self.detach(&record).await?;
                    continue;
                }
                // The backend has to drop the old initiator name before it admits the new name.
                Some(record)
                    if record.initiator.as_ref().is_some_and(|old| *old != desired.connector.initiator) =>
                {
                    self.records.change(&record, |record| record.state = AttachmentState::Detaching).await?;
                    continue;
                }
                // The create was interrupted before the id was recorded.
                Some(record) if record.cinder_id.is_none() => self.recover(&record, desired).await?,
                Some(record) => record,
            };
            // A probe is held until the result of the export is known.
            let _probe = match self.find_volume_type(&record).await? {
                Some(volume_type) => {
                    let probe = self.breaker.try_probe(&CircuitScope::Backend(volume_type));
                    probe.map_err(AttachError::Unavailable)?
                }
                None => None,
            };
            if let Some(connection) = self.export(&record, &desired.connector).await? {
                return Ok(ExportedVolume { record: record.id, connection });
            }
            self.delete_stale(&record).await?;
        }
        Err(changed_during_request())
    }

    /// Deletes the record of an attachment that Cinder no longer has, provided that Cinder has the volume.
    ///
    /// Without the volume, this is the wrong project or the wrong Cinder. The record then stays: otherwise our own
    /// attachment would count as foreign after the configuration is corrected.
    pub(super) async fn delete_stale(&self, record: &Attachment) -> Result<(), AttachError> {
        let volume = &record.volume;
        self.report(self.cinder.volume(volume).await).map_err(|error| classify(volume, error))?;
        Ok(self.records.delete(record).await?)
    }

    /// Drops the last known connection after a refusal, so that no node boots from it. `pending_export` is the value
    /// from before the export that was refused.
    pub(super) async fn clear_connection(
        &self,
        record: &Attachment,
        pending_export: bool,
    ) -> Result<(), AttachError> {
        let change = self.records.change(record, |record| {
            record.pending_export = pending_export;
            record.connection = None;
            record.resolved_at = None;
        });
        change.await?;
        Ok(())
    }

    /// The volume's type: from the record, or from Cinder if any backend circuit is open.
    async fn find_volume_type(&self, record: &Attachment) -> Result<Option<String>, AttachError> {
        if record.volume_type.is_some() || !self.breaker.has_open_backend() {
            return Ok(record.volume_type.clone());
        }
        let volume_type = match self.report(self.cinder.volume(&record.volume).await) {
            Ok(volume) => volume.volume_type,
            Err(CinderError::Unavailable(_)) => None,
            Err(refusal) => {
                self.clear_connection(record, record.pending_export).await?;
                return Err(classify(&record.volume, refusal));
            }
        };
        if let Some(volume_type) = &volume_type {
            self.record_volume_type(record, volume_type).await;
        }
        Ok(volume_type)
    }

    pub(super) async fn record_volume_type(&self, record: &Attachment, volume_type: &str) {
        let change = self.records.change(record, |record| record.volume_type = Some(volume_type.to_owned()));
        if let Err(error) = change.await {
            tracing::error!(error = %error, "cannot record volume type");
        }
    }

    /// Exports the volume and completes the attachment. `None`: Cinder no longer has the attachment.
    pub(super) async fn export(
        &self,
        record: &Attachment,
        connector: &ConnectorProperties,
    ) -> Result<Option<Properties>, AttachError> {
        let was_pending = record.pending_export;
        let change = self.records.change(record, |record| {
            record.pending_export = true;
            record.connector = Some(connector.clone());
        });
        let record = ensure_not_detaching(change.await?)?;
        let Some(id) = record.cinder_id.as_deref() else { return Ok(None) };
        let attachment = match self.send_export(&record, id, connector).await {
            Ok(attachment) => attachment,
            Err(CinderError::NotFound(_)) => {
                return self.clear_connection(&record, was_pending).await.map(|()| None);
            }
            Err(CinderError::Unavailable(reason)) => return Err(AttachError::Unavailable(reason)),
            Err(error) => return Err(self.explain_refusal(&record, was_pending, error).await?),
        };
        let connection = match check_connection(&record.volume, attachment.connection) {
            Ok(connection) => connection,
            Err(reason) => {
                // No machine can boot from this connection, so the volume is released.
                self.records.change(&record, |record| record.state = AttachmentState::Detaching).await?;
                return Err(AttachError::Refused(reason));
            }
        };
        let now = Timestamp::now();
        let change = self.records.change(&record, |record| {
            record.connection = Some(connection.clone());
            record.initiator = Some(connector.initiator.clone());
            record.resolved_at = Some(now);
        });
        let record = ensure_not_detaching(change.await?)?;
        if let Some(volume_type) = &record.volume_type {
            self.breaker.record_success(&CircuitScope::Backend(volume_type.clone()));
        }
        match self.report(self.cinder.complete(id).await) {
            Ok(()) => {}
            Err(CinderError::NotFound(_)) => {
                return self.clear_connection(&record, was_pending).await.map(|()| None);
            }
            Err(CinderError::Unavailable(reason)) => return Err(AttachError::Unavailable(reason)),
            Err(error) => return Err(self.explain_refusal(&record, was_pending, error).await?),
        }
        let change = self.records.change(&record, |record| {
            record.pending_export = false;
            if record.state == AttachmentState::Reserved {
                record.state = AttachmentState::Attached;
            }
        });
        ensure_not_detaching(change.await?)?;
        Ok(Some(connection))
    }

    /// Sends the export request. If it takes longer than [`CINDER_TIMEOUT`], diagnoses the cause meanwhile; the
    /// request continues.
    async fn send_export(
        &self,
        record: &Attachment,
        id: &str,
        connector: &ConnectorProperties,
    ) -> Result<cinder::CinderAttachment, CinderError> {
        let mut call = std::pin::pin!(self.cinder.export(id, connector));
        let in_time = timeout(CINDER_TIMEOUT, &mut call).await;
        let result = if let Ok(result) = in_time {
            result
        } else {
            self.diagnose(record, &format!("no answer within {} s", CINDER_TIMEOUT.as_secs())).await;
            call.await
        };
        match &result {
            Err(CinderError::Unavailable(reason)) => self.diagnose(record, reason).await,
            _ => self.report_success(),
        }
        result
    }

    /// Drops the connection after a refusal; returns the explained refusal.
    async fn explain_refusal(
        &self,
        record: &Attachment,
        pending_export: bool,
        error: CinderError,
    ) -> Result<AttachError, AttachError> {
        self.clear_connection(record, pending_export).await?;
        Ok(self.explain(&record.volume, error).await)
    }

    /// Deletes the attachment in Cinder, then its record.
    pub(super) async fn detach(&self, record: &Attachment) -> Result<(), AttachError> {
        let not_yet = |reason: &dyn std::fmt::Display| {
            format!("volume {} cannot be detached yet: {reason}", record.volume)
        };
        let id = if record.cinder_id.is_some() {
            record.cinder_id.clone()
        } else {
            let _exclusive = self.create_lock.write().await;
            let orphan = self.find_orphan(record).await?;
            if orphan.is_none() && is_create_pending(record) {
                let reason = "its create request had no response and may still take effect";
                return Err(AttachError::Transient(not_yet(&reason)));
            }
            orphan
        };
        if let Some(id) = id {
            let _probe = match &record.volume_type {
                Some(volume_type) => {
                    let probe = self.breaker.try_probe(&CircuitScope::Backend(volume_type.clone()));
                    probe.map_err(|reason| AttachError::Unavailable(not_yet(&reason)))?
                }
                None => None,
            };
            match self.cinder.delete(&id).await {
                // The cause may be the backend, which says nothing about Cinder.
                Err(CinderError::Unavailable(reason)) => {
                    self.diagnose(record, &reason).await;
                    return Err(AttachError::Unavailable(not_yet(&reason)));
                }
                result => match self.report(result) {
                    Ok(()) | Err(CinderError::NotFound(_)) => {}
                    Err(error) => return Err(AttachError::Transient(not_yet(&error))),
                },
            }
            tracing::info!(node = %record.node, volume = %record.volume, attachment = %id, "volume detached");
        }
        Ok(self.records.delete(record).await?)
    }
}

/// Returns a changed record unless it was deleted or marked for detachment meanwhile.
pub(super) fn ensure_not_detaching(record: Option<Attachment>) -> Result<Attachment, AttachError> {
    record.filter(|record| record.state != AttachmentState::Detaching).ok_or_else(changed_during_request)
}

fn changed_during_request() -> AttachError {
    AttachError::Transient("the volume targets changed during the request".into())
}
