//! [`LostVolumes`]: the inventory's part of a detachment, in the batch in which a node loses volumes.

use uuid::Uuid;

use super::attachment_keys::{key, node_prefix};
use super::attachments::PAGE;
use super::encoding::{decode, encode_update};
use super::{Batch, Record, Store, StoreError};
use crate::model::{Attachment, AttachmentState};

/// The volumes that a node loses.
#[derive(Debug, Clone, Copy)]
pub(super) enum LostVolumes<'a> {
    /// The volume with this id.
    One(&'a str),
    /// The volumes with borrowed attachments.
    Borrowed,
    /// All volumes.
    All,
}

/// Adds to a batch that a node loses volumes. Attachments go to `detaching`; borrowed ones are forgotten.
pub(super) async fn detach(
    store: &dyn Store,
    mut batch: Batch,
    node: Uuid,
    lost: LostVolumes<'_>,
) -> Result<Batch, StoreError> {
    if let LostVolumes::One(volume) = lost {
        let key = key(node, volume);
        // A later `intend` conflicts with the changed target or the changed guard of the node.
        return match store.get(std::slice::from_ref(&key)).await?.pop().flatten() {
            Some(record) => release(batch, &record, lost),
            None => Ok(batch.require_absent(key)),
        };
    }
    let prefix = node_prefix(node);
    let mut after = None;
    loop {
        let page = store.list(&prefix, after.as_deref(), PAGE).await?;
        let is_last_page = page.len() < PAGE;
        after = page.last().map(|record| record.key.clone());
        for record in page {
            batch = release(batch, &record, lost)?;
        }
        if is_last_page {
            return Ok(batch);
        }
    }
}

/// Adds the release of one attachment to a batch.
fn release(batch: Batch, record: &Record, lost: LostVolumes<'_>) -> Result<Batch, StoreError> {
    let mut attachment: Attachment = decode(record)?.value;
    if matches!(lost, LostVolumes::Borrowed) && !attachment.is_borrowed() {
        return Ok(batch);
    }
    let batch = batch.require_unchanged(&record.key, record.revision);
    // After an export without a response, the reconciler first completes the attachment for its owner.
    if attachment.is_borrowed() && !attachment.pending_export {
        return Ok(batch.delete(&record.key));
    }
    attachment.state = AttachmentState::Detaching;
    Ok(batch.put(&record.key, encode_update(record, &attachment)?))
}
