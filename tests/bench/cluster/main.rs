//! Benchmark of volboot on etcd: `cargo bench --bench cluster`. The names of parts run these parts only:
//! `cargo bench --bench cluster -- stores takeover`.
//!
//! | part | measures |
//! |---|---|
//! | `stores` | boot requests, start and memory with 10,000 nodes, or as many as `NODES` says, beside the local file |
//! | `takeover` | how long a machine waits after its instance was killed |
//! | `storm` | 1,000 machines, or as many as `MACHINES` says, over three instances of which one is killed |
//!
//! The processes are real: three members of etcd, and `volboot serve`. Cinder is a fake one. The files of etcd are in
//! memory. Needs root, for network namespaces, and the Debian packages `etcd-server` and `etcd-client`. A missed limit
//! fails the benchmark. The line `load` is the host's load average.

#![allow(clippy::cast_precision_loss, reason = "for display only")]

mod answers;
#[path = "../../cluster/appliance.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod appliance;
#[path = "../storm/cinder_nodes.rs"]
mod cinder_nodes;
#[path = "../../cluster/cinder_proxy.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod cinder_proxy;
#[path = "../../suite/daemon.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod daemon;
mod direct;
#[path = "../../cluster/etcd.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod etcd;
#[path = "../../fakes/cinder/mod.rs"]
mod fake_cinder;
#[path = "../../cluster/held_request.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod held_request;
#[path = "../history.rs"]
#[allow(dead_code, reason = "other benchmarks use more of it")]
mod history;
#[path = "../../cluster/machine.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod machine;
#[path = "../nodes.rs"]
mod nodes;
#[path = "../../cluster/processes.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod processes;
#[path = "../../cluster/proxy.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod proxy;
#[path = "../requests.rs"]
#[allow(dead_code, reason = "other benchmarks use more of it")]
mod requests;
mod stores;
mod storm;
#[path = "../storm/machine.rs"]
#[allow(dead_code, reason = "other storms use more of it")]
mod storm_machine;
mod storms;
mod takeover;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use volboot::config::EtcdConfig;
use volboot::store::EtcdStore;

use etcd::{Etcd, Options};

/// The time to live of a session: the product's default.
const SESSION: Duration = Duration::from_secs(10);

/// A name, and what it measures.
type Part = (&'static str, fn());

const PARTS: [Part; 3] =
    [("stores", stores::measure), ("takeover", takeover::measure), ("storm", storms::measure)];

fn main() {
    // Cargo adds options.
    let names: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let load = std::fs::read_to_string("/proc/loadavg").expect("a load");
    println!("load {}", load.trim());
    for name in &names {
        assert!(PARTS.iter().any(|(part, _)| part == name), "no part is named {name}");
    }
    for (name, measure) in PARTS {
        if names.is_empty() || names.iter().any(|chosen| chosen == name) {
            measure();
        }
    }
}

/// Runs a measurement on a thread with a network of its own, and a runtime in it.
fn run<F: Future<Output = ()>>(options: Options, measure: impl FnOnce(Etcd) -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let etcd = Etcd::start(options);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(measure(etcd));
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

/// Waits until a condition holds.
async fn wait_until(within: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The number in an environment variable.
fn read_number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}
