//! Borrowed attachments: the Compute service created them for the node's instance, and deletes them.
//!
//! volboot exports the volume through the attachment at each boot, as through its own. A policy of Cinder may forbid that
//! (403). The machine then boots from the connection that Cinder shows, provided that Cinder still shows it as the
//! instance's. Any other refusal is final.

use super::error::{AttachError, Outage, classify};
use super::monitored_cinder::MonitoredCinder;
use super::node_identity::NodeIdentity;
use crate::cinder::{CinderAttachment, CinderError, CinderVolume};
use crate::model::{Attachment, InstanceServer, Properties};
use crate::store::Attachments;

/// The error for a refusal of the export.
pub(super) fn refuse_export(record: &Attachment, refusal: &CinderError) -> AttachError {
    let status = match refusal {
        CinderError::Refused { status, .. } => format!(" ({status})"),
        CinderError::NotFound(_) | CinderError::Unavailable(_) | CinderError::Failed { .. } => String::new(),
    };
    AttachError::Refused(format!(
        "Cinder refused to export volume {} through the attachment of {}: {refusal}{status}",
        record.volume,
        describe_server(record)
    ))
}

/// Reads the connection of an attachment whose export Cinder has just forbidden with this message.
pub(super) async fn read_connection(
    cinder: &MonitoredCinder,
    record: &Attachment,
    refusal: &str,
) -> Result<Properties, AttachError> {
    let id = record.cinder_id.as_deref().unwrap_or_default();
    let attachment = cinder.attachment(id).await.map_err(|error| cannot_confirm(record, refusal, error))?;
    // Read after the refusal: an older answer may be from before a change that caused the refusal.
    let volume =
        cinder.volume(&record.volume).await.map_err(|error| cannot_confirm(record, refusal, error))?;
    if !is_attached(&attachment, &volume, record) {
        return Err(AttachError::Refused(format!(
            "Cinder refused to export volume {}: {refusal} (403), and no longer shows it as attached by {}",
            record.volume,
            describe_server(record)
        )));
    }
    Ok(attachment.connection.unwrap_or_default())
}

/// The error if Cinder does not show the attachment. Without Cinder, no last known connection may be used either.
fn cannot_confirm(record: &Attachment, refusal: &str, error: CinderError) -> AttachError {
    let volume = &record.volume;
    match classify(volume, error) {
        AttachError::Unavailable(outage) => AttachError::Transient(format!(
            "Cinder refused to export volume {volume}: {refusal} (403), and does not show its attachment: {outage}"
        )),
        error => error,
    }
}

/// Whether attachment and volume both show that the volume is attached by the record's server, on the recorded host.
fn is_attached(attachment: &CinderAttachment, volume: &CinderVolume, record: &Attachment) -> bool {
    let host = record.connector.as_ref().map(|connector| &connector.host);
    let is_held = volume.attachments.iter().any(|holder| {
        holder.attachment_id == attachment.id
            && has_server(holder.server_id.as_deref(), record)
            && holder.host_name.as_ref().is_none_or(|shown| Some(shown) == host)
    });
    is_held
        && attachment.status == "attached"
        && is_for_server(attachment, record)
        && attachment.volume.as_ref().is_none_or(|shown| *shown == record.volume)
}

/// Whether the attachment is still the one of the record's server.
pub(super) fn is_for_server(attachment: &CinderAttachment, record: &Attachment) -> bool {
    has_server(attachment.instance.as_deref(), record)
}

fn has_server(shown: Option<&str>, record: &Attachment) -> bool {
    shown.and_then(|server| server.parse().ok()) == record.server()
}

/// Completes a borrowed attachment after an export without a response, so that its owner finds it as before.
pub(super) async fn complete_pending(
    cinder: &MonitoredCinder,
    records: &Attachments,
    record: &Attachment,
) -> Result<(), AttachError> {
    let Some(id) = record.cinder_id.as_deref().filter(|_| record.pending_export) else { return Ok(()) };
    let result = match cinder.attachment(id).await {
        Ok(attachment) if attachment.is_attaching() && is_for_server(&attachment, record) => {
            cinder.complete(records.check_writable()?, id).await
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    match result {
        Err(error @ (CinderError::Unavailable(_) | CinderError::Failed { .. })) => {
            Err(AttachError::Unavailable(Outage::Cinder(error.to_string())))
        }
        // The attachment is its owner's business.
        Ok(()) | Err(CinderError::NotFound(_) | CinderError::Refused { .. }) => Ok(()),
    }
}

/// The server of an attachment of the node.
fn describe_server(record: &Attachment) -> InstanceServer {
    InstanceServer(record.server().unwrap_or_default())
}

/// Whether a borrowed attachment is for another instance than the node's.
pub(super) fn is_of_another_instance(record: &Attachment, identity: &NodeIdentity) -> bool {
    record.is_borrowed() && record.server() != identity.instance()
}
