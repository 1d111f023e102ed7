//! The export of an attachment's volume, from the record's *pending export* to its *attached*.

use super::backend_calls::send_export;
use super::breaker::CircuitScope;
use super::error::{AttachError, parse_connection};
use super::monitored_cinder::MonitoredCinder;
use super::steps;
use super::volume_status::explain_refusal;
use crate::cinder::CinderError;
use crate::model::{Attachment, Connection, ConnectorProperties};
use crate::store::Attachments;

/// Exports the volume and completes the attachment. `None`: Cinder no longer has the attachment.
pub(super) async fn export(
    cinder: &MonitoredCinder,
    records: &Attachments,
    record: &Attachment,
    connector: &ConnectorProperties,
) -> Result<Option<Connection>, AttachError> {
    let was_pending = record.pending_export;
    let record = steps::begin_export(records, record, connector).await?;
    let Some(id) = record.cinder_id.as_deref() else { return Ok(None) };
    let attachment = match send_export(cinder, records, &record, id, connector).await {
        Ok(attachment) => attachment,
        Err(error) => return record_error(cinder, records, &record, was_pending, error).await.map(|()| None),
    };
    let properties = attachment.connection.unwrap_or_default();
    let connection = match parse_connection(&record.volume, &properties) {
        Ok(connection) => connection,
        Err(refusal) => {
            // No machine can boot from this connection, so the volume is released.
            steps::mark_detaching(records, &record).await?;
            return Err(refusal);
        }
    };
    let record = steps::record_connection(records, &record, &properties, connector).await?;
    if let Some(volume_type) = &record.volume_type {
        cinder.breaker().record_success(&CircuitScope::Backend(volume_type.clone()));
    }
    if let Err(error) = cinder.complete(id).await {
        return record_error(cinder, records, &record, was_pending, error).await.map(|()| None);
    }
    steps::finish_export(records, &record).await?;
    Ok(Some(connection))
}

/// Records the failure of *export* or *complete*. `Ok`: Cinder no longer has the attachment. After no response, the
/// export stays pending.
async fn record_error(
    cinder: &MonitoredCinder,
    records: &Attachments,
    record: &Attachment,
    was_pending: bool,
    error: CinderError,
) -> Result<(), AttachError> {
    match error {
        CinderError::Unavailable(reason) => Err(AttachError::Unavailable(reason)),
        CinderError::NotFound(_) => steps::clear_connection(records, record, was_pending).await,
        refusal @ CinderError::Refused { .. } => {
            steps::clear_connection(records, record, was_pending).await?;
            Err(explain_refusal(cinder, records, &record.volume, refusal).await)
        }
    }
}
