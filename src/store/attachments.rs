//! [`Attachments`]: the records of what volboot holds in Cinder, over a [`Store`].
//!
//! There is one for a node and a volume. It is written by whoever works on it, and by the inventory, which turns it to
//! `detaching` in the same batch in which the node loses the volume: so between the two nothing can be forgotten.
//! Everybody else may have changed a record since it was read, so a change is a function that may be asked again.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::inventory::{guard_key, record_key};
use super::{Batch, Changes, Record, Revision, Store, StoreError, Versioned, WriteError};
use crate::model::{Attachment, AttachmentState, Node, StorageInterface, VolumeTarget};

/// Where all of them are.
const PREFIX: &str = "attachment/";
/// How many are read at once.
const PAGE: usize = 100;
/// How often a change is tried again after others were quicker.
const ATTEMPTS: usize = 100;

/// The attachments' records. Cheap to clone.
#[derive(Clone)]
pub struct Attachments {
    store: Arc<dyn Store>,
}

impl fmt::Debug for Attachments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attachments")
    }
}

impl Attachments {
    /// The records in a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The attachment of a volume to a node.
    pub async fn get(&self, node: Uuid, volume: &str) -> Result<Option<Attachment>, StoreError> {
        Ok(self.version(&key(node, volume)).await?.map(|found| found.value))
    }

    /// All attachments of a node.
    pub async fn of_node(&self, node: Uuid) -> Result<Vec<Attachment>, StoreError> {
        self.all_under(&node_prefix(node)).await
    }

    /// All attachments there are.
    pub async fn all(&self) -> Result<Vec<Attachment>, StoreError> {
        self.all_under(PREFIX).await
    }

    /// All attachments of a volume, to whichever node. Reads all there are: for what seldom happens.
    pub async fn of_volume(&self, volume: &str) -> Result<Vec<Attachment>, StoreError> {
        Ok(self.all().await?.into_iter().filter(|attachment| attachment.volume == volume).collect())
    }

    async fn all_under(&self, prefix: &str) -> Result<Vec<Attachment>, StoreError> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.list(prefix, after.as_deref(), PAGE).await?;
            let Some(last) = page.last().map(|record| record.key.clone()) else { return Ok(all) };
            let complete = page.len() < PAGE;
            all.extend(page.iter().filter_map(readable));
            if complete {
                return Ok(all);
            }
            after = Some(last);
        }
    }

    /// Writes down that an attachment is about to be created: if its node and its target still want the volume, and
    /// there is no other for it. Returns whether it was written.
    pub async fn intend(&self, intended: &Attachment) -> Result<bool, StoreError> {
        let guard_key = guard_key(intended.node);
        let keys = [
            record_key::<Node>(intended.node),
            record_key::<VolumeTarget>(intended.target),
            guard_key.clone(),
        ];
        let key = key(intended.node, &intended.volume);
        for _ in 0..ATTEMPTS {
            let found = self.store.get(&keys).await?;
            let [Some(node), Some(target), Some(guard)] = found.as_slice() else { return Ok(false) };
            if !wanted(intended, &read(node)?, &read(target)?) {
                return Ok(false);
            }
            // The guard is touched as by anything else that the node gets: so it cannot lose all it has meanwhile.
            let batch = Batch::default()
                .unchanged(&node.key, node.revision)
                .unchanged(&target.key, target.revision)
                .unchanged(&guard_key, guard.revision)
                .absent(&key)
                .put(&guard_key, "")
                .put(&key, encode(intended)?);
            match self.store.write(batch).await {
                Ok(_) => return Ok(true),
                Err(WriteError::Conflict(condition)) if condition.key() == key => return Ok(false),
                Err(WriteError::Conflict(_)) => {}
                Err(WriteError::Store(error)) => return Err(error),
            }
        }
        Err(too_busy())
    }

    /// Changes an attachment, if it is still the same one. Returns what it is then; `None` if it is gone.
    pub async fn change(
        &self,
        of: &Attachment,
        change: impl Fn(&mut Attachment),
    ) -> Result<Option<Attachment>, StoreError> {
        let key = key(of.node, &of.volume);
        for _ in 0..ATTEMPTS {
            let Some(found) = self.version(&key).await?.filter(|found| found.value.id == of.id) else {
                return Ok(None);
            };
            let mut new = found.value.clone();
            change(&mut new);
            if new == found.value {
                return Ok(Some(new));
            }
            let batch = Batch::default().unchanged(&key, found.revision).put(&key, encode(&new)?);
            match self.store.write(batch).await {
                Ok(_) => return Ok(Some(new)),
                Err(WriteError::Conflict(_)) => {}
                Err(WriteError::Store(error)) => return Err(error),
            }
        }
        Err(too_busy())
    }

    /// Forgets an attachment, if it is still the same one.
    pub async fn forget(&self, of: &Attachment) -> Result<(), StoreError> {
        let key = key(of.node, &of.volume);
        for _ in 0..ATTEMPTS {
            let Some(found) = self.version(&key).await?.filter(|found| found.value.id == of.id) else {
                return Ok(());
            };
            match self.store.write(Batch::default().unchanged(&key, found.revision).delete(&key)).await {
                Ok(_) => return Ok(()),
                Err(WriteError::Conflict(_)) => {}
                Err(WriteError::Store(error)) => return Err(error),
            }
        }
        Err(too_busy())
    }

    /// Waits for changes after `after`; returns the attachments that changed (and are there), and the revision to go
    /// on from.
    pub async fn changed(&self, after: Revision) -> Result<(Vec<Attachment>, Revision), StoreError> {
        let latest = self.store.changed(after).await?;
        match self.store.changes(after, PAGE).await? {
            Changes::Forgotten(from) => Ok((self.all().await?, from)),
            Changes::Since(changes) => {
                let to = changes.last().map_or(latest, |change| change.revision);
                let mut keys: Vec<_> = changes
                    .into_iter()
                    .map(|change| change.key)
                    .filter(|key| key.starts_with(PREFIX))
                    .collect();
                keys.sort();
                keys.dedup();
                if keys.is_empty() {
                    return Ok((Vec::new(), to));
                }
                let found = self.store.get(&keys).await?;
                Ok((found.iter().flatten().filter_map(readable).collect(), to))
            }
        }
    }

    async fn version(&self, key: &str) -> Result<Option<Versioned<Attachment>>, StoreError> {
        let found = self.store.get(&[key.to_owned()]).await?.pop().flatten();
        found.as_ref().map(decode).transpose()
    }
}

