//! The battery over the stores of one process, and what a test can do to a store in memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::battery::{Pair, TESTS};
use super::*;

/// Runs the battery; each test has a new store.
async fn run(pair: impl Fn() -> (Option<tempfile::TempDir>, Pair)) {
    for (name, test) in TESTS {
        let (_directory, (one, other)) = pair();
        let run = timeout(Duration::from_secs(60), tokio::spawn(test(one, other)));
        let result = run.await.unwrap_or_else(|_| panic!("{name} does not end"));
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    run(|| {
        let store = MemoryStore::default();
        (None, (Arc::new(store.join()), Arc::new(store)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb() {
    run(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let store = RedbStore::open(&directory.path().join("new/store.redb")).expect("opens");
        let store: Arc<dyn Store> = Arc::new(store);
        (Some(directory), (Arc::clone(&store), store))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_session_in_memory_ends_on_demand() {
    let one = MemoryStore::default();
    let other = one.join();
    one.cluster().announce("a", Vec::new()).await.expect("announces");
    let lost = one.cluster().claim("w", b"").await.expect("responds").expect("is free");
    one.set_session_deadline(Some(Instant::now() + Duration::from_secs(7)));
    assert!(!lost.is_lost());
    lost.wait_for_loss().await;
    assert!(lost.is_lost(), "the deadline has passed");
    one.write(Batch::default().require_held(lost.id())).await.expect("the store has not ended the claim");
    one.end_session();
    let successor = other.cluster().claim("w", b"").await.expect("responds").expect("is free");
    assert!(one.write(Batch::default().require_held(lost.id())).await.is_err());
    other.write(Batch::default().require_held(successor.id())).await.expect("the claim is held");
    assert_eq!(
        other.cluster().instances().await.expect("lists").len(),
        1,
        "the new session announces itself"
    );
    assert!(one.cluster().claim("v", b"").await.expect("responds").is_some_and(|claim| !claim.is_lost()));
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_the_last_known_records() {
    let store = Arc::new(MemoryStore::default());
    store.write(Batch::default().put("a", "1")).await.expect("writes");
    store.set_outage(Some("etcd does not respond"));
    tokio::time::advance(Duration::from_secs(3)).await;
    let expected = Freshness::Stale { age: Duration::from_secs(3), reason: "etcd does not respond".into() };
    assert_eq!(store.freshness(), expected);
    assert!(store.get(&["a".into()]).await.is_err());
    assert!(store.write(Batch::default().put("a", "2")).await.is_err());
    assert!(matches!(store.access(), StoreAccess::ReadOnly(_)));
    let known = Arc::clone(&store).last_known();
    assert_eq!(known.list("", None, 9).await.expect("lists").len(), 1);
    assert!(known.write(Batch::default().put("a", "2")).await.is_err());
    store.set_outage(None);
    store.write(Batch::default().put("a", "2")).await.expect("writes");
}
