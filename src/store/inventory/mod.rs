//! [`Inventory`]: typed records over a [`Store`], with uniqueness rules and lists.
//!
//! One batch holds a record and all its index entries: one per [`UniqueKey`], and its positions in lists. A new
//! record of a node also changes the node's *guard*, so a concurrent deletion of the node conflicts.
//!
//! Updates use optimistic concurrency: after a write conflict, the inventory reads again and retries. So a change is
//! a function from the present record to the next, and may be called more than once.

mod allocations;
mod boot_once;
mod boot_windows;
mod claimed;
mod enroll;
mod fallback;
mod port_feed;
mod rolling_upgrade;
mod write;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::task::coop::unconstrained;
use uuid::Uuid;

pub use boot_windows::WindowChange;
pub use claimed::ClaimedInventory;
pub use enroll::Enrollment;
pub use fallback::FallbackBasis;
pub use port_feed::PortAddressChanges;

use super::encoding::{Versioned, decode};
use super::keys::{list_prefix, node_prefix, record_key};
use super::resource::{Resource, UniqueKey};
use super::{Cluster, Freshness, Record, Revision, SharedStatus, Store, StoreAccess, StoreError, StoreInfo};
use crate::model::{Mac, Port};

/// Records per read when listing all of a node's records, which rarely exceed one page.
const PAGE: usize = 100;

/// Typed records over a store. Cheap to clone: all clones share the store.
#[derive(Clone)]
pub struct Inventory {
    store: Arc<dyn Store>,
}

/// A record cannot be created.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InventoryError {
    /// Another record already has this unique value.
    #[error("another record has {0}")]
    Duplicate(UniqueKey),
    /// The record's node does not exist.
    #[error("there is no node {0}")]
    NodeNotFound(Uuid),
    /// The claim that the write required has ended. Nothing was written.
    #[error("the claim on {0} has ended")]
    ClaimEnded(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A record cannot be changed or deleted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpdateError<E> {
    /// The record does not exist.
    #[error("there is no such record")]
    NotFound,
    /// The caller's function refused the change.
    #[error("the change was refused")]
    Refused(E),
    /// As for the creation of a record.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
}

impl<E> From<StoreError> for UpdateError<E> {
    fn from(error: StoreError) -> Self {
        Self::Inventory(error.into())
    }
}

impl fmt::Debug for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inventory")
    }
}

impl Inventory {
    /// The records in a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The instances on the store, and their claims.
    pub fn cluster(&self) -> &dyn Cluster {
        self.store.cluster()
    }

    /// Reads the store's place and size.
    pub async fn store_info(&self) -> Result<StoreInfo, StoreError> {
        self.store.info().await
    }

    /// The records as last known while the shared store does not respond. Nothing can be written.
    #[must_use]
    pub fn last_known(&self) -> Self {
        Self::new(Arc::clone(&self.store).last_known())
    }

    /// The records for the reads of one request: each shows at least what was written before this call. A shared store
    /// is asked once here, and not at each read. Nothing can be written.
    pub async fn settle(&self) -> Result<Self, StoreError> {
        // A read waits until the local mirror shows all earlier writes, also one without a key.
        self.store.get(&[]).await?;
        Ok(self.last_known())
    }

    /// Whether reads show the present.
    pub fn freshness(&self) -> Freshness {
        self.store.freshness()
    }

    /// Whether the store accepts writes at present.
    pub fn store_access(&self) -> StoreAccess {
        self.store.access()
    }

    /// The state of the shared store; `None`: the store is a local one.
    pub fn shared_status(&self) -> Option<SharedStatus> {
        self.store.shared_status()
    }

    /// The latest revision if there was a write after `after`. Does not wait.
    pub fn revision_after(&self, after: Revision) -> Option<Revision> {
        // Otherwise a task that has used up its budget would see no change.
        unconstrained(self.store.wait_for_change(after)).now_or_never()?.ok()
    }

    /// Waits for a write after `after`; returns the latest revision.
    pub async fn wait_for_change(&self, after: Revision) -> Result<Revision, StoreError> {
        self.store.wait_for_change(after).await
    }

    /// The record with a UUID.
    pub async fn get<R: Resource>(&self, uuid: Uuid) -> Result<Option<Versioned<R>>, StoreError> {
        let records = self.store.get(&[record_key::<R>(uuid)]).await?;
        records.iter().flatten().next().map(decode).transpose()
    }

