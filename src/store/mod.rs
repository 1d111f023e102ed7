//! The store: records of nodes, ports, connectors, targets and attachments. Timelines are in the history.
//!
//! Two layers. [`Store`] is a small contract over keys and bytes, with revisions, conditional batches and a change
//! feed: narrow enough for a shared store such as etcd behind it. [`Inventory`] and [`Attachments`] are the layer for
//! the rest of the crate. They hold typed records with uniqueness rules and indexes, kept consistent by conditions
//! alone (optimistic concurrency).
//!
//! The one invariant: a record and everything derived from it (unique keys, list entries) are written in one batch.
//! So no crash and no race can separate them.

mod attachment_feed;
mod attachment_keys;
mod attachments;
mod backup;
mod boot_wait;
mod contract;
mod encoding;
mod error;
#[cfg(feature = "etcd")]
mod etcd;
mod fallback;
mod intercepted;
mod inventory;
mod keys;
mod local;
mod local_session;
mod lost_volumes;
mod memory;
#[cfg(feature = "etcd")]
mod mirror;
mod panics;
mod redb;
mod resource;
mod schema;
mod session;
mod turns;
mod volume_index;

#[cfg(test)]
mod battery;
#[cfg(test)]
mod local_battery;

pub use attachment_feed::AttachmentChanges;
pub use attachments::{AttachmentWriteError, Attachments, WritableStore};
pub use backup::{
    CopyHook, CopyStep, ExportError, ExportFormatError, ExportHeader, ExportReader, ImportError,
    ImportedRecords, export, export_snapshot,
};
pub use boot_wait::BootWait;
pub use contract::{
    Batch, Change, ChangeSet, Condition, Freshness, NO_SPACE, OpenError, Record, Revision, SharedStatus,
    Snapshot, Store, StoreAccess, StoreError, StoreFuture, StoreInfo, WriteError,
};
pub use encoding::Versioned;
#[cfg(feature = "etcd")]
pub use etcd::{EtcdSource, EtcdStore, import_into_etcd};
pub use fallback::{FallbackChanges, FallbackRecords, FallbackSnapshot};
pub use intercepted::{InterceptedStore, Interceptor};
pub use inventory::{
    ClaimedInventory, Enrollment, FallbackBasis, Inventory, InventoryError, PortAddressChanges, UpdateError,
    WindowChange,
};
pub use memory::MemoryStore;
pub(crate) use panics::{CatchDrop, catch_panic};
pub(crate) use redb::OverlayBackend;
pub use redb::{ProgressHook, RedbStore, StoppedStore, import};
pub use resource::{Resource, ResourceKind, UniqueKey};
pub use schema::{Records, Schema, Step, StepError};
pub use session::{Claim, ClaimHolder, ClaimId, Cluster, Instance};
pub use turns::{TurnShare, TurnShares};
