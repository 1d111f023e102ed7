//! Benchmark of boot requests and of the start-up time: `cargo bench --bench boot`.
//!
//! For stores of several sizes, each with a full history, it measures:
//! * the answer from the store (identify, read, decide, render);
//! * the record of its event in the timeline;
//! * a whole request over HTTP on loopback;
//! * the time from start to ready, after a graceful shutdown and after `kill -9`;
//! * the memory in use afterwards.

#![allow(clippy::cast_precision_loss)] // for display only

#[path = "../suite/daemon.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod daemon;
mod history;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::Daemon;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;
use volboot::attach::{Attach, Policy};
use volboot::boot::Boot;
use volboot::config::Config;
use volboot::model::{
    BootOutcome, BootRequest, Node, Port, Properties, StorageInterface, VolumeConnector, VolumeTarget,
};
use volboot::script;
use volboot::store::{Attachments, Inventory, RedbStore, Store};
use volboot::telemetry::{Event, Metrics};
use volboot::timeline::Timeline;

/// Requests per measurement.
const SAMPLES: u32 = 5000;
/// Starts per measurement; the result is their median.
const STARTS: usize = 5;
/// Boot sessions in each machine's history. With ten thousand machines, the history is at its limit.
const JOURNEYS: u32 = 14;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    println!(
        "{:>6} {:>14} {:>14} {:>15} {:>8} {:>11} {:>8} {:>9} {:>8}",
        "nodes",
        "answer p50/p99",
        "event p50/p99",
        "request p50/p99",
        "start",
        "after kill",
        "store",
        "history",
        "memory"
    );
    for nodes in [10, 1000, 10_000] {
        let site = daemon::site("");
        let store = site.path().join("store.redb");
        let history_path = site.path().join("history.redb");
        runtime.block_on(fill(&store, nodes));
        history::fill(&history_path, nodes, JOURNEYS);
        let (answers, events) = runtime.block_on(measure_answers(&store, &history_path, nodes));
        let after_stop = (0..STARTS).map(|_| measure_start(site.path(), Daemon::stop));
        let after_stop = median(after_stop.collect());
        let after_kill = (0..=STARTS).map(|_| measure_start(site.path(), Daemon::kill));
        // The first one follows a graceful shutdown.
        let after_kill = median(after_kill.skip(1).collect());
        let daemon = Daemon::start(site.path());
        let requests = measure_requests(daemon.http, nodes);
        let megabytes = |path: &Path| {
            let bytes = std::fs::metadata(path).expect("the file exists").len();
            format!("{:.1} MB", bytes as f64 / 1e6)
        };
        println!(
            "{nodes:>6} {:>14} {:>14} {:>15} {:>5.1} ms {:>8.1} ms {:>8} {:>9} {:>8}",
            format_micros(answers),
            format_nanos(events),
            format_micros(requests),
            after_stop.as_secs_f64() * 1e3,
            after_kill.as_secs_f64() * 1e3,
            megabytes(&store),
            megabytes(&history_path),
            daemon.memory("VmRSS:"),
        );
    }
}

async fn fill(path: &Path, nodes: u32) {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(path).expect("the store opens"));
    let inventory = Inventory::new(Arc::clone(&store));
    for chunk in (0..nodes).collect::<Vec<_>>().chunks(64) {
        // Concurrently, for group commits of the writer.
        let tasks = chunk.iter().map(|n| tokio::spawn(enroll(inventory.clone(), *n)));
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("the node is created");
        }
    }
    store.close().await.expect("the store closes");
}

async fn enroll(inventory: Inventory, n: u32) {
    let properties = |value| serde_json::from_value::<Properties>(value).expect("a JSON object");
    let uuid = Uuid::new_v4();
    let created_at = Timestamp::now();
    let mut node = Node::new(uuid, "manual-management", StorageInterface::External, created_at);
    node.name = Some(format!("node-{n}"));
    node.properties = properties(json!({"capabilities": "iscsi_boot:True"}));
    inventory.create(&node).await.expect("the record is created");
    let port = Port::new(uuid, uuid, history::mac(n), created_at);
    inventory.create(&port).await.expect("the record is created");
    let iqn = format!("iqn.2017-08.org.openstack.{uuid}");
    let connector = VolumeConnector::new(uuid, uuid, "iqn", &iqn, created_at);
    inventory.create(&connector).await.expect("the record is created");
    let target = VolumeTarget {
        properties: properties(json!({
            "target_portal": "192.0.2.1:3260",
            "target_iqn": format!("iqn.2010-10.org.openstack:volume-{uuid}"),
            "target_lun": 1,
            "auth_username": "JsJkmLmqUFUbpCuSyqUZ",
            "auth_password": "M9nFz6rQ3wT8kLp2",
        })),
        ..VolumeTarget::new(uuid, uuid, 0, &uuid.to_string(), created_at)
    };
    inventory.create(&target).await.expect("the record is created");
}

