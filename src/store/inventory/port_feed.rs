//! The change feed of the ports' MAC addresses: for a copy in memory, by which machines without a node cost no read.

use super::Inventory;
use crate::model::Mac;
use crate::store::{ChangeSet, Freshness, Record, Revision, StoreError};

/// The prefix of the index of ports by MAC address.
const PREFIX: &str = "port-address/";
/// Records or changes of one read.
const PAGE: usize = 1000;

/// A page of the change feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortAddressChanges {
    /// Addresses that have a port.
    pub present: Vec<Mac>,
    /// Addresses that have none any more.
    pub absent: Vec<Mac>,
    /// The revision to continue from.
    pub revision: Revision,
    /// Whether `present` has all addresses: the feed did not go back far enough.
    pub is_full_list: bool,
}

impl Inventory {
    /// The MAC addresses of all ports.
    pub async fn list_port_addresses(&self) -> Result<PortAddressChanges, StoreError> {
        // Read before the list: what is written meanwhile is a change after it.
        let revision = self.revision_after(0).unwrap_or(0);
        self.list_port_addresses_at(revision).await
    }

    async fn list_port_addresses_at(&self, revision: Revision) -> Result<PortAddressChanges, StoreError> {
        let mut present = Vec::new();
        let mut last: Option<String> = None;
        loop {
            let page = self.store.list(PREFIX, last.as_deref(), PAGE).await?;
            present.extend(page.iter().filter_map(|record| parse_key(&record.key)));
            if page.len() < PAGE {
                return Ok(PortAddressChanges { present, absent: Vec::new(), revision, is_full_list: true });
            }
            last = page.into_iter().next_back().map(|Record { key, .. }| key);
        }
    }

    /// Waits for a write after `after`, and returns what it changed.
    pub async fn wait_for_port_addresses(&self, after: Revision) -> Result<PortAddressChanges, StoreError> {
        let latest = self.store.wait_for_change(after).await?;
        let changes = match self.store.changes(after, PAGE).await? {
            ChangeSet::Compacted(revision) => return self.list_port_addresses_at(revision).await,
            ChangeSet::Since(changes) => changes,
        };
        let revision = changes.last().map_or(latest, |change| change.revision);
        let mut keys: Vec<_> =
            changes.into_iter().map(|change| change.key).filter(|key| key.starts_with(PREFIX)).collect();
        keys.sort();
        keys.dedup();
        let (mut present, mut absent) = (Vec::new(), Vec::new());
        if !keys.is_empty() {
            for (key, record) in keys.iter().zip(self.store.get(&keys).await?) {
                let list = if record.is_some() { &mut present } else { &mut absent };
                list.extend(parse_key(key));
            }
        }
        Ok(PortAddressChanges { present, absent, revision, is_full_list: false })
    }

    /// Whether a copy of this revision shows the present. Does not wait.
    pub fn is_current(&self, revision: Revision) -> bool {
        self.store.freshness() == Freshness::Fresh && self.revision_after(revision).is_none()
    }
}

fn parse_key(key: &str) -> Option<Mac> {
    key.strip_prefix(PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::model::{Node, Port, StorageInterface};
    use crate::store::{MemoryStore, UniqueKey};

    const CARD: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    #[tokio::test]
    async fn addresses_follow_the_ports() {
        assert_eq!(parse_key(&UniqueKey::Address(CARD).key()), Some(CARD), "the key of the index");
        let inventory = Inventory::new(Arc::new(MemoryStore::default()));
        let empty = inventory.list_port_addresses().await.expect("lists");
        assert!(empty.present.is_empty() && empty.is_full_list && inventory.is_current(empty.revision));

        let now = Timestamp::UNIX_EPOCH;
        let node = Node::new(Uuid::new_v4(), "fake-hardware", StorageInterface::External, now);
        inventory.create(&node).await.expect("creates");
        let port = Port::new(Uuid::new_v4(), node.uuid, CARD, now);
        inventory.create(&port).await.expect("creates");
        assert!(!inventory.is_current(empty.revision));
        let changes = inventory.wait_for_port_addresses(empty.revision).await.expect("reads");
        assert_eq!((changes.present.as_slice(), changes.absent.as_slice()), (&[CARD][..], &[][..]));
        assert!(!changes.is_full_list && inventory.is_current(changes.revision));
        let full = inventory.list_port_addresses().await.expect("lists");
        assert_eq!((full.present, full.revision), (vec![CARD], changes.revision));

        inventory.delete::<Port, ()>(port.uuid, |_, _| Ok(())).await.expect("deletes");
        let changes = inventory.wait_for_port_addresses(changes.revision).await.expect("reads");
        assert_eq!((changes.present, changes.absent), (Vec::new(), vec![CARD]));
    }
}
