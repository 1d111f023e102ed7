//! What a boot request costs, and how soon volboot serves: `cargo bench --bench boot`.
//!
//! For stores of different sizes, and timelines as full as they get: the time of one answer from the store (identify,
//! read, decide, render), what the request that it belongs to pays for being told to the timeline, the time of a whole
//! request over HTTP on loopback, the time from the start of the process until it is ready, after an orderly stop and
//! after `kill -9`, and the memory it takes after all that was asked.

#![allow(clippy::cast_precision_loss)] // figures for people

#[path = "../suite/daemon.rs"]
#[allow(dead_code, reason = "the bench starts it and asks; the tests do more")]
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
use volboot::model::{Asker, Node, Port, Properties, StorageInterface, VolumeConnector, VolumeTarget};
use volboot::script;
use volboot::store::{Attachments, Inventory, RedbStore, Store};
use volboot::telemetry::{Event, Metrics};
use volboot::timeline::Timeline;

/// Requests that one figure is the median of.
const SAMPLES: u32 = 5000;
/// Starts that one figure is the median of.
const STARTS: usize = 5;
/// Journeys that are behind each machine: with ten thousand of them, as many events as are kept.
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
        let past = site.path().join("history.redb");
        runtime.block_on(fill(&store, nodes));
        history::fill(&past, nodes, JOURNEYS);
        let (answers, events) = runtime.block_on(answers(&store, &past, nodes));
        let orderly = (0..STARTS).map(|_| start(site.path(), Daemon::stop));
        let orderly = median(orderly.collect());
        let killed = (0..=STARTS).map(|_| start(site.path(), Daemon::kill));
        // The first of these still follows an orderly stop.
        let killed = median(killed.skip(1).collect());
        let running = Daemon::start(site.path());
        let requests = requests(running.http, nodes);
        let megabytes = |path: &Path| {
            let bytes = std::fs::metadata(path).expect("is there").len();
            format!("{:.1} MB", bytes as f64 / 1e6)
        };
        println!(
            "{nodes:>6} {:>14} {:>14} {:>15} {:>5.1} ms {:>8.1} ms {:>8} {:>9} {:>8}",
            micros(answers),
            nanos(events),
            micros(requests),
            orderly.as_secs_f64() * 1e3,
            killed.as_secs_f64() * 1e3,
            megabytes(&store),
            megabytes(&past),
            running.memory("VmRSS:"),
        );
    }
}

async fn fill(path: &Path, nodes: u32) {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(path).expect("opens"));
    let inventory = Inventory::new(Arc::clone(&store));
    for chunk in (0..nodes).collect::<Vec<_>>().chunks(64) {
        // At once, so that the writer joins them.
        let enrolled = chunk.iter().map(|n| tokio::spawn(enrol(inventory.clone(), *n)));
        for one in enrolled.collect::<Vec<_>>() {
            one.await.expect("is enrolled");
        }
    }
    store.close().await.expect("closes");
}

async fn enrol(inventory: Inventory, n: u32) {
    let properties = |value| serde_json::from_value::<Properties>(value).expect("an object");
    let uuid = Uuid::new_v4();
    let created_at = Timestamp::now();
    let mut node = Node::new(uuid, "manual-management", StorageInterface::External, created_at);
    node.name = Some(format!("node-{n}"));
    node.properties = properties(json!({"capabilities": "iscsi_boot:True"}));
    inventory.create(&node).await.expect("creates");
    let port = Port::new(uuid, uuid, history::mac(n), created_at);
    inventory.create(&port).await.expect("creates");
    let iqn = format!("iqn.2017-08.org.openstack.{uuid}");
    let connector = VolumeConnector::new(uuid, uuid, "iqn", &iqn, created_at);
    inventory.create(&connector).await.expect("creates");
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
    inventory.create(&target).await.expect("creates");
}

/// Numbers below `nodes` in an order without a pattern that a cache could like.
fn sample(nodes: u32) -> impl Iterator<Item = u32> {
    (0..SAMPLES).map(move |n| n.wrapping_mul(2_654_435_761) % nodes)
}

/// Times of answers, and of telling them.
async fn answers(path: &Path, past: &Path, nodes: u32) -> (Vec<Duration>, Vec<Duration>) {
    let timeline = Timeline::open(Some(past), Metrics::new());
    let store: Arc<dyn Store> = loop {
        // The one that filled it may hold the file for a moment longer.
        if let Ok(store) = RedbStore::open(path) {
            break Arc::new(store);
        }
    };
    let config = Config::default();
    let policy = Policy { last_known: None, resolutions: 1 };
    let attach = Attach::new(Attachments::new(Arc::clone(&store)), None, policy);
    let boot = Boot::new(Inventory::new(Arc::clone(&store)), attach, config.enabled_storage_interfaces);
    let (mut times, mut told) = (Vec::new(), Vec::new());
    for n in sample(nodes) {
        let asker = Asker::new(history::mac(n));
        let began = Instant::now();
        let decision = boot.answer(&asker).await;
        let script = script::answer(&decision.answer, &asker, config.boot).expect("is written");
        times.push(began.elapsed());
        assert!(script.into_text().contains("sanboot"));
        let what = history::answered(n, "boot", None);
        let event = Event::new(Timestamp::now(), Some(history::mac(n)), None, what);
        let began = Instant::now();
        timeline.tell(event);
        told.push(began.elapsed());
    }
    store.close().await.expect("closes");
    timeline.close_blocking();
    assert_eq!(timeline.lost(), 0, "an event was not kept");
    (times, told)
}

/// Starts it, ends it, and gives how long the start took.
fn start(site: &Path, end: impl FnOnce(&mut Daemon)) -> Duration {
    let mut daemon = Daemon::start(site);
    end(&mut daemon);
    daemon.took
}

fn requests(address: SocketAddr, nodes: u32) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_nodelay(true).expect("is set");
    stream.set_read_timeout(Some(daemon::LIMIT)).expect("is set");
    let mut buffer = vec![0; 16 << 10];
    let mut times = Vec::new();
    for n in sample(nodes) {
        let request = format!("GET /boot/{} HTTP/1.1\r\nHost: x\r\n\r\n", history::mac(n).hyphenated());
        let began = Instant::now();
        stream.write_all(request.as_bytes()).expect("is sent");
        let mut read = 0;
        // Every script of a boot ends so, and none is larger than the buffer.
        while !buffer[..read].ends_with(b"exit 1\n") {
            let more = stream.read(&mut buffer[read..]).expect("is answered");
            assert!(more > 0, "closed after {read} bytes");
            read += more;
        }
        times.push(began.elapsed());
    }
    times
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn micros(times: Vec<Duration>) -> String {
    let (half, last) = percentiles(times);
    format!("{}/{} µs", half.as_micros(), last.as_micros())
}

fn nanos(times: Vec<Duration>) -> String {
    let (half, last) = percentiles(times);
    format!("{}/{} ns", half.as_nanos(), last.as_nanos())
}

/// What half of them, and all but a hundredth, stay under.
fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    (at(50), at(99))
}
