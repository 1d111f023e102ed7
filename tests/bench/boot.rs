//! What a boot request costs, and how soon volboot serves: `cargo bench --bench boot`.
//!
//! For stores of different sizes: the time of one answer from the store (identify, read, decide, render), the time
//! of a whole request over HTTP on loopback, and the time from the start of the process until it is ready, after an
//! orderly stop and after `kill -9`, which makes it check the whole store.

#[path = "../suite/daemon.rs"]
#[allow(dead_code, reason = "the bench starts it and asks; the tests do more")]
mod daemon;

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
use volboot::model::{Asker, Mac, Node, Port, Properties, StorageInterface, VolumeConnector, VolumeTarget};
use volboot::script;
use volboot::store::{Attachments, Inventory, RedbStore, Store};

/// Requests that one figure is the median of.
const SAMPLES: u32 = 5000;
/// Starts that one figure is the median of.
const STARTS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    println!(
        "{:>8} {:>14} {:>14} {:>12} {:>10}",
        "nodes", "answer p50/p99", "request p50/p99", "start", "store"
    );
    for nodes in [10, 1000, 10_000] {
        let site = daemon::site("");
        let store = site.path().join("store.redb");
        runtime.block_on(fill(&store, nodes));
        let answers = runtime.block_on(answers(&store, nodes));
        let orderly = (0..STARTS).map(|_| start(site.path(), Daemon::stop));
        let orderly = median(orderly.collect());
        let killed = (0..=STARTS).map(|_| start(site.path(), Daemon::kill));
        // The first of these still follows an orderly stop.
        let killed = median(killed.skip(1).collect());
        let running = Daemon::start(site.path());
        let requests = requests(running.http, nodes);
        let bytes = std::fs::metadata(&store).expect("is there").len();
        println!(
            "{nodes:>8} {:>16} {:>16} {:>7.1} ms {:>9.1} ms {:>7} kB",
            figures(answers),
            figures(requests),
            orderly.as_secs_f64() * 1e3,
            killed.as_secs_f64() * 1e3,
            bytes / 1000,
        );
    }
}

fn mac(n: u32) -> Mac {
    let [_, a, b, c] = n.to_be_bytes();
    Mac::new([0x52, 0x54, 0, a, b, c])
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
    let port = Port::new(uuid, uuid, mac(n), created_at);
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

async fn answers(path: &Path, nodes: u32) -> Vec<Duration> {
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
    let mut times = Vec::new();
    for n in sample(nodes) {
        let asker = Asker::new(mac(n));
        let began = Instant::now();
        let decision = boot.answer(&asker).await;
        let script = script::answer(&decision.answer, &asker, config.boot).expect("is written");
        times.push(began.elapsed());
        assert!(script.into_text().contains("sanboot"));
    }
    store.close().await.expect("closes");
    times
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
        let request = format!("GET /boot/{} HTTP/1.1\r\nHost: x\r\n\r\n", mac(n).hyphenated());
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

fn figures(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_micros();
    format!("{}/{} µs", at(50), at(99))
}
