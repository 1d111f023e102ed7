//! [`InterceptedStore`]: a [`MemoryStore`] whose operations a test intercepts, to fail, to halt, or to come between two of them.

use std::pin::Pin;
use std::sync::Arc;

use super::contract::{
    Batch, ChangeSet, Freshness, Record, Revision, Snapshot, Store, StoreAccess, StoreError, StoreFuture,
    StoreInfo, WriteError,
};
use super::memory::MemoryStore;
use super::session::Cluster;

/// What happens in place of an operation. The default is the operation itself.
pub trait Interceptor: Send + Sync + 'static {
    /// In place of [`Store::get`].
    fn get<'a>(&'a self, store: &'a MemoryStore, keys: &'a [String]) -> StoreFuture<'a, Vec<Option<Record>>> {
        store.get(keys)
    }

    /// In place of [`Store::list`].
    fn list<'a>(
        &'a self,
        store: &'a MemoryStore,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Record>> {
        store.list(prefix, after, limit)
    }

    /// In place of [`Store::write`].
    fn write<'a>(&'a self, store: &'a MemoryStore, batch: Batch) -> StoreFuture<'a, Revision, WriteError> {
        store.write(batch)
    }

    /// In place of [`Store::access`].
    fn access(&self, store: &MemoryStore) -> StoreAccess {
        store.access()
    }

    /// In place of [`Store::schema`].
    fn schema(&self, store: &MemoryStore) -> Result<u64, StoreError> {
        store.schema()
    }
}

/// A store in memory, with an interceptor. For tests.
#[derive(Debug, Default)]
pub struct InterceptedStore<I> {
    inner: Arc<MemoryStore>,
    /// The interceptor.
    pub interceptor: I,
}

impl<I> InterceptedStore<I> {
    /// Puts the interceptor before the store.
    pub fn new(inner: Arc<MemoryStore>, interceptor: I) -> Self {
        Self { inner, interceptor }
    }
}

impl<I: Interceptor> Store for InterceptedStore<I> {
    fn get<'a>(&'a self, keys: &'a [String]) -> StoreFuture<'a, Vec<Option<Record>>> {
        self.interceptor.get(&self.inner, keys)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Record>> {
        self.interceptor.list(&self.inner, prefix, after, limit)
    }

    fn write(&self, batch: Batch) -> StoreFuture<'_, Revision, WriteError> {
        self.interceptor.write(&self.inner, batch)
    }

    fn changes(&self, after: Revision, limit: usize) -> StoreFuture<'_, ChangeSet> {
        self.inner.changes(after, limit)
    }

    fn wait_for_change(&self, after: Revision) -> StoreFuture<'_, Revision> {
        self.inner.wait_for_change(after)
    }

    fn access(&self) -> StoreAccess {
        self.interceptor.access(&self.inner)
    }

    fn freshness(&self) -> Freshness {
        self.inner.freshness()
    }

    fn schema(&self) -> Result<u64, StoreError> {
        self.interceptor.schema(&self.inner)
    }

    fn last_known(self: Arc<Self>) -> Arc<dyn Store> {
        Arc::clone(&self.inner).last_known()
    }

    fn cluster(&self) -> &dyn Cluster {
        self.inner.cluster()
    }

    fn snapshot(&self) -> StoreFuture<'_, Box<dyn Snapshot>> {
        self.inner.snapshot()
    }

    fn info(&self) -> StoreFuture<'_, StoreInfo> {
        self.inner.info()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.inner.close()
    }

    fn wait_for_failure(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        self.inner.wait_for_failure()
    }
}
