//! The rules for the end of a run, after all faults have ended and the reconcilers have worked: records and attachments
//! belong together, and each machine boots or knows why not.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::cinder::SeenAttachment;
use super::sessions::SessionEnd;
use crate::model::{Attachment, AttachmentState};

/// A machine's last boot session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastSession {
    pub(super) node: String,
    pub(super) end: SessionEnd,
    /// Whether nothing but a fault of volboot can prevent the boot.
    pub(super) must_boot: bool,
}

/// Finds what is wrong between the records and Cinder's attachments.
pub(super) fn check_attachments(
    records: &[Attachment],
    attachments: &[SeenAttachment],
) -> Result<(), String> {
    for record in records {
        let (node, volume) = (record.node, &record.volume);
        let Some(id) = &record.cinder_id else {
            return Err(format!(
                "the record of node {node} and volume {volume} has no attachment: {record:?}"
            ));
        };
        let Some(attachment) = attachments.iter().find(|attachment| attachment.id == *id) else {
            return Err(format!("{id} of node {node} and volume {volume} is not in Cinder"));
        };
        let expected = match record.state {
            AttachmentState::Attached => "attached",
            AttachmentState::Reserved => "reserved",
            AttachmentState::Intended | AttachmentState::Detaching => "none",
        };
        if record.pending_export || record.superseded_export || attachment.status != expected {
            return Err(format!(
                "{id} of node {node} and volume {volume} is {} in Cinder, and {record:?}",
                attachment.status
            ));
        }
        if attachment.volume != *volume {
            return Err(format!("{id} of volume {} is recorded for volume {volume}", attachment.volume));
        }
    }
    for attachment in attachments {
        let of_attachment = |record: &&Attachment| record.cinder_id.as_ref() == Some(&attachment.id);
        match records.iter().filter(of_attachment).count() {
            1 => {}
            0 => return Err(format!("{} of volume {} is an orphan", attachment.id, attachment.volume)),
            several => return Err(format!("{} has {several} records", attachment.id)),
        }
    }
    Ok(())
}

/// Finds a node that keeps a volume which its records do not name.
pub(super) fn check_wanted(records: &[Attachment], named: &BTreeSet<(Uuid, String)>) -> Result<(), String> {
    match records.iter().find(|record| !named.contains(&(record.node, record.volume.clone()))) {
        Some(record) => {
            Err(format!("node {} keeps volume {}, which it has lost", record.node, record.volume))
        }
        None => Ok(()),
    }
}

/// Finds a machine that does not boot without a reason.
pub(super) fn check_sessions(sessions: &[LastSession]) -> Result<(), String> {
    for LastSession { node, end, must_boot } in sessions {
        match end {
            SessionEnd::NotBooted(reason) if *must_boot || reason.is_empty() => {
                return Err(format!("the machine of node {node} does not boot: {reason}"));
            }
            SessionEnd::NotBooted(_) | SessionEnd::Booted => {}
        }
    }
    Ok(())
}

mod tests;
