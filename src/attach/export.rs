//! The export of an attachment's volume, from the record's *pending export* to its *attached*.

use uuid::Uuid;

use super::backend_calls::{BackendCallError, send_export};
use super::borrowed;
use super::breaker::CircuitScope;
use super::error::{AttachError, Outage, classify, parse_connection};
use super::monitored_cinder::MonitoredCinder;
use super::steps;
use super::volume_status::explain_refusal;
use crate::cinder::CinderError;
use crate::model::{Attachment, BootAttempt, Connection, ConnectionSource, ConnectorProperties, Ownership};
use crate::store::Attachments;

/// The result of an export to which Cinder responded.
pub(super) enum ExportOutcome {
    /// The volume is exported and the attachment is complete.
    Exported(Export),
    /// No machine can boot from the connection, for this reason. The attachment is to be deleted.
    Unbootable(String),
    /// Cinder no longer has the attachment.
    Gone,
}

/// The connection of an exported volume.
pub(super) struct Export {
    pub(super) connection: Connection,
    pub(super) source: ConnectionSource,
}

/// An attached and exported volume.
#[derive(Debug, Clone)]
pub(super) struct ExportedVolume {
    /// The id of the attachment's record.
    pub(super) record: Uuid,
    /// The server of an attachment that another client created.
    pub(super) server: Option<Uuid>,
    pub(super) connection: Connection,
    pub(super) source: ConnectionSource,
}

/// Exports the volume and completes the attachment, for this boot attempt if a machine waits.
pub(super) async fn export(
    cinder: &MonitoredCinder,
    records: &Attachments,
    record: &Attachment,
    connector: &ConnectorProperties,
    attempt: Option<&BootAttempt>,
) -> Result<ExportOutcome, AttachError> {
    let was_pending = record.pending_export;
    let record = steps::begin_export(records, record, connector).await?;
    let Some(id) = record.cinder_id.as_deref() else { return Ok(ExportOutcome::Gone) };
    let store = records.check_writable()?;
    let attachment = match send_export(store, cinder, records, &record, id, connector).await {
        Ok(attachment) => attachment,
        Err(BackendCallError::Failed(reason)) => {
            return Err(AttachError::Unavailable(Outage::Export(cannot_export(&record.volume, &reason))));
        }
        Err(BackendCallError::Unavailable(reason) | BackendCallError::NoComputeService(reason)) => {
            return Err(AttachError::Unavailable(Outage::Backend(cannot_export(&record.volume, &reason))));
        }
        Err(BackendCallError::Cinder(CinderError::Refused { status: 403, message }))
            if record.is_borrowed() =>
        {
            steps::clear_connection(records, &record, was_pending).await?;
            return use_existing_export(cinder, records, &record, connector, &message).await;
        }
        Err(BackendCallError::Cinder(error)) => {
            return record_error(cinder, records, &record, was_pending, error).await;
        }
    };
    let properties = attachment.connection.unwrap_or_default();
    let connection = match parse_connection(&record.volume, &properties) {
        Ok(connection) => connection,
        Err(refusal) => {
            steps::mark_detaching(records, &record).await?;
            return Ok(ExportOutcome::Unbootable(refusal.into_reason()));
        }
    };
    let record = steps::record_connection(records, &record, &properties, connector).await?;
    if let Some(volume_type) = &record.volume_type {
        cinder.breaker().record_success(&CircuitScope::Backend(volume_type.clone()));
    }
    if let Err(error) = cinder.complete(records.check_writable()?, id).await {
        return record_error(cinder, records, &record, was_pending, error).await;
    }
    steps::finish_export(records, &record, attempt).await?;
    Ok(ExportOutcome::Exported(Export { connection, source: ConnectionSource::Cinder }))
}

/// Uses the connection that Cinder shows for a borrowed attachment, whose export Cinder has forbidden to volboot (403).
async fn use_existing_export(
    cinder: &MonitoredCinder,
    records: &Attachments,
    record: &Attachment,
    connector: &ConnectorProperties,
    refusal: &str,
) -> Result<ExportOutcome, AttachError> {
    let properties = borrowed::read_connection(cinder, record, refusal).await?;
    let connection = match parse_connection(&record.volume, &properties) {
        Ok(connection) => connection,
        Err(refusal) => return Ok(ExportOutcome::Unbootable(refusal.into_reason())),
    };
    let record = steps::record_connection(records, record, &properties, connector).await?;
    // Each boot asks again whether the attachment is still the instance's.
    steps::finish_export(records, &record, None).await?;
    let source = ConnectionSource::Existing { refusal: format!("{refusal} (403)") };
    Ok(ExportOutcome::Exported(Export { connection, source }))
}

fn cannot_export(volume: &str, reason: &str) -> String {
    format!("cannot export volume {volume}: {reason}")
}

/// Records the failure of *export* or *complete*. After no response, the export stays pending.
async fn record_error(
    cinder: &MonitoredCinder,
    records: &Attachments,
    record: &Attachment,
    was_pending: bool,
    error: CinderError,
) -> Result<ExportOutcome, AttachError> {
    match error {
        CinderError::Unavailable(_) | CinderError::Failed { .. } => Err(classify(&record.volume, error)),
        CinderError::NotFound(_) => {
            steps::clear_connection(records, record, was_pending).await?;
            Ok(ExportOutcome::Gone)
        }
        refusal @ CinderError::Refused { .. } if record.is_borrowed() => {
            steps::clear_connection(records, record, was_pending).await?;
            Err(borrowed::refuse_export(record, &refusal))
        }
        refusal @ CinderError::Refused { .. } => {
            steps::clear_connection(records, record, was_pending).await?;
            Err(explain_refusal(cinder, records, &record.volume, refusal).await)
        }
    }
}

/// The connector for an export: the node's, with the host and the device of an attachment that another client created.
pub(super) fn select_connector(record: &Attachment, node: &ConnectorProperties) -> ConnectorProperties {
    match (record.ownership, &record.connector) {
        (Ownership::Borrowed(_) | Ownership::Adopted, Some(recorded)) => ConnectorProperties {
            host: recorded.host.clone(),
            mountpoint: recorded.mountpoint.clone(),
            ..node.clone()
        },
        (Ownership::Own | Ownership::Borrowed(_) | Ownership::Adopted, _) => node.clone(),
    }
}
