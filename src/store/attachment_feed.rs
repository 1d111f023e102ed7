//! The change feed of the attachments: the source of the reconciler's work.

use super::attachment_keys::PREFIX;
use super::attachments::{PAGE, decode_or_log};
use super::{Attachments, ChangeSet, Revision, StoreError};
use crate::model::Attachment;

/// A page of the change feed.
#[derive(Debug)]
pub struct AttachmentChanges {
    /// The changed attachments that still exist.
    pub records: Vec<Attachment>,
    /// The revision to continue from.
    pub revision: Revision,
    /// Whether the feed had nothing newer when it was asked.
    pub is_latest: bool,
    /// Whether these are all attachments: the feed did not go back far enough.
    pub is_full_list: bool,
}

impl Attachments {
    /// Waits for changes after `after`, of which a shared store is not asked: the local mirror shows them. The feed would
    /// fall behind other reads if each page waited for a quorum, and it would stop during an election.
    pub async fn wait_for_change(&self, after: Revision) -> Result<AttachmentChanges, StoreError> {
        let latest = self.store().wait_for_change(after).await?;
        let known = self.last_known();
        match known.store().changes(after, PAGE).await? {
            ChangeSet::Compacted(revision) => {
                let records = known.list_all().await?;
                Ok(AttachmentChanges { records, revision, is_latest: revision >= latest, is_full_list: true })
            }
            ChangeSet::Since(changes) => {
                let revision = changes.last().map_or(latest, |change| change.revision);
                let is_latest = revision >= latest;
                let mut keys: Vec<_> = changes
                    .into_iter()
                    .map(|change| change.key)
                    .filter(|key| key.starts_with(PREFIX))
                    .collect();
                keys.sort();
                keys.dedup();
                if keys.is_empty() {
                    return Ok(AttachmentChanges {
                        records: Vec::new(),
                        revision,
                        is_latest,
                        is_full_list: false,
                    });
                }
                let records = known.store().get(&keys).await?;
                let records = records.iter().flatten().filter_map(decode_or_log).collect();
                Ok(AttachmentChanges { records, revision, is_latest, is_full_list: false })
            }
        }
    }
}
