//! [`VolumeIndex`]: the nodes that have an attachment of a volume.
//!
//! The records' keys begin with the node. The index by volume is in memory, and follows the change feed: each look-up first reads
//! the changes since the last one. So it shows the present as the records themselves do, needs no keys in the store, and
//! costs no read of all attachments, except at the first look-up and after a gap in the feed.

use std::collections::HashMap;

use futures_util::FutureExt;
use tokio::sync::Mutex;
use tokio::task::coop::unconstrained;
use uuid::Uuid;

use super::attachment_keys::{PREFIX, parse_key};
use super::{ChangeSet, Revision, Store, StoreError};

/// Records or changes per read.
const PAGE: usize = 1000;

/// The index of the attachments by volume.
#[derive(Debug, Default)]
pub(super) struct VolumeIndex(Mutex<Option<IndexedVolumes>>);

/// The index as of one revision.
#[derive(Debug)]
struct IndexedVolumes {
    revision: Revision,
    nodes: HashMap<String, Vec<Uuid>>,
}

impl VolumeIndex {
    /// The nodes with an attachment of the volume.
    pub(super) async fn find(&self, store: &dyn Store, volume: &str) -> Result<Vec<Uuid>, StoreError> {
        let mut index = self.0.lock().await;
        let index = match &mut *index {
            Some(index) => index,
            empty => empty.insert(IndexedVolumes::read(store, latest_revision(store)).await?),
        };
        index.follow(store).await?;
        Ok(index.nodes.get(volume).cloned().unwrap_or_default())
    }
}

impl IndexedVolumes {
    /// Reads the keys of all attachments, of this revision or later ones.
    async fn read(store: &dyn Store, revision: Revision) -> Result<Self, StoreError> {
        let mut index = Self { revision, nodes: HashMap::new() };
        let mut after: Option<String> = None;
        loop {
            let page = store.list(PREFIX, after.as_deref(), PAGE).await?;
            for record in &page {
                index.note(&record.key, true);
            }
            match page.into_iter().nth(PAGE - 1) {
                Some(last) => after = Some(last.key),
                None => return Ok(index),
            }
        }
    }

    /// Takes over all changes up to the present.
    async fn follow(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        loop {
            let changes = match store.changes(self.revision, PAGE).await? {
                ChangeSet::Since(changes) => changes,
                ChangeSet::Compacted(revision) => {
                    *self = Self::read(store, revision).await?;
                    continue;
                }
            };
            let Some(last) = changes.last().map(|change| change.revision) else { return Ok(()) };
            let keys: Vec<_> =
                changes.into_iter().map(|change| change.key).filter(|key| key.starts_with(PREFIX)).collect();
            let records = if keys.is_empty() { Vec::new() } else { store.get(&keys).await? };
            for (key, record) in keys.iter().zip(records) {
                self.note(key, record.is_some());
            }
            self.revision = last;
        }
    }

    /// Notes whether an attachment exists.
    fn note(&mut self, key: &str, exists: bool) {
        let Some((node, volume)) = parse_key(key) else { return };
        if exists {
            let nodes = self.nodes.entry(volume.to_owned()).or_default();
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        } else if let Some(nodes) = self.nodes.get_mut(volume) {
            nodes.retain(|known| *known != node);
            if nodes.is_empty() {
                self.nodes.remove(volume);
            }
        }
    }
}

/// A revision that is not later than the records that are read next. Does not wait for a write.
fn latest_revision(store: &dyn Store) -> Revision {
    // Otherwise a task that has used up its budget would begin at the first write.
    unconstrained(store.wait_for_change(0)).now_or_never().and_then(Result::ok).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::attachment_keys::key;
    use crate::store::{Batch, MemoryStore};

    const NODES: [Uuid; 2] = [Uuid::from_u128(1), Uuid::from_u128(2)];

    async fn find(index: &VolumeIndex, store: &MemoryStore, volume: &str) -> Vec<Uuid> {
        let mut nodes = index.find(store, volume).await.expect("reads");
        nodes.sort();
        nodes
    }

    #[tokio::test]
    async fn the_index_follows_the_records() {
        let (store, index) = (MemoryStore::default(), VolumeIndex::default());
        assert!(find(&index, &store, "v").await.is_empty());
        let batch = NODES.iter().fold(Batch::default(), |batch, node| batch.put(key(*node, "v"), "1"));
        store.write(batch.put(key(NODES[0], "w/1"), "1").put("node/1", "1")).await.expect("writes");
        assert_eq!(find(&index, &store, "v").await, NODES);
        assert_eq!(find(&index, &store, "w/1").await, [NODES[0]]);
        // A changed record, and one that is gone.
        store.write(Batch::default().put(key(NODES[0], "v"), "2")).await.expect("writes");
        store.write(Batch::default().delete(key(NODES[1], "v"))).await.expect("writes");
        assert_eq!(find(&index, &store, "v").await, [NODES[0]]);
        // A later index, and the first one after a gap in the feed.
        for n in 0..=crate::store::local::RETAINED_WRITES {
            store.write(Batch::default().put("other", n.to_string())).await.expect("writes");
        }
        store
            .write(Batch::default().delete(key(NODES[0], "v")).put(key(NODES[1], "x"), "1"))
            .await
            .expect("writes");
        for index in [&index, &VolumeIndex::default()] {
            assert!(find(index, &store, "v").await.is_empty());
            assert_eq!(find(index, &store, "x").await, [NODES[1]]);
        }
    }
}
