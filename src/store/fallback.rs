//! [`FallbackRecords`]: the records of nodes with a fallback, over a [`Store`].
//!
//! | key | content |
//! |---|---|
//! | `fallback/<node>` | the [`FallbackState`] |
//! | `fallback-secret/<node>` | the CHAP secret of a fixed target |
//! | `reported-up/<node>` | the boot volume whose operating system has reported `up` last |
//!
//! All end with the node, and with a deployment whose volume targets end. Every change is a compare-and-swap, and requires
//! that the node exists.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::encoding::{Versioned, decode, encode, encode_update};
use super::keys::{guard_key, record_key};
use super::{Batch, ChangeSet, Cluster, Record, Revision, Store, StoreError, WriteError};
use crate::model::{Fallback, FallbackSecret, FallbackSource, FallbackState, Node, VolumeTarget};

/// The key prefix of the states.
const PREFIX: &str = "fallback/";
/// Records per read.
const PAGE: usize = 100;
/// Attempts at a write before giving up after write conflicts.
const ATTEMPTS: usize = 100;

/// The records of fallbacks. Cheap to clone.
#[derive(Clone)]
pub struct FallbackRecords {
    store: Arc<dyn Store>,
}

impl fmt::Debug for FallbackRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FallbackRecords")
    }
}

/// A node with a fallback, as one revision of the store has it.
#[derive(Debug, Clone)]
pub struct FallbackSnapshot {
    /// The node.
    pub node: Node,
    /// The boot target, if the caller named an existing target.
    pub target: Option<VolumeTarget>,
    /// Its state.
    pub state: FallbackState,
    /// The boot volume whose operating system has reported `up` last, as [`FallbackSource::key`] names it.
    pub up_volume: Option<String>,
    /// The secret of its fallback.
    pub secret: Option<FallbackSecret>,
    record: Option<Record>,
    node_revision: Revision,
}

impl FallbackSnapshot {
    /// Whether the operating system on the node's boot volume was the last one to report `up`. A report from another volume
    /// says nothing about this one. `false` without a boot target.
    pub fn has_reported_up(&self) -> bool {
        let volume = self.target.as_ref();
        let volume =
            volume.and_then(|target| FallbackSource::of_target(&self.node.storage_interface, target));
        volume.is_some_and(|volume| Some(volume.key()) == self.up_volume)
    }

    /// Adds to a batch that node and state are still those of the snapshot.
    pub(super) fn require_unchanged(&self, batch: Batch) -> Batch {
        let node = self.node.uuid;
        let batch = batch.require_unchanged(record_key::<Node>(node), self.node_revision);
        match &self.record {
            Some(record) => batch.require_unchanged(&record.key, record.revision),
            None => batch.require_absent(state_key(node)),
        }
    }
}

/// A page of the change feed.
#[derive(Debug)]
pub struct FallbackChanges {
    /// The changed states; `None` for a deleted one.
    pub states: Vec<(Uuid, Option<FallbackState>)>,
    /// The revision to continue from.
    pub revision: Revision,
    /// Whether these are all states: the feed did not go back far enough, and names no deleted ones.
    pub is_full_list: bool,
}

impl FallbackRecords {
    /// The records in a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The instances on the store.
    pub fn cluster(&self) -> &dyn Cluster {
        self.store.cluster()
    }

    /// Reads a node, its boot target and its fallback's records, all of one revision. `None`: there is no such node.
    pub async fn read(
        &self,
        node: Uuid,
        target: Option<Uuid>,
    ) -> Result<Option<FallbackSnapshot>, StoreError> {
        let mut keys = vec![record_key::<Node>(node), state_key(node), secret_key(node), up_key(node)];
        keys.extend(target.map(record_key::<VolumeTarget>));
        let mut records = self.store.get(&keys).await?.into_iter();
        let mut next = || records.next().flatten();
        let (Some(node), record, secret, up, target) = (next(), next(), next(), next(), next()) else {
            return Ok(None);
        };
        let state = record.as_ref().map(decode::<FallbackState>).transpose()?;
        let secret = secret.as_ref().map(decode::<Value>).transpose()?;
        Ok(Some(FallbackSnapshot {
            node: decode(&node)?.value,
            target: target.as_ref().map(decode).transpose()?.map(|target| target.value),
            state: state.map(|state| state.value).unwrap_or_default(),
            up_volume: up.as_ref().map(read_up_volume).transpose()?.flatten(),
            secret: secret.and_then(|secret| FallbackSecret::from_record(&secret.value)),
            record,
            node_revision: node.revision,
        }))
    }

    /// Replaces the state of a snapshot. Returns whether it was written: nothing else has changed the state since the
    /// snapshot, and the node exists.
    pub async fn replace(
        &self,
        snapshot: &FallbackSnapshot,
        state: &FallbackState,
    ) -> Result<bool, StoreError> {
        let node = snapshot.node.uuid;
        let Some(guard) = self.read_guard(node).await? else { return Ok(false) };
        let key = state_key(node);
        let batch = Batch::default().require_unchanged(guard_key(node), guard.revision);
        let batch = match &snapshot.record {
            Some(record) => {
                batch.require_unchanged(&key, record.revision).put(&key, encode_update(record, state)?)
            }
            None => batch.require_absent(&key).put(&key, encode(state)?),
        };
        match self.store.write(batch).await {
            Ok(_) => Ok(true),
            Err(WriteError::Conflict(_)) => Ok(false),
            Err(WriteError::Store(error)) => Err(error),
        }
    }