/// Numbers below `nodes`, in an order that defeats caches.
fn sample(nodes: u32) -> impl Iterator<Item = u32> {
    (0..SAMPLES).map(move |n| n.wrapping_mul(2_654_435_761) % nodes)
}

/// Measures the answers, and the record of their events.
async fn measure_answers(path: &Path, history_path: &Path, nodes: u32) -> (Vec<Duration>, Vec<Duration>) {
    let timeline = Timeline::open_blocking(Some(history_path), Metrics::new());
    let store: Arc<dyn Store> = loop {
        // The store of `fill` may still hold the file lock for a moment.
        if let Ok(store) = RedbStore::open(path) {
            break Arc::new(store);
        }
    };
    let config = Config::default();
    let policy = Policy { resolutions: 1, ..Policy::default() };
    let attach = Attach::new(Attachments::new(Arc::clone(&store)), None, policy);
    let inventory = Inventory::new(Arc::clone(&store));
    let boot = Boot::new(inventory, attach, timeline.loop_detector(), config.enabled_storage_interfaces);
    let (mut answer_times, mut event_times) = (Vec::new(), Vec::new());
    for n in sample(nodes) {
        let request = BootRequest::new(history::mac(n));
        let started_at = Instant::now();
        let decision = boot.answer(&request).await;
        let script =
            script::build_script(&decision.answer, &request, config.boot).expect("the script is built");
        answer_times.push(started_at.elapsed());
        assert!(script.into_text().contains("sanboot"));
        let what = history::boot_request(n, BootOutcome::Boot, None);
        let event = Event::new(Timestamp::now(), Some(history::mac(n)), None, what);
        let started_at = Instant::now();
        timeline.record(event);
        event_times.push(started_at.elapsed());
    }
    store.close().await.expect("the store closes");
    timeline.close_blocking();
    assert_eq!(timeline.dropped_events(), 0, "the timeline dropped events");
    (answer_times, event_times)
}

/// Starts and ends volboot; returns the start-up time.
fn measure_start(site: &Path, end: impl FnOnce(&mut Daemon)) -> Duration {
    let mut daemon = Daemon::start(site);
    end(&mut daemon);
    daemon.startup_time
}

fn measure_requests(address: SocketAddr, nodes: u32) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).expect("the connection opens");
    stream.set_nodelay(true).expect("the option is set");
    stream.set_read_timeout(Some(daemon::LIMIT)).expect("the option is set");
    let mut buffer = vec![0; 16 << 10];
    let mut times = Vec::new();
    for n in sample(nodes) {
        let request = format!("GET /boot/{} HTTP/1.1\r\nHost: x\r\n\r\n", history::mac(n).to_hyphenated());
        let started_at = Instant::now();
        stream.write_all(request.as_bytes()).expect("the bytes are sent");
        let mut length = 0;
        // Every boot script ends with this line, and fits into the buffer.
        while !buffer[..length].ends_with(b"exit 1\n") {
            let size = stream.read(&mut buffer[length..]).expect("the response arrives");
            assert!(size > 0, "closed after {length} bytes");
            length += size;
        }
        times.push(started_at.elapsed());
    }
    times
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn format_micros(times: Vec<Duration>) -> String {
    let (p50, p99) = percentiles(times);
    format!("{}/{} µs", p50.as_micros(), p99.as_micros())
}

fn format_nanos(times: Vec<Duration>) -> String {
    let (p50, p99) = percentiles(times);
    format!("{}/{} ns", p50.as_nanos(), p99.as_nanos())
}

/// The 50th and 99th percentile.
fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let percentile = |share: usize| times[(times.len() - 1) * share / 100];
    (percentile(50), percentile(99))
}
