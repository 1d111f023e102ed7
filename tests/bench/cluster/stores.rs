//! The boot request, the start and the memory: with the local file, and with etcd.
//!
//! | figure | measures |
//! |---|---|
//! | cold, warm | the start until ready: without a mirror, and with that of the last run |
//! | request | a boot request over HTTP on loopback, one after another |
//! | answer | the same without HTTP, in this process |
//! | barrier | the read of a quorum for which an answer on etcd waits once; concurrent ones share it |
//!
//! `etcd alone` is no mode of volboot: it reads all records from etcd itself, one after another, in place of a barrier and
//! the mirror.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use volboot::store::{Freshness, RedbStore, Store};

use crate::answers::measure_answers;
use crate::daemon::{self, Daemon, volboot};
use crate::direct::DirectStore;
use crate::etcd::{Etcd, Options};
use crate::requests::{format_micros, measure_requests, median};
use crate::{nodes, open, read_number, run};

/// Starts per measurement; the result is their median.
const STARTS: usize = 5;
/// Barriers per measurement.
const BARRIERS: u32 = 1000;
/// The limit of the memory on etcd with 10,000 nodes, in kB.
const MEMORY_LIMIT: u64 = 96_000;

pub(crate) fn measure() {
    let nodes = read_number("NODES", 10_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let site = daemon::site("");
    runtime.block_on(nodes::fill(&site.path().join("store.redb"), nodes));
    println!("{nodes} nodes");
    println!("{:<6} {:>10} {:>10} {:>16} {:>10}", "store", "cold", "warm", "request p50/p99", "memory");
    measure_store("redb", site.path(), nodes, None);
    // A copy: the commands below need the file for themselves.
    let copy = site.path().join("answers.redb");
    std::fs::copy(site.path().join("store.redb"), &copy).expect("copies");
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(&copy).expect("the store opens"));
    let answers = runtime.block_on(measure_answers(&store, nodes));
    print_times("answer, redb", answers);
    run(Options::default(), move |etcd| async move {
        configure(site.path(), &etcd);
        let started_at = Instant::now();
        let config = site.path().join("volboot.toml");
        let copied =
            volboot(&["store", "copy", "--to", "etcd", "--config"]).arg(&config).output().expect("runs");
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let elapsed = started_at.elapsed();
        let memory = measure_store("etcd", site.path(), nodes, Some(&site.path().join("store.redb.mirror")));
        measure_reads(&etcd, nodes).await;
        println!("copy from the file to etcd: {:.1} s; etcd: {}", elapsed.as_secs_f64(), describe(&etcd));
        assert!(nodes > 10_000 || memory < MEMORY_LIMIT, "{memory} kB in use");
    });
}

/// Measures answers with the mirror and without it, and the barrier.
async fn measure_reads(etcd: &Etcd, nodes: u32) {
    let store = open(etcd.config("/volboot/"), &etcd.directory("answers")).await;
    let mirrored = Arc::clone(&store) as Arc<dyn Store>;
    let deadline = Instant::now() + Duration::from_secs(60);
    while mirrored.freshness() != Freshness::Fresh {
        assert!(Instant::now() < deadline, "the store is not fresh");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    print_times("answer, etcd and mirror", measure_answers(&mirrored, nodes).await);
    let direct: Arc<dyn Store> = Arc::new(DirectStore::new(&etcd.endpoint(0), store));
    print_times("answer, etcd alone", measure_answers(&direct, nodes).await);
    let mut barriers = Vec::new();
    for _ in 0..BARRIERS {
        let started_at = Instant::now();
        mirrored.get(&[]).await.expect("etcd responds");
        barriers.push(started_at.elapsed());
    }
    print_times("barrier", barriers);
    mirrored.close().await.expect("the store closes");
}

fn print_times(name: &str, times: Vec<Duration>) {
    println!("{name:<24} {:>16}", format_micros(times));
}

/// Changes the configuration of a site to etcd.
fn configure(site: &Path, etcd: &Etcd) {
    let path = site.join("volboot.toml");
    let config = etcd.config("/volboot/");
    let endpoints: Vec<String> = config.endpoints.iter().map(|url| format!("{url:?}")).collect();
    let text = std::fs::read_to_string(&path).expect("text");
    let text = text.replace("[store]\n", "[store]\nkind = \"etcd\"\n");
    let text = format!("{text}[store.etcd]\nendpoints = [{}]\nallow_insecure = true\n", endpoints.join(", "));
    std::fs::write(path, text).expect("writes");
}

/// The sizes of the database and of the largest member.
fn describe(etcd: &Etcd) -> String {
    let status = etcd.ctl(&["endpoint", "status"]);
    // The fourth field of the plain output.
    let size = status.lines().next().and_then(|line| line.split(", ").nth(3)).unwrap_or("?").to_owned();
    let memory = (0..3).map(|member| read_kilobytes(etcd.process_id(member))).max().unwrap_or_default();
    format!("{size} database, {} MB in memory", memory / 1000)
}

/// Measures one kind of store; returns the memory in use, in kB.
fn measure_store(name: &str, site: &Path, nodes: u32, mirror: Option<&Path>) -> u64 {
    let start = |is_cold: bool| {
        if let Some(mirror) = mirror.filter(|_| is_cold) {
            let _ = std::fs::remove_file(mirror);
        }
        let mut daemon = Daemon::start(site);
        daemon.stop();
        daemon.startup_time
    };
    let cold = median((0..STARTS).map(|_| start(true)).collect());
    let warm = median((0..STARTS).map(|_| start(false)).collect());
    let daemon = Daemon::start(site);
    let requests = measure_requests(daemon.http, nodes);
    let memory = daemon.memory("VmRSS:");
    println!(
        "{name:<6} {:>7.0} ms {:>7.0} ms {:>16} {memory:>10}",
        cold.as_secs_f64() * 1e3,
        warm.as_secs_f64() * 1e3,
        format_micros(requests),
    );
    read_kilobytes(daemon.pid())
}

fn read_kilobytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
