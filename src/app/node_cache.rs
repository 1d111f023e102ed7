//! [`NodeCache`]: the nodes of the machines that sent DHCP requests a moment ago.
//!
//! A boot has several requests within a second, and each would read three records. An entry holds until the next write to
//! the store, and for a second at most.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::model::{DhcpAnswer, Mac};
use crate::store::{Inventory, Revision};

const MAX_AGE: Duration = Duration::from_secs(1);
/// Most entries: a full cache starts anew.
const MAX_MACHINES: usize = 4096;

/// A machine's node with its name, and the reason why the machine gets no answer.
pub(super) type FoundNode = (Option<(Uuid, Option<String>)>, Option<DhcpAnswer>);

/// The cache of one configuration. Clones share their entries.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeCache(Arc<Mutex<CachedNodes>>);

#[derive(Debug, Default)]
struct CachedNodes {
    /// The store's last known revision.
    revision: Revision,
    by_machine: HashMap<Mac, (Instant, FoundNode)>,
}

impl NodeCache {
    /// Returns the entry of a machine, or the revision for [`NodeCache::insert`].
    pub(super) fn find(&self, inventory: &Inventory, mac: Mac, now: Instant) -> Result<FoundNode, Revision> {
        let mut entries = self.0.lock();
        entries.follow(inventory);
        entries.fresh(mac, now).cloned().ok_or(entries.revision)
    }

    /// Adds an entry that was read after [`NodeCache::find`].
    pub(super) fn insert(&self, mac: Mac, found: FoundNode, revision: Revision, now: Instant) {
        let mut entries = self.0.lock();
        if entries.revision != revision {
            return;
        }
        if entries.by_machine.len() >= MAX_MACHINES {
            entries.by_machine.clear();
        }
        entries.by_machine.insert(mac, (now, found));
    }
}

impl CachedNodes {
    /// Drops all entries after a write to the store.
    fn follow(&mut self, inventory: &Inventory) {
        if let Some(revision) = inventory.revision_after(self.revision) {
            self.revision = revision;
            self.by_machine.clear();
        }
    }

    fn fresh(&self, mac: Mac, now: Instant) -> Option<&FoundNode> {
        let (read_at, found) = self.by_machine.get(&mac)?;
        (now.saturating_duration_since(*read_at) < MAX_AGE).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{Node, StorageInterface};
    use crate::store::MemoryStore;

    const CARD: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    fn found(name: &str) -> FoundNode {
        (Some((Uuid::nil(), Some(name.to_owned()))), None)
    }

    async fn write(inventory: &Inventory) {
        let now = Timestamp::UNIX_EPOCH;
        let node = Node::new(Uuid::new_v4(), "fake-hardware", StorageInterface::External, now);
        inventory.create(&node).await.expect("writes");
    }

    #[tokio::test]
    async fn entry_holds_for_a_second_and_until_the_next_write() {
        let inventory = Inventory::new(Arc::new(MemoryStore::default()));
        write(&inventory).await;
        let (cache, now) = (NodeCache::default(), Instant::now());
        let revision = cache.find(&inventory, CARD, now).expect_err("the cache is empty");
        cache.insert(CARD, found("web-1"), revision, now);
        let fresh = now + MAX_AGE.saturating_sub(Duration::from_millis(1));
        assert_eq!(cache.find(&inventory, CARD, fresh), Ok(found("web-1")));
        assert_eq!(cache.find(&inventory, CARD, now + MAX_AGE), Err(revision));

        // A write between the read of a node and its entry: the entry may be old.
        write(&inventory).await;
        let next = cache.find(&inventory, CARD, now).expect_err("the entry is old");
        assert!(next > revision);
        cache.insert(CARD, found("web-1"), revision, now);
        assert_eq!(cache.find(&inventory, CARD, now), Err(next));
    }

    #[test]
    fn entries_are_bounded() {
        let (cache, now) = (NodeCache::default(), Instant::now());
        for number in 0..3 * MAX_MACHINES as u32 {
            let [a, b, c, d] = number.to_be_bytes();
            cache.insert(Mac::new([2, 0, a, b, c, d]), (None, None), 0, now);
        }
        assert!(cache.0.lock().by_machine.len() <= MAX_MACHINES);
    }
}
