//! Tests of the store in etcd: a real cluster of three members, and its failures.
//!
//! Needs root, for network namespaces, and the Debian packages `etcd-server` and `etcd-client`. Each test has a cluster
//! and a network of its own, so tests may run in parallel.

#[path = "../../src/store/battery/mod.rs"]
mod battery;
mod child;
mod contract;
mod credentials;
mod etcd;
mod members;
mod outages;
mod sessions;
mod space;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use volboot::config::EtcdConfig;
use volboot::store::{Batch, EtcdStore, Freshness, Store, WriteError};

use etcd::{Etcd, Options};

/// The time to live of the tests' sessions: the shortest that etcd grants.
const SESSION: Duration = Duration::from_secs(2);
/// The longest time of a test.
const LIMIT: Duration = Duration::from_secs(170);

/// Runs a test on a thread with a network of its own, and a runtime in it.
fn run<F: Future<Output = ()>>(options: Options, test: impl FnOnce(Etcd) -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let etcd = Etcd::start(options);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(async { timeout(LIMIT, test(etcd)).await.expect("the test ends in time") });
        runtime.shutdown_timeout(Duration::from_secs(1));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Opens a store with its mirror in `directory`.
async fn open(config: EtcdConfig, directory: &Path) -> Arc<EtcdStore> {
    let store = EtcdStore::open(config, &directory.join("volboot.redb"), SESSION).await;
    Arc::new(store.expect("opens"))
}

async fn put(store: &dyn Store, key: &str, value: &str) -> Result<u64, WriteError> {
    store.write(Batch::default().put(key, value)).await
}

/// The text under a key; an error if the store is not fresh.
async fn read(store: &dyn Store, key: &str) -> Result<Option<String>, volboot::store::StoreError> {
    let record = store.get(&[key.to_owned()]).await?.pop().flatten();
    Ok(record.map(|record| String::from_utf8(record.value).expect("text")))
}

/// Waits until a condition holds.
async fn wait_until(within: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn wait_until_fresh(store: &dyn Store) {
    wait_until(Duration::from_secs(30), "fresh", async || store.freshness() == Freshness::Fresh).await;
}

fn is_stale(store: &dyn Store) -> bool {
    matches!(store.freshness(), Freshness::Stale { .. })
}