    /// Changes the state of a node that has one. Returns whether it has one.
    pub async fn change(&self, node: Uuid, change: impl Fn(&mut FallbackState)) -> Result<bool, StoreError> {
        let key = state_key(node);
        for _ in 0..ATTEMPTS {
            let Some(record) = self.store.get(std::slice::from_ref(&key)).await?.pop().flatten() else {
                return Ok(false);
            };
            let old: FallbackState = decode(&record)?.value;
            let mut new = old.clone();
            change(&mut new);
            if new == old {
                return Ok(true);
            }
            // No condition on the node: a deleted node has no state.
            let batch = Batch::default().require_unchanged(&key, record.revision);
            match self.store.write(batch.put(&key, encode_update(&record, &new)?)).await {
                Ok(_) => return Ok(true),
                Err(WriteError::Conflict(_)) => {}
                Err(WriteError::Store(error)) => return Err(error),
            }
        }
        Err(StoreError::Unavailable(format!("gave up after {ATTEMPTS} write conflicts")))
    }

    /// Notes that volboot resets the machine of a node: the boot that this ends does not count.
    pub async fn note_reset(&self, node: &Node) -> Result<(), StoreError> {
        if matches!(Fallback::of(node), Ok(None)) {
            return Ok(());
        }
        self.change(node.uuid, |state| state.note_doubt("volboot switched the machine")).await.map(drop)
    }

    /// Notes that the operating system on a boot volume of a node has reported `up`.
    pub async fn note_up(&self, node: Uuid, volume: &FallbackSource) -> Result<(), StoreError> {
        let (key, volume) = (up_key(node), volume.key());
        let known = self.store.get(std::slice::from_ref(&key)).await?.pop().flatten();
        if known.as_ref().map(read_up_volume).transpose()?.flatten().is_some_and(|known| known == volume) {
            return Ok(());
        }
        let Some(guard) = self.read_guard(node).await? else { return Ok(()) };
        let batch = Batch::default().require_unchanged(guard_key(node), guard.revision);
        match self.store.write(batch.put(key, encode(&json!({ "volume": volume }))?)).await {
            // In a conflict the node has changed, and the next report counts.
            Ok(_) | Err(WriteError::Conflict(_)) => Ok(()),
            Err(WriteError::Store(error)) => Err(error),
        }
    }

    /// All states.
    pub async fn list(&self) -> Result<Vec<(Uuid, FallbackState)>, StoreError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(PREFIX, after.as_deref(), PAGE).await?;
            let Some(last) = page.last().map(|record| record.key.clone()) else { return Ok(all) };
            let is_last_page = page.len() < PAGE;
            all.extend(
                page.iter().filter_map(|record| Some((node_of(&record.key)?, decode_or_log(record)?.value))),
            );
            if is_last_page {
                return Ok(all);
            }
            after = Some(last);
        }
    }

    /// Waits for changes after `after`. Of revision 0, and where the feed does not go back far enough, the page has all
    /// states.
    pub async fn wait_for_change(&self, after: Revision) -> Result<FallbackChanges, StoreError> {
        let latest = self.store.wait_for_change(after).await?;
        let changes = match self.store.changes(after, PAGE).await? {
            ChangeSet::Since(changes) if after > 0 => changes,
            ChangeSet::Since(_) => return self.list_as_changes(latest).await,
            ChangeSet::Compacted(revision) => return self.list_as_changes(revision).await,
        };
        let revision = changes.last().map_or(latest, |change| change.revision);
        let mut keys: Vec<_> =
            changes.into_iter().map(|change| change.key).filter(|key| key.starts_with(PREFIX)).collect();
        keys.sort();
        keys.dedup();
        let records = if keys.is_empty() { Vec::new() } else { self.store.get(&keys).await? };
        let states = keys.iter().zip(records).filter_map(|(key, record)| {
            let state = record.as_ref().and_then(decode_or_log).map(|state| state.value);
            Some((node_of(key)?, state))
        });
        Ok(FallbackChanges { states: states.collect(), revision, is_full_list: false })
    }

    async fn list_as_changes(&self, revision: Revision) -> Result<FallbackChanges, StoreError> {
        let states = self.list().await?.into_iter().map(|(node, state)| (node, Some(state))).collect();
        Ok(FallbackChanges { states, revision, is_full_list: true })
    }

    async fn read_guard(&self, node: Uuid) -> Result<Option<Record>, StoreError> {
        Ok(self.store.get(&[guard_key(node)]).await?.pop().flatten())
    }
}

/// Adds to a batch that a node's records end: with the node, or with the fallback's deployment.
pub(super) fn remove_all(batch: Batch, node: Uuid) -> Batch {
    batch.delete(state_key(node)).delete(secret_key(node)).delete(up_key(node))
}

/// Adds to a batch that the count and the fallback in force end.
pub(super) fn remove_state(batch: Batch, node: Uuid) -> Batch {
    batch.delete(state_key(node))
}

pub(super) fn state_key(node: Uuid) -> String {
    format!("{PREFIX}{node}")
}

pub(super) fn secret_key(node: Uuid) -> String {
    format!("fallback-secret/{node}")
}

fn up_key(node: Uuid) -> String {
    format!("reported-up/{node}")
}

/// Reads the volume of a record of a report `up`.
fn read_up_volume(record: &Record) -> Result<Option<String>, StoreError> {
    let up = decode::<Value>(record)?.value;
    Ok(up.get("volume").and_then(Value::as_str).map(str::to_owned))
}

fn node_of(key: &str) -> Option<Uuid> {
    key.strip_prefix(PREFIX)?.parse().ok()
}

/// Decodes a record of a list, in which one damaged record must not block the others.
fn decode_or_log(record: &Record) -> Option<Versioned<FallbackState>> {
    decode(record).inspect_err(|error| tracing::error!(%error, "fallback record skipped")).ok()
}
