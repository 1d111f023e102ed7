//! [`Interruption`]: a change between two reads of the inventory.

use crate::store::{Batch, Interceptor, MemoryStore, Record, Store as _, StoreError, StoreFuture};

/// Applies a batch right after the first list of ports was read.
#[derive(Default)]
pub(super) struct Interruption {
    pub(super) once: tokio::sync::Mutex<Option<Batch>>,
    /// The schema of the records; `None`: this version's.
    pub(super) schema: Option<u64>,
}

impl Interceptor for Interruption {
    fn list<'a>(
        &'a self,
        store: &'a MemoryStore,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Record>> {
        Box::pin(async move {
            let page = store.list(prefix, after, limit).await?;
            if prefix.starts_with("port-")
                && let Some(batch) = self.once.lock().await.take()
            {
                store.write(batch).await.expect("writes");
            }
            Ok(page)
        })
    }

    fn schema(&self, store: &MemoryStore) -> Result<u64, StoreError> {
        self.schema.map_or_else(|| store.schema(), Ok)
    }
}
