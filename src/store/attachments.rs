//! [`Attachments`]: the records of attachments in Cinder, over a [`Store`].
//!
//! There is one record per node and volume, with two writers: the task that works on the attachment, and the
//! inventory. The inventory sets `detaching` in the same batch in which the node loses the volume, so no attachment
//! is left behind. The record of a borrowed attachment is deleted instead. Updates use optimistic concurrency: a change
//! is a function, which is called again after a write conflict.
//!
//! The task holds a claim, and writes through [`Attachments::fenced`]: after the claim's end, the store refuses its
//! writes. No change takes a record out of `detaching`.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::attachment_keys::{PREFIX, key, node_prefix};
use super::encoding::{decode, encode, encode_update};
use super::keys::{guard_key, record_key};
use super::volume_index::VolumeIndex;
use super::{
    Batch, ClaimId, Cluster, Condition, Freshness, Record, Store, StoreAccess, StoreError, WriteError,
};
use crate::model::{Attachment, AttachmentState, BootOnce, Node, VolumeTarget};

/// Records per read.
pub(super) const PAGE: usize = 100;
/// Attempts at a write before giving up after write conflicts.
const ATTEMPTS: usize = 100;

/// Evidence that the store accepted writes a moment ago. Every change in Cinder requires it: after a change without a
/// record, a crash would leave an attachment behind that nothing finds again.
#[derive(Debug, Clone, Copy)]
pub struct WritableStore(());

/// A write of an attachment's record failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AttachmentWriteError {
    /// The claim of the work has ended: another instance may have taken over. Nothing was written.
    #[error("the claim on {0} has ended")]
    ClaimEnded(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The attachments' records. Cheap to clone.
#[derive(Clone)]
pub struct Attachments {
    store: Arc<dyn Store>,
    volumes: Arc<VolumeIndex>,
    /// The claims that every write requires.
    fence: Vec<ClaimId>,
}

impl fmt::Debug for Attachments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attachments")
    }
}

