//! A boot request reads a shared store once, and then its local mirror.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use uuid::Uuid;

use super::{ALL, connectors, node, target};
use crate::attach::{Attach, Policy};
use crate::boot::Boot;
use crate::model::{BootOutcome, BootRequest, Mac, Port};
use crate::store::{
    Attachments, InterceptedStore, Interceptor, Inventory, MemoryStore, Record, Store, StoreFuture,
};
use crate::timeline::LoopDetector;

const CARD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);

/// Counts the reads that ask a shared store. The store's mirror is the inner store.
#[derive(Debug, Default)]
struct ReadCounter(AtomicUsize);

impl Interceptor for ReadCounter {
    fn get<'a>(&'a self, store: &'a MemoryStore, keys: &'a [String]) -> StoreFuture<'a, Vec<Option<Record>>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        store.get(keys)
    }

    fn list<'a>(
        &'a self,
        store: &'a MemoryStore,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Record>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        store.list(prefix, after, limit)
    }
}

#[tokio::test]
async fn a_boot_request_asks_the_shared_store_once() {
    let store = Arc::new(InterceptedStore::<ReadCounter>::default());
    let shared = Arc::clone(&store) as Arc<dyn Store>;
    let inventory = Inventory::new(Arc::clone(&shared));
    inventory.create(&node()).await.expect("creates");
    let port = Port::new(Uuid::nil(), Uuid::nil(), CARD, Timestamp::UNIX_EPOCH);
    inventory.create(&port).await.expect("creates");
    inventory.create(&connectors().remove(1)).await.expect("creates");
    inventory.create(&target(0, "root")).await.expect("creates");
    let attach = Attach::new(Attachments::new(shared), None, Policy::default());
    let boot = Boot::new(inventory, attach, Arc::new(LoopDetector::default()), ALL);
    store.interceptor.0.store(0, Ordering::Relaxed);
    let decision = boot.answer(&BootRequest::new(CARD)).await;
    assert_eq!(decision.answer.outcome(), BootOutcome::Boot, "{decision:?}");
    assert_eq!(store.interceptor.0.load(Ordering::Relaxed), 1);
}
