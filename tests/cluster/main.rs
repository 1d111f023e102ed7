//! Several instances on a store in etcd: a real cluster of three members, real `volboot serve` processes, and their
//! failures.
//!
//! | file | content |
//! |---|---|
//! | `etcd`, `child`, `processes` | the members, and a second process with a store |
//! | `appliance`, `machine` | instances, and a scripted machine |
//! | `proxy`, `held_request`, `cinder_proxy` | the instances' ways to etcd, Cinder and peers |
//! | `contract`, `compaction`, `credentials`, `late_requests`, `members`, `outages`, `sessions`, `space` | the store |
//! | `copy`, `migration` | changes of all records |
//! | `journeys`, `readiness`, `moves`, `partitions` | boots over several instances, and what fails meanwhile |
//! | `kills`, `fencing`, `simultaneous` | one attachment, whatever dies, sleeps or asks at once |
//! | `storm`, `boot_storm`, `storm_machine`, `cinder_nodes` | many machines, and an instance that dies |
//! | `takeover` | operations on nodes with a BMC, whose instance dies |
//! | `two_appliances` | the commands of README and the guide |
//!
//! The failures, numbered, and their tests:
//!
//! | # | failure | tests |
//! |---|---|---|
//! | 1 | an instance is killed | `kills` (after each of the points of a first boot, a later boot and a detachment); `takeover::operations_of_a_killed_instance_are_ended_by_another_one` |
//! | 2 | several instances get one request at once | `simultaneous`; `sessions::two_processes_lose_no_update` |
//! | 3 | an instance sleeps through its session | `fencing`; `sessions::a_suspended_holder_is_fenced`; `takeover::a_woken_instance_does_not_end_the_operation_of_its_successor` |
//! | 4 | the leader fails; an answer is lost, or a request is late | `members::a_failed_member_costs_a_short_pause_and_no_write`; `partitions::machines_boot_while_the_leader_fails`, `partitions::a_write_without_an_answer_is_read_back`; `late_requests` |
//! | 5 | an instance is cut off from etcd | `outages::a_cut_off_instance_knows_that_it_is`; `partitions::an_instance_cut_off_from_etcd_boots_only_what_cinder_confirms` |
//! | 6 | an instance reaches a minority alone | `outages::a_minority_member_is_not_believed`; `partitions::an_instance_that_reaches_a_minority_alone_is_cut_off` |
//! | 7 | etcd is slow | `partitions::machines_boot_while_etcd_is_slow` |
//! | 8 | records are compacted, or older ones are restored | `compaction`; `outages::a_restored_snapshot_replaces_the_mirror`; `copy::another_history_with_the_same_revisions_is_noticed`, `copy::a_restored_backup_replaces_the_mirrors` |
//! | 9 | etcd has no space | `space`; `readiness::without_space_a_running_instance_stays_ready_and_a_new_one_is_not` |
//! | 10 | a clock is wrong | `moves::a_wrong_clock_changes_displayed_times_only` |
//! | 11 | certificates, tokens, passwords and roles change | `credentials` |
//! | 12 | members restart, or one is replaced | `members::all_members_restart`, `members::a_member_is_replaced` |
//! | 13 | a neighbour in etcd interferes | `sessions::a_neighbour_cannot_break_the_fence`; `copy::records_of_another_identity_are_not_written` |
//! | 14 | the address moves in the middle of a boot | `moves::the_address_moves_at_each_step_of_a_boot`; `two_appliances` |
//! | 15 | the events of an instance are cut off | `moves::events_that_were_cut_off_are_joined_once` |
//! | 16 | an upgrade with a new schema; an interrupted copy | `migration`; `copy::an_interrupted_import_is_never_served` |
//! | 17 | many records | `copy::a_node_with_130_ports_is_deleted`; the benchmark `cluster` has 10,000 nodes |
//!
//! Not here: an upgrade of etcd itself, whose releases are not in one Debian.
//!
//! Needs root, for network namespaces, and the Debian packages `etcd-server`, `etcd-client`, `strace` and `faketime`. Each test has a cluster
//! and a network of its own, so tests may run in parallel.

mod appliance;
#[path = "../../src/store/battery/mod.rs"]
mod battery;
#[path = "../bench/cluster/storm.rs"]
mod boot_storm;
mod child;
#[path = "../bench/storm/cinder_nodes.rs"]
mod cinder_nodes;
mod cinder_proxy;
mod compaction;
mod contract;
mod copy;
mod credentials;
#[path = "../suite/daemon.rs"]
#[allow(dead_code, reason = "shared with the suite")]
mod daemon;
mod etcd;
#[path = "../fakes/bmc/mod.rs"]
mod fake_bmc;
#[path = "../fakes/cinder/mod.rs"]
mod fake_cinder;
mod fencing;
mod held_request;
mod journeys;
mod kills;
mod late_requests;
mod machine;
mod members;
mod migration;
mod moves;
mod outages;
mod partitions;
mod processes;
mod proxy;
mod readiness;
mod sessions;
mod simultaneous;
mod space;
mod storm;
#[path = "../bench/storm/machine.rs"]
#[allow(dead_code, reason = "other storms use more of it")]
mod storm_machine;
mod takeover;
mod two_appliances;

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
    run_within(LIMIT, options, test);
}

/// Like [`run`], for tests that take longer than others.
fn run_within<F: Future<Output = ()>>(
    limit: Duration,
    options: Options,
    test: impl FnOnce(Etcd) -> F + Send + 'static,
) {
    let thread = std::thread::spawn(move || {
        let etcd = Etcd::start(options);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(async { timeout(limit, test(etcd)).await.expect("the test ends in time") });
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
