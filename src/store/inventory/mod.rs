//! [`Inventory`]: typed records over a [`Store`], with their uniqueness rules and lists.
//!
//! For every record there are, in one batch: the record itself, one place-holder per [`Unique`], and its places in
//! lists. Creating a record that belongs to a node also touches that node's *guard*, so that a node cannot be
//! deleted in the moment in which it gets something.
//!
//! Who loses a race reads again and tries again; so a change is given as a function from the present record to
//! the next, and may be asked more than once.

mod enrol;
mod write;

pub(in crate::store) use write::guard_key;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

pub use enrol::Enrolment;

use super::resource::{Resource, Unique, Versioned};
use super::{Record, Store, StoreError};
use crate::model::{Mac, Port};

/// Records that are read at once where all of a node's are wanted: hardly ever are there more.
const PAGE: usize = 100;

/// The records of the house. Cheap to clone: every clone speaks to the same store.
#[derive(Clone)]
pub struct Inventory {
    store: Arc<dyn Store>,
}

/// A record could not be created.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InventoryError {
    /// Another has what only one may have.
    #[error("another has {0}")]
    Duplicate(Unique),
    /// The node it should belong to does not exist.
    #[error("there is no node {0}")]
    NoNode(Uuid),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A record could not be changed or deleted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpdateError<E> {
    /// There is none.
    #[error("there is no such record")]
    NotFound,
    /// The function that was to make the change refused it.
    #[error("the change was refused")]
    Refused(E),
    /// As when creating one.
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

    /// The record with a UUID.
    pub async fn get<R: Resource>(&self, uuid: Uuid) -> Result<Option<Versioned<R>>, StoreError> {
        let found = self.store.get(&[record_key::<R>(uuid)]).await?;
        found.into_iter().flatten().next().map(decode).transpose()
    }

    /// The record that has something nobody else has.
    pub async fn find<R: Resource>(&self, unique: &Unique) -> Result<Option<Versioned<R>>, StoreError> {
        Ok(self.find_all(std::slice::from_ref(unique)).await?.pop())
    }

    /// The ports that have one of these MAC addresses: two reads, however many nodes there are.
    pub async fn ports(&self, addresses: &[Mac]) -> Result<Vec<Port>, StoreError> {
        let uniques: Vec<_> = addresses.iter().copied().map(Unique::Address).collect();
        Ok(self.find_all(&uniques).await?.into_iter().map(|port| port.value).collect())
    }

    async fn find_all<R: Resource>(&self, uniques: &[Unique]) -> Result<Vec<Versioned<R>>, StoreError> {
        let keys: Vec<_> = uniques.iter().map(Unique::key).collect();
        let holders = self.store.get(&keys).await?;
        let records = holders.into_iter().flatten().map(|holder| Ok(record_key::<R>(uuid_in(&holder)?)));
        let records = records.collect::<Result<Vec<_>, StoreError>>()?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.store.get(&records).await?.into_iter().flatten().map(decode).collect()
    }

    /// At most `limit` records from the oldest on, behind `after`, which need not exist any more. Fewer only where
    /// there are no more.
    pub async fn list<R: Resource>(
        &self,
        after: Option<&R>,
        limit: usize,
    ) -> Result<Vec<Versioned<R>>, StoreError> {
        self.page(None, after, limit).await
    }

    /// The same, of one node's records.
    pub async fn list_of<R: Resource>(
        &self,
        node: Uuid,
        after: Option<&R>,
        limit: usize,
    ) -> Result<Vec<Versioned<R>>, StoreError> {
        self.page(Some(node), after, limit).await
    }

    /// All of one node's records, the oldest first.
    pub async fn all_of<R: Resource>(&self, node: Uuid) -> Result<Vec<R>, StoreError> {
        Ok(self.versions_of(node).await?.into_iter().map(|record| record.value).collect())
    }

    /// The same, with the writes they come from.
    async fn versions_of<R: Resource>(&self, node: Uuid) -> Result<Vec<Versioned<R>>, StoreError> {
        let mut all: Vec<Versioned<R>> = Vec::new();
        loop {
            let page = self.list_of(node, all.last().map(|record| &record.value), PAGE).await?;
            let complete = page.len() < PAGE;
            all.extend(page);
            if complete {
                return Ok(all);
            }
        }
    }

    async fn page<R: Resource>(
        &self,
        of: Option<Uuid>,
        after: Option<&R>,
        limit: usize,
    ) -> Result<Vec<Versioned<R>>, StoreError> {
        let prefix = of.map_or_else(list_prefix::<R>, node_prefix::<R>);
        let mut after = after.map(|record| format!("{prefix}{}", record.place()));
        let mut found: Vec<Versioned<R>> = Vec::new();
        while found.len() < limit {
            let wanted = limit - found.len();
            let places = self.store.list(&prefix, after.as_deref(), wanted).await?;
            let Some(last) = places.last() else { break };
            let keys = places.iter().map(|place| Ok(record_key::<R>(uuid_in(place)?)));
            let keys = keys.collect::<Result<Vec<_>, StoreError>>()?;
            for record in self.store.get(&keys).await?.into_iter().flatten() {
                let record: Versioned<R> = decode(record)?;
                // What was deleted between the two reads is missing, what was moved is another node's by now.
                if of.is_none_or(|node| record.value.node() == Some(node)) {
                    found.push(record);
                }
            }
            if places.len() < wanted {
                break;
            }
            after = Some(last.key.clone());
        }
        Ok(found)
    }
}

/// Where a record stands.
pub(in crate::store) fn record_key<R: Resource>(uuid: Uuid) -> String {
    Unique::Uuid(R::KIND, uuid).key()
}

/// Where the places of all records of a kind begin.
fn list_prefix<R: Resource>() -> String {
    format!("{}-list/", R::KIND.prefix())
}

/// Where the places of one node's records of a kind begin.
fn node_prefix<R: Resource>(node: Uuid) -> String {
    format!("{}-of/{node}/", R::KIND.prefix())
}

fn decode<R: Resource>(record: Record) -> Result<Versioned<R>, StoreError> {
    match serde_json::from_slice(&record.value) {
        Ok(value) => Ok(Versioned { value, revision: record.revision }),
        Err(error) => Err(StoreError::Damaged(format!("{}: {error}", record.key))),
    }
}

/// The UUID that a place-holder points to.
fn uuid_in(record: &Record) -> Result<Uuid, StoreError> {
    Uuid::from_slice(&record.value).map_err(|error| StoreError::Damaged(format!("{}: {error}", record.key)))
}