    /// The records with these UUIDs, in one read. UUIDs without a record are skipped.
    pub async fn get_all<R: Resource>(
        &self,
        uuids: impl IntoIterator<Item = Uuid>,
    ) -> Result<Vec<R>, StoreError> {
        let keys: Vec<_> = uuids.into_iter().map(record_key::<R>).collect();
        let records = self.store.get(&keys).await?.into_iter().flatten();
        records.map(|record| Ok(decode::<R>(&record)?.value)).collect()
    }

    /// Finds the record with a unique value.
    pub async fn find<R: Resource>(&self, key: &UniqueKey) -> Result<Option<Versioned<R>>, StoreError> {
        Ok(self.find_all(std::slice::from_ref(key)).await?.pop())
    }

    /// Finds the ports with these MAC addresses, in two reads regardless of the number of nodes.
    pub async fn find_ports(&self, addresses: &[Mac]) -> Result<Vec<Port>, StoreError> {
        let keys: Vec<_> = addresses.iter().copied().map(UniqueKey::Address).collect();
        Ok(self.find_all(&keys).await?.into_iter().map(|port| port.value).collect())
    }

    async fn find_all<R: Resource>(&self, keys: &[UniqueKey]) -> Result<Vec<Versioned<R>>, StoreError> {
        let keys: Vec<_> = keys.iter().map(UniqueKey::key).collect();
        let entries = self.store.get(&keys).await?;
        let records = entries.into_iter().flatten().map(|entry| Ok(record_key::<R>(decode_uuid(&entry)?)));
        let records = records.collect::<Result<Vec<_>, StoreError>>()?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.store.get(&records).await?.iter().flatten().map(decode).collect()
    }

    /// Lists `limit` records behind `after`, oldest first; fewer only at the end of the list. `after` may be deleted
    /// by now.
    pub async fn list<R: Resource>(
        &self,
        after: Option<&R>,
        limit: usize,
    ) -> Result<Vec<Versioned<R>>, StoreError> {
        self.read_page(None, after, limit).await
    }

    /// Lists one node's records, like [`Inventory::list`].
    pub async fn list_of<R: Resource>(
        &self,
        node: Uuid,
        after: Option<&R>,
        limit: usize,
    ) -> Result<Vec<Versioned<R>>, StoreError> {
        self.read_page(Some(node), after, limit).await
    }

    /// Lists all of one node's records, oldest first.
    pub async fn list_all_of<R: Resource>(&self, node: Uuid) -> Result<Vec<R>, StoreError> {
        Ok(self.list_versioned_of(node).await?.into_iter().map(|record| record.value).collect())
    }

    /// Lists all of one node's records with their revisions, oldest first.
    async fn list_versioned_of<R: Resource>(&self, node: Uuid) -> Result<Vec<Versioned<R>>, StoreError> {
        let mut all: Vec<Versioned<R>> = Vec::new();
        loop {
            let page = self.list_of(node, all.last().map(|record| &record.value), PAGE).await?;
            let is_last_page = page.len() < PAGE;
            all.extend(page);
            if is_last_page {
                return Ok(all);
            }
        }
    }

    async fn read_page<R: Resource>(
        &self,
        node: Option<Uuid>,
        after: Option<&R>,
        limit: usize,
    ) -> Result<Vec<Versioned<R>>, StoreError> {
        let prefix = node.map_or_else(list_prefix::<R>, node_prefix::<R>);
        let mut after = after.map(|record| format!("{prefix}{}", record.sort_key()));
        let mut records: Vec<Versioned<R>> = Vec::new();
        while records.len() < limit {
            let missing = limit - records.len();
            let entries = self.store.list(&prefix, after.as_deref(), missing).await?;
            let Some(last) = entries.last() else { break };
            let keys = entries.iter().map(|entry| Ok(record_key::<R>(decode_uuid(entry)?)));
            let keys = keys.collect::<Result<Vec<_>, StoreError>>()?;
            for record in self.store.get(&keys).await?.iter().flatten() {
                let record: Versioned<R> = decode(record)?;
                // Between the two reads, a record may have been deleted or moved to another node.
                if node.is_none_or(|node| record.value.node() == Some(node)) {
                    records.push(record);
                }
            }
            if entries.len() < missing {
                break;
            }
            after = Some(last.key.clone());
        }
        Ok(records)
    }
}

/// Decodes an index entry: the UUID of a record.
fn decode_uuid(record: &Record) -> Result<Uuid, StoreError> {
    Uuid::from_slice(&record.value).map_err(|error| StoreError::Damaged(format!("{}: {error}", record.key)))
}
