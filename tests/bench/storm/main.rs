//! Benchmark of a boot storm: `cargo bench --bench storm`.
//!
//! A thousand nodes send boot requests within one second. Their volumes are in a Cinder that needs 300 ms per call and
//! handles eight calls at a time. The machines behave like iPXE: HTTP requests from an IP address each, with the waits
//! and retries of the scripts. volboot has its default configuration, with more concurrent calls than this Cinder
//! handles.
//!
//! The calls per volume are counted. A first and a later boot need certain calls, each exactly once. While Cinder is
//! available, no boot may use a last known connection. Then Cinder hangs, and all machines boot from last known
//! connections. The benchmark takes some minutes, most of them in Cinder's calls.

#![allow(clippy::cast_precision_loss)] // for display only

mod cinder;
mod cinder_nodes;
#[path = "../../suite/daemon.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod daemon;
#[allow(dead_code, reason = "other storms use more of it")]
mod machine;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use volboot::store::{RedbStore, Store};

use cinder::{CALL_DURATION, CONCURRENT_CALLS, Cinder};
use daemon::Daemon;
use machine::BootResult;

/// The number of machines.
const NODES: u32 = 1000;
/// The time in which all machines start.
const START_WINDOW: Duration = Duration::from_secs(1);
/// The limit for the last machine's wait while Cinder hangs.
const MAX_WAIT: Duration = Duration::from_secs(15);

#[tokio::main]
async fn main() {
    let cinder = Cinder::start().await;
    let site = daemon::site(&format!(
        "[cinder]\nauth_type = \"password\"\nauth_url = \"http://{address}/v3\"\nusername = \"volboot\"\n\
         password = \"secret\"\nuser_domain_id = \"default\"\nproject_name = \"boot\"\n\
         project_domain_id = \"default\"\n[boot]\nverify_mac = \"off\"\n",
        address = cinder.address
    ));
    let store: Arc<dyn Store> =
        Arc::new(RedbStore::open(&site.path().join("store.redb")).expect("the store opens"));
    cinder_nodes::fill(&store, 0..NODES).await;
    store.close().await.expect("the store closes");
    drop(store);
    let daemon = Daemon::start(site.path());
    println!(
        "{NODES} nodes start within {} s; resident memory {}",
        START_WINDOW.as_secs(),
        daemon.memory("VmRSS:")
    );

    for (name, expected) in [
        ("first boot", ["list", "reserve", "export", "complete"].as_slice()),
        ("later boot", ["export", "complete"].as_slice()),
    ] {
        let results = run_storm(daemon.http).await;
        let last_known = results.iter().filter(|result| result.last_known).count();
        let cinder_time = CALL_DURATION * (NODES * expected.len() as u32) / CONCURRENT_CALLS as u32;
        println!(
            "{name}: {}; Cinder alone needs {:.1} s; {}",
            summarize(&results),
            cinder_time.as_secs_f64(),
            daemon.memory("VmRSS:"),
        );
        assert!(last_known == 0, "{last_known} boots from last known connections while Cinder is available");
        let calls = cinder.take_calls();
        let total: usize = calls.values().map(Vec::len).sum();
        println!(
            "    {:.2} calls per node; necessary: {expected:?}",
            f64::from(total as u32) / f64::from(NODES)
        );
        for (volume, calls) in calls {
            for call in expected {
                let count = calls.iter().filter(|other| *other == call).count();
                assert!(count == 1, "{name} of {volume}: {calls:?}");
            }
        }
    }

    cinder.hang();
    let results = run_storm(daemon.http).await;
    assert!(
        results.iter().all(|result| result.last_known),
        "a boot without a last known connection while Cinder hangs"
    );
    println!(
        "while Cinder hangs: {} calls in all; {}; the limit is {} s; {}, peak {}",
        cinder.take_calls().into_values().map(|calls| calls.len()).sum::<usize>(),
        summarize(&results),
        MAX_WAIT.as_secs(),
        daemon.memory("VmRSS:"),
        daemon.memory("VmHWM:"),
    );
    let last = results.iter().map(|result| result.duration).max().expect("machines");
    assert!(last < MAX_WAIT, "the last machine waited {last:?}");
}

/// Boots all machines, evenly spread over the start window.
async fn run_storm(server: SocketAddr) -> Vec<BootResult> {
    let mut machines = JoinSet::new();
    let started_at = Instant::now();
    for n in 0..NODES {
        machines.spawn(async move {
            tokio::time::sleep_until((started_at + START_WINDOW * n / NODES).into()).await;
            machine::boot(&[server], n, &cinder_nodes::mac(n).to_hyphenated()).await
        });
    }
    machines.join_all().await
}

fn summarize(results: &[BootResult]) -> String {
    let mut times: Vec<_> = results.iter().map(|result| result.duration.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    let requests: u32 = results.iter().map(|result| result.requests).sum();
    let failed: u64 = results.iter().map(|result| result.failed_requests).sum();
    format!(
        "boot scripts after {:.1} s (median), {:.1} s (last); {:.1} requests per node, {failed} failed in all",
        times[times.len() / 2],
        times[times.len() - 1],
        f64::from(requests) / f64::from(NODES),
    )
}
