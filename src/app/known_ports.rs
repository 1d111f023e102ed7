//! [`KnownPorts`]: the MAC addresses of all ports, in memory.
//!
//! A network with other network-boot clients has many machines without a node. Their DHCP requests cost no read of the store.
//! The copy follows the change feed. While it is behind, it says nothing, and the store is read.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use crate::model::Mac;
use crate::store::{Inventory, PortAddressChanges, Revision, StoreError};

/// Most addresses, about 3 MB. With more ports, the store is read for each machine.
const MAX_ADDRESSES: usize = 200_000;
/// The pause after a failed read.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The addresses. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownPorts(Arc<RwLock<KnownAddresses>>);

#[derive(Debug, Default)]
struct KnownAddresses {
    /// `None` until all are known.
    revision: Option<Revision>,
    addresses: HashSet<Mac>,
}

impl KnownPorts {
    /// Whether certainly no port has this address.
    pub(super) fn lacks(&self, inventory: &Inventory, mac: Mac) -> bool {
        let known = self.0.read();
        let Some(revision) = known.revision else { return false };
        !known.addresses.contains(&mac) && inventory.is_current(revision)
    }

    /// Follows the changes of the ports.
    pub(super) async fn follow(self, inventory: Inventory) -> Infallible {
        loop {
            let Err(error) = self.follow_until_error(&inventory).await;
            tracing::debug!(%error, "cannot follow the changes of the ports");
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    async fn follow_until_error(&self, inventory: &Inventory) -> Result<Infallible, StoreError> {
        let mut changes = inventory.list_port_addresses().await?;
        loop {
            let revision = changes.revision;
            self.apply(changes);
            changes = inventory.wait_for_port_addresses(revision).await?;
        }
    }

    fn apply(&self, changes: PortAddressChanges) {
        let mut known = self.0.write();
        if changes.is_full_list {
            known.addresses.clear();
        }
        for mac in &changes.absent {
            known.addresses.remove(mac);
        }
        known.addresses.extend(changes.present);
        let is_within_bounds = known.addresses.len() <= MAX_ADDRESSES;
        if !is_within_bounds {
            known.addresses = HashSet::new();
        }
        // After too many, the list may be complete again only as a whole.
        let is_complete = changes.is_full_list || known.revision.is_some();
        known.revision = Some(changes.revision).filter(|_| is_complete && is_within_bounds);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::model::{Node, Port, StorageInterface};
    use crate::store::MemoryStore;

    const CARD: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac::new([2, 0, 0, 0, 0, 2]);

    #[tokio::test]
    async fn copy_that_is_behind_says_nothing() {
        let inventory = Inventory::new(Arc::new(MemoryStore::default()));
        let known = KnownPorts::default();
        assert!(!known.lacks(&inventory, CARD), "nothing is known yet");
        known.apply(inventory.list_port_addresses().await.expect("lists"));
        assert!(known.lacks(&inventory, CARD));

        let now = Timestamp::UNIX_EPOCH;
        let node = Node::new(Uuid::new_v4(), "fake-hardware", StorageInterface::External, now);
        inventory.create(&node).await.expect("creates");
        assert!(!known.lacks(&inventory, CARD), "after a write, the port may exist");
        inventory.create(&Port::new(Uuid::new_v4(), node.uuid, CARD, now)).await.expect("creates");
        let revision = known.0.read().revision.expect("a revision");
        known.apply(inventory.wait_for_port_addresses(revision).await.expect("reads"));
        assert!(!known.lacks(&inventory, CARD) && known.lacks(&inventory, OTHER));
    }

    #[tokio::test]
    async fn changes_are_followed() {
        let inventory = Inventory::new(Arc::new(MemoryStore::default()));
        let known = KnownPorts::default();
        let follower = tokio::spawn(known.clone().follow(inventory.clone()));
        let now = Timestamp::UNIX_EPOCH;
        let node = Node::new(Uuid::new_v4(), "fake-hardware", StorageInterface::External, now);
        inventory.create(&node).await.expect("creates");
        inventory.create(&Port::new(Uuid::new_v4(), node.uuid, CARD, now)).await.expect("creates");
        while !known.lacks(&inventory, OTHER) {
            tokio::task::yield_now().await;
        }
        assert!(!known.lacks(&inventory, CARD));
        follower.abort();
    }

    #[tokio::test]
    async fn addresses_are_bounded() {
        let inventory = Inventory::new(Arc::new(MemoryStore::default()));
        let known = KnownPorts::default();
        let number = |number: u32| {
            let [a, b, c, d] = number.to_be_bytes();
            Mac::new([2, 0, a, b, c, d])
        };
        let page = |present, is_full_list| PortAddressChanges {
            present,
            absent: Vec::new(),
            revision: 0,
            is_full_list,
        };
        known.apply(page((0..MAX_ADDRESSES as u32).map(number).collect(), true));
        assert!(known.lacks(&inventory, number(MAX_ADDRESSES as u32)));
        known.apply(page(vec![number(MAX_ADDRESSES as u32)], false));
        assert!(!known.lacks(&inventory, OTHER) && known.0.read().addresses.capacity() == 0);
        known.apply(page(vec![CARD], false));
        assert!(!known.lacks(&inventory, OTHER), "only a full list is complete again");
    }
}
