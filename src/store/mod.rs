//! Where records live: nodes, ports, connectors, targets, and what else must survive a restart.
//!
//! Two layers. [`Store`] is a small contract over keys and bytes, with revisions, conditional batches and a change
//! feed: narrow enough that a shared store such as etcd can stand behind it. [`Inventory`] is what the rest of the
//! house uses: typed records, their uniqueness rules and indexes, kept consistent by those conditions alone.
//!
//! The one invariant: a record and everything derived from it (its unique keys, its places in lists) are written
//! in one batch, so no crash and no race can part them.

mod attachments;
mod contract;
mod feed;
mod inventory;
mod memory;
mod redb;
mod resource;

#[cfg(test)]
mod battery;

pub use attachments::Attachments;
pub use contract::{
    Answering, Batch, Change, Changes, Claim, Condition, Record, Revision, Store, StoreError, WriteError,
};
pub use inventory::{Enrolment, Inventory, InventoryError, UpdateError};
pub use memory::MemoryStore;
pub use redb::{OpenError, RedbStore};
pub use resource::{Kind, LetGo, Resource, Unique, Versioned};
