//! A store that halts one writer: a kill between two writes of an attachment's record.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use volboot::store::{
    Batch, InterceptedStore, Interceptor, MemoryStore, Revision, Store as _, StoreFuture, WriteError,
};

/// One instance's store. A chosen write of an attachment's record takes effect, and never returns.
pub(super) type HaltingStore = InterceptedStore<Halt>;

/// Where a writer halts.
#[derive(Debug)]
pub(super) struct Halt {
    /// The writes before the one that halts. `None`: none halts.
    remaining: Mutex<Option<usize>>,
    halted: Notify,
}

/// A store that halts after this number of writes of an attachment's record.
pub(super) fn halting_store(inner: Arc<MemoryStore>, halt_after: Option<usize>) -> HaltingStore {
    InterceptedStore::new(inner, Halt { remaining: Mutex::new(halt_after), halted: Notify::new() })
}

impl Halt {
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

impl Interceptor for Halt {
    fn write<'a>(&'a self, store: &'a MemoryStore, batch: Batch) -> StoreFuture<'a, Revision, WriteError> {
        let halts = self.halts(&batch);
        let write = store.write(batch);
        Box::pin(async move {
            let result = write.await;
            if halts {
                self.halted.notify_one();
                std::future::pending::<()>().await;
            }
            result
        })
    }
}