/// Adds to a batch that a node loses a volume, or all: whatever was begun with it is to be undone.
pub(super) async fn detach(
    store: &dyn Store,
    mut batch: Batch,
    node: Uuid,
    volume: Option<&str>,
) -> Result<Batch, StoreError> {
    let prefix = node_prefix(node);
    let mut after = None;
    loop {
        let page = match volume {
            Some(volume) => store.get(&[key(node, volume)]).await?.into_iter().flatten().collect(),
            None => store.list(&prefix, after.as_deref(), PAGE).await?,
        };
        let complete = volume.is_some() || page.len() < PAGE;
        after = page.last().map(|record| record.key.clone());
        for record in page {
            let Versioned { mut value, revision } = decode(&record)?;
            value.state = AttachmentState::Detaching;
            batch = batch.unchanged(&record.key, revision).put(&record.key, encode(&value)?);
        }
        if complete {
            // One that is intended from now on finds its target or the node's guard changed.
            return Ok(match volume {
                Some(volume) if !batch.put.iter().any(|(put, _)| *put == key(node, volume)) => {
                    batch.absent(key(node, volume))
                }
                _ => batch,
            });
        }
    }
}

/// Whether a node still is to have a volume.
fn wanted(intended: &Attachment, node: &Node, target: &VolumeTarget) -> bool {
    node.storage_interface == StorageInterface::Cinder
        && !node.undeployed
        && (target.node_uuid, &target.volume_id) == (intended.node, &intended.volume)
}

/// The volume's id is free text, so it comes last.
fn key(node: Uuid, volume: &str) -> String {
    format!("{}{volume}", node_prefix(node))
}

fn node_prefix(node: Uuid) -> String {
    format!("{PREFIX}{node}/")
}

fn encode(attachment: &Attachment) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(attachment).map_err(|error| StoreError::Damaged(error.to_string()))
}

fn decode(record: &Record) -> Result<Versioned<Attachment>, StoreError> {
    Ok(Versioned { value: read(record)?, revision: record.revision })
}

/// One that cannot be read must not stand in the way of the others.
fn readable(record: &Record) -> Option<Attachment> {
    let read = read(record);
    if let Err(error) = &read {
        tracing::error!(error = %error, "an attachment is passed over");
    }
    read.ok()
}

fn read<T: DeserializeOwned>(record: &Record) -> Result<T, StoreError> {
    serde_json::from_slice(&record.value)
        .map_err(|error| StoreError::Damaged(format!("{}: {error}", record.key)))
}

fn too_busy() -> StoreError {
    StoreError::Unavailable(format!("others were quicker {ATTEMPTS} times in a row"))
}