impl Attachments {
    /// The records in a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, volumes: Arc::default(), fence: Vec::new() }
    }

    /// The same records, for the holder of this claim: each write requires it, in addition to earlier ones.
    #[must_use]
    pub fn fenced(&self, claim: &ClaimId) -> Self {
        let mut fence = self.fence.clone();
        fence.push(claim.clone());
        Self { fence, ..self.clone() }
    }

    /// The records as last known while the shared store does not respond. Nothing can be written.
    #[must_use]
    pub fn last_known(&self) -> Self {
        Self::new(Arc::clone(&self.store).last_known())
    }

    /// The instances on the store, and their claims.
    pub fn cluster(&self) -> &dyn Cluster {
        self.store.cluster()
    }

    /// Whether reads show the present.
    pub fn freshness(&self) -> Freshness {
        self.store.freshness()
    }

    /// Whether the store accepts writes at present.
    pub fn access(&self) -> StoreAccess {
        match self.store.freshness() {
            Freshness::Fresh => self.store.access(),
            Freshness::Stale { reason, .. } => {
                StoreAccess::ReadOnly(format!("it does not respond: {reason}"))
            }
        }
    }

    /// Fails if the store accepts no writes.
    pub fn check_writable(&self) -> Result<WritableStore, StoreError> {
        match self.access() {
            StoreAccess::ReadWrite => Ok(WritableStore(())),
            StoreAccess::ReadOnly(reason) => Err(StoreError::ReadOnly(reason)),
        }
    }

    /// The attachment of a volume to a node.
    pub async fn get(&self, node: Uuid, volume: &str) -> Result<Option<Attachment>, StoreError> {
        let record = self.store.get(&[key(node, volume)]).await?.pop().flatten();
        Ok(record.as_ref().map(decode).transpose()?.map(|attachment| attachment.value))
    }

    /// All attachments of a node.
    pub async fn list_by_node(&self, node: Uuid) -> Result<Vec<Attachment>, StoreError> {
        self.list_under(&node_prefix(node)).await
    }

    /// All attachments.
    pub async fn list_all(&self) -> Result<Vec<Attachment>, StoreError> {
        self.list_under(PREFIX).await
    }

    /// All attachments of a volume, over all nodes.
    pub async fn list_by_volume(&self, volume: &str) -> Result<Vec<Attachment>, StoreError> {
        let nodes = self.volumes.find(&*self.store, volume).await?;
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<_> = nodes.into_iter().map(|node| key(node, volume)).collect();
        Ok(self.store.get(&keys).await?.iter().flatten().filter_map(decode_or_log).collect())
    }

    /// The first attachment that fits. Reads every attachment, page by page: for rare operations only.
    pub async fn find(&self, fits: impl Fn(&Attachment) -> bool) -> Result<Option<Attachment>, StoreError> {
        let mut after = None;
        loop {
            let page = self.store.list(PREFIX, after.as_deref(), PAGE).await?;
            let Some(last) = page.last().map(|record| record.key.clone()) else { return Ok(None) };
            let found = page.iter().filter_map(decode_or_log).find(&fits);
            if found.is_some() || page.len() < PAGE {
                return Ok(found);
            }
            after = Some(last);
        }
    }

    async fn list_under(&self, prefix: &str) -> Result<Vec<Attachment>, StoreError> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.list(prefix, after.as_deref(), PAGE).await?;
            let Some(last) = page.last().map(|record| record.key.clone()) else { return Ok(all) };
            let is_last_page = page.len() < PAGE;
            all.extend(page.iter().filter_map(decode_or_log));
            if is_last_page {
                return Ok(all);
            }
            after = Some(last);
        }
    }

    /// Records the intent to create an attachment, if the node and its target, its one-time boot or its fallback, still call for the
    /// volume, and the pair has no attachment yet. Returns whether the intent was written.
    pub async fn intend(&self, attachment: &Attachment) -> Result<bool, AttachmentWriteError> {
        let guard_key = guard_key(attachment.node);
        let keys = [
            record_key::<Node>(attachment.node),
            record_key::<VolumeTarget>(attachment.target),
            record_key::<BootOnce>(attachment.target),
            guard_key.clone(),
        ];
        let key = key(attachment.node, &attachment.volume);
        for _ in 0..ATTEMPTS {
            let records = self.store.get(&keys).await?;
            let [Some(node), target, once, Some(guard)] = records.as_slice() else { return Ok(false) };
            let bootable: Node = decode(node)?.value;
            // The fallback stands in the node's own record.
            let is_fallback = attachment.target == attachment.node;
            let (cause, is_wanted) = match (target, once) {
                (Some(target), _) => (target, attachment.is_wanted(&bootable, &decode(target)?.value)),
                (None, Some(once)) => (once, attachment.is_wanted_once(&bootable, &decode(once)?.value)),
                (None, None) if is_fallback => (node, attachment.is_wanted_as_fallback(&bootable)),
                (None, None) => return Ok(false),
            };
            if !is_wanted {
                return Ok(false);
            }
            // The guard changes, as with every new record of the node: a concurrent release of all volumes conflicts.
            let batch = self
                .begin_batch()
                .require_unchanged(&node.key, node.revision)
                .require_unchanged(&cause.key, cause.revision)
                .require_unchanged(&guard_key, guard.revision)
                .require_absent(&key)
                .put(&guard_key, "")
                .put(&key, encode(attachment)?);
            match self.store.write(batch).await {
                Ok(_) => return Ok(true),
                Err(WriteError::Conflict(Condition::Held(claim))) => return Err(claim_ended(claim)),
                Err(WriteError::Conflict(condition)) if condition.key() == key => return Ok(false),
                Err(WriteError::Conflict(_)) => {}
                Err(WriteError::Store(error)) => return Err(error.into()),
            }
        }
        Err(conflict_limit_error().into())
    }

    /// Changes an attachment, if its id is still the same. Returns the new record; `None` if it was deleted. A record in
    /// `detaching` stays so.
    pub async fn change(
        &self,
        attachment: &Attachment,
        change: impl Fn(&mut Attachment),
    ) -> Result<Option<Attachment>, AttachmentWriteError> {
        let key = key(attachment.node, &attachment.volume);
        for _ in 0..ATTEMPTS {
            let Some((record, old)) = self.read_again(attachment).await? else { return Ok(None) };
            let mut new = old.clone();
            change(&mut new);
            if old.state == AttachmentState::Detaching {
                new.state = AttachmentState::Detaching;
            }
            if new == old {
                return Ok(Some(new));
            }
            let batch = self.begin_batch().require_unchanged(&key, record.revision);
            let batch = batch.put(&key, encode_update(&record, &new)?);
            match self.store.write(batch).await {
                Ok(_) => return Ok(Some(new)),
                Err(WriteError::Conflict(Condition::Held(claim))) => return Err(claim_ended(claim)),
                Err(WriteError::Conflict(_)) => {}
                Err(WriteError::Store(error)) => return Err(error.into()),
            }
        }
        Err(conflict_limit_error().into())
    }

    /// Deletes an attachment's record, if its id is still the same.
    pub async fn delete(&self, attachment: &Attachment) -> Result<(), AttachmentWriteError> {
        let key = key(attachment.node, &attachment.volume);
        for _ in 0..ATTEMPTS {
            let Some((record, _)) = self.read_again(attachment).await? else { return Ok(()) };
            let batch = self.begin_batch().require_unchanged(&key, record.revision).delete(&key);
            match self.store.write(batch).await {
                Ok(_) => return Ok(()),
                Err(WriteError::Conflict(Condition::Held(claim))) => return Err(claim_ended(claim)),
                Err(WriteError::Conflict(_)) => {}
                Err(WriteError::Store(error)) => return Err(error.into()),
            }
        }
        Err(conflict_limit_error().into())
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// A batch that requires the claims.
    fn begin_batch(&self) -> Batch {
        self.fence.iter().fold(Batch::default(), Batch::require_held)
    }

    /// Reads an attachment's record, if its id is still the same.
    async fn read_again(&self, attachment: &Attachment) -> Result<Option<(Record, Attachment)>, StoreError> {
        let key = key(attachment.node, &attachment.volume);
        let Some(record) = self.store.get(&[key]).await?.pop().flatten() else { return Ok(None) };
        let present: Attachment = decode(&record)?.value;
        Ok((present.id == attachment.id).then_some((record, present)))
    }
}

/// Decodes a record of a list, in which one damaged record must not block the others.
pub(super) fn decode_or_log(record: &Record) -> Option<Attachment> {
    let attachment = decode(record);
    if let Err(error) = &attachment {
        tracing::error!(error = %error, "attachment record skipped");
    }
    attachment.ok().map(|attachment| attachment.value)
}

fn claim_ended(claim: ClaimId) -> AttachmentWriteError {
    AttachmentWriteError::ClaimEnded(claim.work)
}

fn conflict_limit_error() -> StoreError {
    StoreError::Unavailable(format!("gave up after {ATTEMPTS} write conflicts"))
}
