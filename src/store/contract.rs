//! [`Store`]: the contract of every store, on keys, bytes, revisions and conditional batches.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use super::error::{OpenError, Revision, StoreError, StoreFuture};
use super::schema::Schema;
use super::session::{ClaimId, Cluster};

/// One record: bytes under a key, and the revision of their write.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The record's key.
    pub key: String,
    /// The revision of the last write to the record.
    pub revision: Revision,
    /// The record's content.
    pub value: Vec<u8>,
}

impl fmt::Debug for Record {
    /// Leaves out the value, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} ({} bytes)", self.key, self.revision, self.value.len())
    }
}

/// A precondition of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The record under the key still has this revision.
    Unchanged(String, Revision),
    /// No record exists under the key.
    Absent(String),
    /// No record under the key prefix is newer than this revision. A deletion under the prefix does not count.
    Untouched(String, Revision),
    /// The claim has not ended.
    Held(ClaimId),
}

impl Condition {
    /// The condition's key, key prefix, or claimed work.
    pub fn key(&self) -> &str {
        match self {
            Self::Unchanged(key, _) | Self::Absent(key) | Self::Untouched(key, _) => key,
            Self::Held(claim) => &claim.work,
        }
    }
}

impl fmt::Display for Condition {
    /// Describes the failure of the condition.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchanged(key, _) | Self::Absent(key) => {
                write!(f, "the record {key} has changed since it was read")
            }
            Self::Untouched(prefix, _) => {
                write!(f, "a record under {prefix} has changed since the records were read")
            }
            Self::Held(claim) => write!(f, "the claim on {} has ended", claim.work),
        }
    }
}

/// Conditions and writes that are applied atomically.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// All conditions must hold on the state before the batch.
    pub conditions: Vec<Condition>,
    /// Keys to delete, before `put` is applied. A missing key is no error.
    pub delete: Vec<String>,
    /// Records to create or replace.
    pub put: Vec<(String, Vec<u8>)>,
    /// Claims to give back with the batch. Each is also a condition: [`Condition::Held`].
    pub release: Vec<ClaimId>,
}

impl Batch {
    /// Requires that the record still has this revision.
    pub fn require_unchanged(mut self, key: impl Into<String>, revision: Revision) -> Self {
        self.conditions.push(Condition::Unchanged(key.into(), revision));
        self
    }

    /// Requires that no record exists under the key.
    pub fn require_absent(mut self, key: impl Into<String>) -> Self {
        self.conditions.push(Condition::Absent(key.into()));
        self
    }

    /// Requires that no record under the key prefix is newer than this revision.
    pub fn require_untouched(mut self, prefix: impl Into<String>, revision: Revision) -> Self {
        self.conditions.push(Condition::Untouched(prefix.into(), revision));
        self
    }

    /// Requires that the claim has not ended.
    pub fn require_held(mut self, claim: &ClaimId) -> Self {
        self.conditions.push(Condition::Held(claim.clone()));
        self
    }

    /// Gives the claim back; requires that it has not ended.
    pub fn release(mut self, claim: &ClaimId) -> Self {
        self.release.push(claim.clone());
        self.require_held(claim)
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

/// The change of one key by one write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The write's revision.
    pub revision: Revision,
    /// The key that the write put or deleted.
    pub key: String,
}

/// A page of the change feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeSet {
    /// The changes since the requested revision, oldest first. A page never splits a write.
    Since(Vec<Change>),
    /// The requested revision is older than the feed's retention: list again, then continue from this revision.
    Compacted(Revision),
}

/// A store's place and size, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// The path of a local store, the address of a remote one.
    pub location: String,
    /// The occupied space, if known.
    pub bytes: Option<u64>,
}

/// Whether the reads of a store show the present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// They do. A local store is always fresh.
    Fresh,
    /// The shared store behind this one does not respond: reads and writes fail, [`Store::last_known`] still reads.
    Stale {
        /// The time since its last response; over a restart, by this host's wall clock.
        age: Duration,
        /// The cause.
        reason: String,
    },
}

