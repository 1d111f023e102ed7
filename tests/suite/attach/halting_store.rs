//! A store that halts one writer: a kill between two writes of an attachment's record.

use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use volboot::store::{
    Batch, ChangeSet, Cluster, Freshness, MemoryStore, Record, Revision, Snapshot, Store, StoreAccess,
    StoreError, StoreFuture, StoreInfo, WriteError,
};

/// One instance's store. A chosen write of an attachment's record takes effect, and never returns.
#[derive(Debug)]
pub(super) struct HaltingStore {
    inner: Arc<MemoryStore>,
    /// The writes before the one that halts. `None`: none halts.
    remaining: Mutex<Option<usize>>,
    halted: Notify,
}

impl HaltingStore {
    pub(super) fn new(inner: Arc<MemoryStore>, halt_after: Option<usize>) -> Self {
        Self { inner, remaining: Mutex::new(halt_after), halted: Notify::new() }
    }

    /// Waits until the write has halted its writer.
    pub(super) async fn wait_until_halted(&self) {
        self.halted.notified().await;
    }

    /// Whether this write of an attachment halts.
    fn halts(&self, batch: &Batch) -> bool {
        let is_attachment = batch.put.iter().any(|(key, _)| key.starts_with("attachment/"));
        let mut remaining = self.remaining.lock();
        match &mut *remaining {
            Some(0) if is_attachment => {
                *remaining = None;
                true
            }
            Some(left) if is_attachment => {
                *left -= 1;
                false
            }
            _ => false,
        }
    }
}

impl Store for HaltingStore {
    fn get<'a>(&'a self, keys: &'a [String]) -> StoreFuture<'a, Vec<Option<Record>>> {
        self.inner.get(keys)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Record>> {
        self.inner.list(prefix, after, limit)
    }

    fn write(&self, batch: Batch) -> StoreFuture<'_, Revision, WriteError> {
        let halts = self.halts(&batch);
        let write = self.inner.write(batch);
        Box::pin(async move {
            let result = write.await;
            if halts {
                self.halted.notify_one();
                std::future::pending::<()>().await;
            }
            result
        })
    }

    fn changes(&self, after: Revision, limit: usize) -> StoreFuture<'_, ChangeSet> {
        self.inner.changes(after, limit)
    }

    fn wait_for_change(&self, after: Revision) -> StoreFuture<'_, Revision> {
        self.inner.wait_for_change(after)
    }

    fn access(&self) -> StoreAccess {
        self.inner.access()
    }

    fn freshness(&self) -> Freshness {
        self.inner.freshness()
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
