//! What the API costs, beside a real Ironic: `tests/clients/install && cargo bench --bench api`.
//!
//! One client on one connection, requests one after the other, rounds of the two servers in turn. Then volboot
//! alone, with ten thousand nodes: one of them, pages of them, and the memory that all pages together take.

#[path = "../suite/daemon.rs"]
#[allow(dead_code, reason = "the bench starts it and asks; the tests do more")]
mod daemon;
#[path = "../clients/ironic.rs"]
mod ironic;
#[path = "../clients/python.rs"]
#[allow(dead_code, reason = "the tests also run scripts")]
mod python;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;
use volboot::model::{Node, StorageInterface};
use volboot::store::{Inventory, RedbStore, Store};

use daemon::Daemon;
use ironic::Ironic;

/// Rounds of both servers in turn.
const ROUNDS: usize = 3;
/// Nodes that both have when one page is asked for.
const PAGE: usize = 100;
/// Nodes of the large site.
const MANY: u32 = 10_000;

#[tokio::main]
async fn main() {
    beside_ironic().await;
    alone().await;
}

/// A server and a client that keeps its connection.
struct Server {
    client: Client,
    address: SocketAddr,
    /// Requests of one kind in a round.
    samples: usize,
}

impl Server {
    fn new(address: SocketAddr, samples: usize) -> Self {
        Self { client: Client::new(), address, samples }
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.client.get(format!("http://{}/v1/{path}", self.address));
        let answer = versioned(request).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}");
        answer.json().await.expect("JSON")
    }

    async fn create(&self) -> String {
        let request = self.client.post(format!("http://{}/v1/nodes", self.address));
        let body = json!({"driver": "fake-hardware", "properties": {"capabilities": "iscsi_boot:True"}});
        let answer = versioned(request).body(body.to_string()).send().await.expect("an answer");
        let created: Value = answer.json().await.expect("JSON");
        created["uuid"].as_str().expect("a UUID").to_owned()
    }

    /// How long each of the round's requests took.
    async fn timed<T>(&self, request: impl AsyncFn() -> T) -> Vec<Duration> {
        let mut times = Vec::new();
        for _ in 0..self.samples {
            let began = Instant::now();
            request().await;
            times.push(began.elapsed());
        }
        times
    }
}

fn versioned(request: RequestBuilder) -> RequestBuilder {
    request.header("x-openstack-ironic-api-version", "1.33").header("content-type", "application/json")
}

async fn beside_ironic() {
    let site = daemon::site("");
    let (ironic, volboot) = (Ironic::start().await, Daemon::start(site.path()));
    let servers = [Server::new(ironic.address, 40), Server::new(volboot.api, 1000)];
    let mut times: [[Vec<Duration>; 3]; 2] = Default::default();
    for _ in 0..PAGE {
        for server in &servers {
            server.create().await;
        }
    }
    for _ in 0..ROUNDS {
        for (server, times) in servers.iter().zip(&mut times) {
            let node = format!("nodes/{}", server.create().await);
            times[0].extend(server.timed(async || server.get(&node).await).await);
            times[1].extend(server.timed(async || server.create().await).await);
            times[2].extend(server.timed(async || server.get(&format!("nodes?limit={PAGE}")).await).await);
        }
    }
    println!("{:>24} {:>22} {:>22} {:>8}", "", "Ironic", "volboot", "ratio");
    for (row, name) in ["GET one node", "POST a node", "GET a page of 100"].iter().enumerate() {
        let [theirs, ours] = [0, 1].map(|server: usize| median(times[server][row].clone()));
        let figures = |time: Duration| {
            format!("{:8.2} ms {:6.0} /s", time.as_secs_f64() * 1e3, 1.0 / time.as_secs_f64())
        };
        let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
        println!("{name:>24} {:>22} {:>22} {ratio:>7.0}x", figures(theirs), figures(ours));
    }
}

async fn alone() {
    let site = daemon::site("");
    let some = fill(&site.path().join("store.redb")).await;
    let volboot = Daemon::start(site.path());
    let server = Server::new(volboot.api, 2000);
    println!("\nvolboot with {MANY} nodes:");
    let path = format!("nodes/{some}");
    print("GET one node", server.timed(async || server.get(&path).await).await);
    let few = Server::new(volboot.api, 20);
    print("GET a page of 100", few.timed(async || few.get("nodes?limit=100").await).await);
    print("GET a page of 1000", few.timed(async || few.get("nodes/detail?limit=1000").await).await);
    print(
        "GET a page of 100 by name",
        few.timed(async || few.get("nodes?limit=100&sort_key=name").await).await,
    );
    let before = resident(volboot.pid());
    let (mut seen, mut next) = (0, Some("nodes/detail?limit=100".to_owned()));
    let began = Instant::now();
    while let Some(path) = next {
        let page = server.get(&path).await;
        seen += page["nodes"].as_array().expect("a page").len();
        next = page["next"].as_str().and_then(|url| url.split_once("/v1/")).map(|(_, path)| path.to_owned());
    }
    assert_eq!(seen, MANY as usize);
    println!(
        "{:>28} {:.2} s; resident memory {before} kB before, {} kB after",
        "all, in pages of 100",
        began.elapsed().as_secs_f64(),
        resident(volboot.pid())
    );
}

/// Puts nodes into a store, and tells one of them.
async fn fill(path: &Path) -> Uuid {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(path).expect("opens"));
    let inventory = Inventory::new(Arc::clone(&store));
    let mut last = Uuid::nil();
    for chunk in (0..MANY).collect::<Vec<_>>().chunks(64) {
        // At once, so that the writer joins them.
        let made = chunk.iter().map(|n| {
            last = Uuid::new_v4();
            let mut node = Node::new(last, "fake-hardware", StorageInterface::Noop, Timestamp::now());
            node.name = Some(format!("node-{}", n.wrapping_mul(2_654_435_761)));
            let inventory = inventory.clone();
            tokio::spawn(async move { inventory.create(&node).await.expect("creates") })
        });
        for one in made.collect::<Vec<_>>() {
            one.await.expect("is created");
        }
    }
    store.close().await.expect("closes");
    last
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("is told");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn print(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!("{name:>28} p50 {:.2} ms, p99 {:.2} ms", at(50), at(99));
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
