//! [`LastKnownStore`]: the records of the mirror, which may be old, without a question to etcd.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::EtcdStore;
use crate::store::contract::{
    Batch, ChangeSet, Freshness, Record, Revision, SharedStatus, Snapshot, Store, StoreAccess, StoreError,
    StoreFuture, StoreInfo, WriteError,
};
use crate::store::session::Cluster;

const READ_ONLY: &str = "these are the last known records";

/// A store whose reads ask the mirror alone, and whose writes fail.
pub(super) struct LastKnownStore(pub(super) Arc<EtcdStore>);

impl Store for LastKnownStore {
    fn get<'a>(&'a self, keys: &'a [String]) -> StoreFuture<'a, Vec<Option<Record>>> {
        Box::pin(async move { self.0.checked(self.0.mirror.get(keys).await) })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Record>> {
        Box::pin(async move { self.0.checked(self.0.mirror.list(prefix, after, limit).await) })
    }

    fn write(&self, _batch: Batch) -> StoreFuture<'_, Revision, WriteError> {
        Box::pin(async { Err(StoreError::ReadOnly(READ_ONLY.into()).into()) })
    }

    fn changes(&self, after: Revision, limit: usize) -> StoreFuture<'_, ChangeSet> {
        Box::pin(async move { self.0.checked(self.0.mirror.changes(after, limit).await) })
    }

    fn wait_for_change(&self, after: Revision) -> StoreFuture<'_, Revision> {
        self.0.wait_for_change(after)
    }

    fn access(&self) -> StoreAccess {
        StoreAccess::ReadOnly(READ_ONLY.into())
    }

    fn freshness(&self) -> Freshness {
        self.0.freshness()
    }

    fn shared_status(&self) -> Option<SharedStatus> {
        self.0.shared_status()
    }

    fn last_known(self: Arc<Self>) -> Arc<dyn Store> {
        self
    }

    fn schema(&self) -> Result<u64, StoreError> {
        self.0.schema()
    }

    fn cluster(&self) -> &dyn Cluster {
        self.0.cluster()
    }

    fn snapshot(&self) -> StoreFuture<'_, Box<dyn Snapshot>> {
        Box::pin(async move { self.0.checked(self.0.mirror.snapshot().await) })
    }

    fn info(&self) -> StoreFuture<'_, StoreInfo> {
        self.0.info()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.0.close()
    }

    fn wait_for_failure(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        self.0.wait_for_failure()
    }
}
