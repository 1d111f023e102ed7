//! A repeat of a boot request at another instance: the record has the result of the resolution.
//!
//! The last write of a resolution notes the boot attempt with the connection. A machine that repeats the attempt gets
//! this connection, whichever instance it asks, and Cinder is not called again. An older note serves nobody: after
//! [`super::Windows::repeat`], or if the change feed did not show the resolution, Cinder is asked.

use std::time::Duration;

use super::borrowed::is_of_another_instance;
use super::error::parse_connection;
use super::export::{ExportedVolume, select_connector};
use super::record_ages::RecordAges;
use super::request::{DesiredAttachment, ResolutionContext};
use crate::model::{Attachment, AttachmentState, ConnectionSource};

/// The result of another instance's resolution for the same boot attempt, within this window.
pub(super) async fn find_resolved(
    record: &Attachment,
    desired: &DesiredAttachment,
    context: &ResolutionContext,
    record_ages: &RecordAges,
    window: Duration,
) -> Option<ExportedVolume> {
    let is_repeat = context.attempt.is_some() && record.resolved_for == context.attempt;
    let is_attached = record.state == AttachmentState::Attached && !record.pending_export;
    if !is_repeat || !is_attached || is_of_another_instance(record, &desired.identity) {
        return None;
    }
    if record_ages.resolution_age(record).await? >= window {
        return None;
    }
    let connector = select_connector(record, &desired.connector);
    if record.connector.as_ref() != Some(&connector)
        || record.initiator.as_ref() != Some(&connector.initiator)
    {
        return None;
    }
    let connection = parse_connection(&record.volume, record.connection.as_ref()?).ok()?;
    Some(ExportedVolume {
        record: record.id,
        server: record.server(),
        connection,
        source: ConnectionSource::Cinder,
    })
}
