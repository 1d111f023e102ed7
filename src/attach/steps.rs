//! The steps of an attachment, each a write of its record.
//!
//! A record is written before the Cinder call that it describes, so each step names the state that a crash leaves
//! behind; see [`AttachmentState`]. The inventory can mark a record as `detaching` at any time. The steps towards an
//! attachment then fail, and no further Cinder call is made.

use jiff::Timestamp;

use super::error::{AttachError, changed_during_request};
use crate::model::{Attachment, AttachmentState, BootAttempt, ConnectorProperties, Properties};
use crate::store::{AttachmentWriteError, Attachments};

/// Before the repetition of an interrupted create. `was_pending`: the earlier request may still take effect.
pub(super) async fn restart_create(
    records: &Attachments,
    record: &Attachment,
    was_pending: bool,
) -> Result<Attachment, AttachError> {
    let now = Timestamp::now();
    let change = records.change(record, |record| {
        record.begun_at = now;
        record.superseded_create |= was_pending;
    });
    ensure_not_detaching(change.await?)
}

/// After Cinder's refusal of the repetition: only the earlier request may take effect, as `before`.
pub(super) async fn undo_restart(
    records: &Attachments,
    record: &Attachment,
    before: &Attachment,
) -> Result<(), AttachError> {
    let change = records.change(record, |record| {
        record.begun_at = before.begun_at;
        record.superseded_create = before.superseded_create;
    });
    change.await?;
    Ok(())
}

/// After *delete*, while an earlier create may still take effect: it is searched for as that of an interrupted create.
pub(super) async fn expect_late_create(
    records: &Attachments,
    record: &Attachment,
) -> Result<(), AttachError> {
    let change = records.change(record, |record| {
        record.cinder_id = None;
        record.superseded_create = false;
    });
    change.await?;
    Ok(())
}

/// After *reserve*, or once an orphan is found.
pub(super) async fn record_cinder_id(
    records: &Attachments,
    record: &Attachment,
    id: String,
) -> Result<Attachment, AttachError> {
    let change = records.change(record, |record| {
        record.cinder_id = Some(id.clone());
        if record.state == AttachmentState::Intended {
            record.state = AttachmentState::Reserved;
        }
    });
    ensure_not_detaching(change.await?)
}

/// Before *delete*, once the orphan of an unwanted create is found.
pub(super) async fn record_unwanted(
    records: &Attachments,
    record: &Attachment,
    id: &str,
) -> Result<(), AttachError> {
    records.change(record, |record| record.cinder_id = Some(id.to_owned())).await?;
    Ok(())
}

/// Before *export*: from here on, the backend may export the volume to this connector.
pub(super) async fn begin_export(
    records: &Attachments,
    record: &Attachment,
    connector: &ConnectorProperties,
) -> Result<Attachment, AttachError> {
    let change = records.change(record, |record| {
        // The outcome of the earlier export is unknown: its request may arrive after this one.
        record.superseded_export |= record.pending_export;
        record.pending_export = true;
        record.connector = Some(connector.clone());
    });
    ensure_not_detaching(change.await?)
}

/// After the response to *export*, before *complete*.
pub(super) async fn record_connection(
    records: &Attachments,
    record: &Attachment,
    connection: &Properties,
    connector: &ConnectorProperties,
) -> Result<Attachment, AttachError> {
    let now = Timestamp::now();
    let change = records.change(record, |record| {
        record.connection = Some(connection.clone());
        record.initiator = Some(connector.initiator.clone());
        record.resolved_at = Some(now);
    });
    ensure_not_detaching(change.await?)
}

/// After *complete*: no export is pending any more. Repeats of the boot attempt get this connection.
pub(super) async fn finish_export(
    records: &Attachments,
    record: &Attachment,
    attempt: Option<&BootAttempt>,
) -> Result<Attachment, AttachError> {
    let change = records.change(record, |record| {
        record.pending_export = false;
        record.resolved_for = attempt.cloned();
        if record.state == AttachmentState::Reserved {
            record.state = AttachmentState::Attached;
        }
    });
    ensure_not_detaching(change.await?)
}

/// After a refusal: drops the last known connection, so that no node boots from it. `pending_export` is the value
/// from before the refused call.
pub(super) async fn clear_connection(
    records: &Attachments,
    record: &Attachment,
    pending_export: bool,
) -> Result<(), AttachError> {
    let change = records.change(record, |record| {
        record.pending_export = pending_export;
        record.connection = None;
        record.resolved_at = None;
    });
    change.await?;
    Ok(())
}

/// After the last look at an attachment that an earlier export could have taken back.
pub(super) async fn settle_export(
    records: &Attachments,
    record: &Attachment,
) -> Result<(), AttachmentWriteError> {
    records.change(record, |record| record.superseded_export = false).await.map(drop)
}

/// Before *delete*, when the attachment cannot be used as it is.
pub(super) async fn mark_detaching(records: &Attachments, record: &Attachment) -> Result<(), AttachError> {
    records.change(record, |record| record.state = AttachmentState::Detaching).await?;
    Ok(())
}

/// Records the volume's type, by which the backend's circuit is found. A failure is only logged.
pub(super) async fn record_volume_type(records: &Attachments, record: &Attachment, volume_type: &str) {
    let change = records.change(record, |record| record.volume_type = Some(volume_type.to_owned()));
    if let Err(error) = change.await {
        tracing::error!(error = %error, "cannot record volume type");
    }
}

/// Records why Cinder does not delete an attachment. A failure is only logged.
pub(super) async fn record_obstacle(records: &Attachments, record: &Attachment, obstacle: &str) {
    let change = records.change(record, |record| record.obstacle = Some(obstacle.to_owned()));
    if let Err(error) = change.await {
        tracing::error!(error = %error, "cannot record why an attachment stays");
    }
}

/// Returns a changed record unless it was deleted or marked for detachment meanwhile.
fn ensure_not_detaching(record: Option<Attachment>) -> Result<Attachment, AttachError> {
    record.filter(|record| record.state != AttachmentState::Detaching).ok_or_else(changed_during_request)
}
