//! [`Store`]: the contract that every place for records fulfils.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The number of a write. It grows with every write to the store, whatever it wrote.
pub type Revision = u64;

/// A future of a store's answer. Boxed, so that a store can be used as `dyn Store`.
pub type Answering<'a, T, E = StoreError> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// One record: bytes under a key, and the write they come from.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: String,
    /// The revision of the write that put it there.
    pub revision: Revision,
    /// Its content.
    pub value: Vec<u8>,
}

impl fmt::Debug for Record {
    /// Leaves the value out: it may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} ({} bytes)", self.key, self.revision, self.value.len())
    }
}

/// What must hold for a batch to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The record under the key is the one of this revision.
    Unchanged(String, Revision),
    /// There is no record under the key.
    Absent(String),
}

impl Condition {
    /// The key it speaks of.
    pub fn key(&self) -> &str {
        match self {
            Self::Unchanged(key, _) | Self::Absent(key) => key,
        }
    }
}

/// Conditions and writes that belong together: applied whole, or not at all.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// All must hold, on the state before the batch.
    pub conditions: Vec<Condition>,
    /// Keys that go. One that is not there is no error. Applied before `put`.
    pub delete: Vec<String>,
    /// Records that come, or take the place of those under their keys.
    pub put: Vec<(String, Vec<u8>)>,
}

impl Batch {
    /// Requires that the record is still the one of this revision.
    pub fn unchanged(mut self, key: impl Into<String>, revision: Revision) -> Self {
        self.conditions.push(Condition::Unchanged(key.into(), revision));
        self
    }

    /// Requires that there is no such record.
    pub fn absent(mut self, key: impl Into<String>) -> Self {
        self.conditions.push(Condition::Absent(key.into()));
        self
    }

    /// Puts a record.
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.put.push((key.into(), value.into()));
        self
    }

    /// Deletes a record.
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.delete.push(key.into());
        self
    }
}

/// What one write did to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The write.
    pub revision: Revision,
    /// The key it put or deleted.
    pub key: String,
}

/// An answer of the change feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// What changed since, oldest first; if the limit cut it, always behind a whole write.
    Since(Vec<Change>),
    /// So much has changed since that it is not kept any more: list anew, then go on from this revision.
    Forgotten(Revision),
}

/// Who has taken on some work, and until when others leave it alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Who holds it: one name per process.
    pub holder: String,
    /// When it ends if the holder does not renew it.
    pub expires: Timestamp,
}

/// The store could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or its disk does not.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// What it holds is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// A batch was not applied.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// This condition did not hold; nothing was written.
    #[error("the record {} was changed by another", .0.key())]
    Conflict(Condition),
    /// The store could not be written. Whether the batch was applied is not known if it was on its way.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A place for records.
///
/// Handles may be many, in one process or (behind a shared store) in several: the conditions of a batch are the
/// only lock there is.
pub trait Store: Send + Sync {
    /// The records under these keys, in the same order, all of one moment.
    fn get<'a>(&'a self, keys: &'a [String]) -> Answering<'a, Vec<Option<Record>>>;

    /// At most `limit` records whose keys begin with `prefix`, in the order of their keys, from the first that is
    /// greater than `after`.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Answering<'a, Vec<Record>>;

    /// Applies a batch whole, and says so only when it would survive a loss of power.
    fn write(&self, batch: Batch) -> Answering<'_, Revision, WriteError>;

    /// What changed by writes after `after`: at least one whole write if there is any, then more up to `limit`
    /// changes.
    fn changes(&self, after: Revision, limit: usize) -> Answering<'_, Changes>;

    /// Returns as soon as there is a write after `after`, with the latest revision.
    fn changed(&self, after: Revision) -> Answering<'_, Revision>;

    /// Ends the use of the store by this process: what is written after it fails, and who waits in
    /// [`Store::changed`] is told so. Reads may still be answered.
    fn close(&self) -> Answering<'_, ()>;

    /// Waits until the store has failed in a way that it does not recover from by itself. Whoever runs it should
    /// end then, and start anew.
    fn failed(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>>;

    /// Takes or renews the claim on some work for `holder` until `now + ttl`. Returns `None` if it was taken, else
    /// the claim of the other who holds it.
    fn claim<'a>(
        &'a self,
        work: &'a str,
        holder: &'a str,
        now: Timestamp,
        ttl: Duration,
    ) -> Answering<'a, Option<Claim>> {
        Box::pin(async move {
            let key = [format!("claim/{work}")];
            loop {
                let found = self.get(&key).await?.pop().flatten();
                let batch = match &found {
                    None => Batch::default().absent(&key[0]),
                    Some(record) => {
                        let claim: Claim = serde_json::from_slice(&record.value)
                            .map_err(|error| StoreError::Damaged(format!("{}: {error}", key[0])))?;
                        if claim.holder != holder && claim.expires > now {
                            return Ok(Some(claim));
                        }
                        Batch::default().unchanged(&key[0], record.revision)
                    }
                };
                let claim = Claim { holder: holder.to_owned(), expires: now + ttl };
                let value = serde_json::to_vec(&claim).map_err(|e| StoreError::Damaged(e.to_string()))?;
                match self.write(batch.put(&key[0], value)).await {
                    Ok(_) => return Ok(None),
                    // Another was quicker: see who it is.
                    Err(WriteError::Conflict(_)) => {}
                    Err(WriteError::Store(error)) => return Err(error),
                }
            }
        })
    }
}