/// The state of a shared store, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedStatus {
    /// The time since the local records were last known to be the present ones.
    pub age: Duration,
    /// Whether this instance has a session.
    pub has_session: bool,
    /// Whether the shared store refuses writes for lack of space.
    pub has_no_space: bool,
    /// The number of configured members.
    pub members: usize,
    /// The members that respond.
    pub reachable: usize,
    /// The shared store's latest revision, at the last answer.
    pub revision: Revision,
    /// The revision up to which old records are compacted; 0: never.
    pub compacted: Revision,
}

/// The reason of a shared store without space left for writes and new sessions.
pub const NO_SPACE: &str = "etcd has no space left (NOSPACE)";

/// Whether a store accepts writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAccess {
    /// Reads and writes.
    ReadWrite,
    /// Reads only, for this reason: the disk is full, read-only or failing. The store recovers by itself.
    ReadOnly(String),
}

/// A batch was not applied.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// This condition failed (a write conflict); nothing was written.
    #[error("write conflict: {0}")]
    Conflict(Condition),
    /// The store failed. If it failed during the write, the batch may or may not have been applied.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All records of one revision; later writes do not change it.
pub trait Snapshot: Send + Sync {
    /// The revision of the last write before the snapshot.
    fn revision(&self) -> Revision;

    /// The schema of keys and values.
    fn schema(&self) -> u64;

    /// Lists at most `limit` records in key order, with keys greater than `after`.
    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> StoreFuture<'a, Vec<Record>>;
}

/// A store of records.
///
/// There may be many handles, in one process or (to a shared store) in several. The conditions of batches are the
/// only lock; a claim of [`Cluster`] counts as a condition too.
pub trait Store: Send + Sync {
    /// Reads the records under these keys, in the same order, from one snapshot.
    fn get<'a>(&'a self, keys: &'a [String]) -> StoreFuture<'a, Vec<Option<Record>>>;

    /// Lists at most `limit` records with this key prefix, in key order, with keys greater than `after`.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Record>>;

    /// Applies a batch atomically; returns once the write would survive a power failure.
    fn write(&self, batch: Batch) -> StoreFuture<'_, Revision, WriteError>;

    /// Reads the changes of writes after `after`: at least one whole write, if any, then more up to `limit` changes.
    fn changes(&self, after: Revision, limit: usize) -> StoreFuture<'_, ChangeSet>;

    /// Waits for a write after `after`; returns the latest revision. That is an earlier one than `after` once a backup has
    /// replaced the records of a shared store: the feed then says so too, by [`ChangeSet::Compacted`].
    fn wait_for_change(&self, after: Revision) -> StoreFuture<'_, Revision>;

    /// Whether the store accepts writes at present. A failed write makes the store read-only, until its disk accepts
    /// writes again.
    fn access(&self) -> StoreAccess;

    /// Whether reads show the present.
    fn freshness(&self) -> Freshness;

    /// The state of the shared store; `None`: the store is a local one.
    fn shared_status(&self) -> Option<SharedStatus> {
        None
    }

    /// This store, whose reads show the last known records without asking a shared store: they may be old. Its writes
    /// fail. A local store returns itself.
    fn last_known(self: Arc<Self>) -> Arc<dyn Store>;

    /// The schema of the records. In a shared store it is an older one than this version's until every instance is
    /// upgraded.
    fn schema(&self) -> Result<u64, StoreError> {
        Ok(Schema::CURRENT.version())
    }

    /// The instances on this store, and their claims.
    fn cluster(&self) -> &dyn Cluster;

    /// Takes a snapshot, for a backup. It takes space until it is dropped: the store keeps all records that it shows.
    fn snapshot(&self) -> StoreFuture<'_, Box<dyn Snapshot>>;

    /// Reads the store's place and size.
    fn info(&self) -> StoreFuture<'_, StoreInfo>;

    /// Closes this handle and ends its session: later writes fail, and so does every [`Store::wait_for_change`]. Reads
    /// may still succeed.
    fn close(&self) -> StoreFuture<'_, ()>;

    /// Waits for a failure from which the store does not recover by itself: damage, for example. A full disk is none.
    /// The process should then exit and restart.
    fn wait_for_failure(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>>;
}
