//! Benchmark of the API, compared with a real Ironic: `tests/clients/install && cargo bench --bench api`.
//!
//! One client sends requests in sequence over one connection, in alternating rounds to the two servers. Then volboot
//! alone, with ten thousand nodes: one node, pages of nodes, and the memory use of a read of all pages. `alone` as an
//! argument leaves out the comparison. The processor time of a request bears a busy host.

#[path = "../suite/daemon.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod daemon;
#[path = "../clients/ironic.rs"]
mod ironic;
#[path = "../clients/python.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod python;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;
use volboot::model::{Node, StorageInterface};
use volboot::store::{Inventory, RedbStore, Store};

use daemon::Daemon;
use ironic::Ironic;

/// Alternating rounds of the two servers.
const ROUNDS: usize = 3;
/// Nodes per page, for the comparison.
const PAGE_SIZE: usize = 100;
/// Nodes of the large site.
const NODES: u32 = 10_000;

#[tokio::main]
async fn main() {
    if std::env::args().all(|argument| argument != "alone") {
        compare_with_ironic().await;
    }
    measure_volboot().await;
}

/// A server, with a connection that stays open as long as the server permits.
struct Server {
    address: SocketAddr,
    stream: TcpStream,
    /// Requests of each kind in a round.
    samples: usize,
}

impl Server {
    fn new(address: SocketAddr, samples: usize) -> Self {
        Self { address, stream: connect(address), samples }
    }

    /// Sends a request; returns the body of the response.
    fn request(&mut self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let request = format!(
            "{method} /v1/{path} HTTP/1.1\r\nHost: {}\r\nX-OpenStack-Ironic-API-Version: 1.33\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).expect("the bytes are sent");
        let (mut response, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let size = self.stream.read(&mut buffer).expect("the response arrives");
            assert!(size > 0, "{path}: closed after {} bytes", response.len());
            response.extend_from_slice(&buffer[..size]);
            let Some(head) = response.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            let (head, rest) = (String::from_utf8_lossy(&response[..head]).to_ascii_lowercase(), head + 4);
            assert!(head.starts_with("http/1.1 2"), "{path}: {head}");
            let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let length: usize = header("content-length:").expect("a length").parse().expect("a number");
            if response.len() == rest + length {
                if header("connection:") == Some("close") {
                    self.stream = connect(self.address);
                }
                return response.split_off(rest);
            }
        }
    }

    fn get(&mut self, path: &str) -> Vec<u8> {
        self.request("GET", path, "")
    }

    fn create(&mut self) -> Vec<u8> {
        let body = json!({"driver": "fake-hardware", "properties": {"capabilities": "iscsi_boot:True"}});
        self.request("POST", "nodes", &body.to_string())
    }

    /// Measures the requests of a round.
    fn measure<T>(&mut self, request: impl Fn(&mut Self) -> T) -> Vec<Duration> {
        let mut times = Vec::new();
        for _ in 0..self.samples {
            let started_at = Instant::now();
            request(self);
            times.push(started_at.elapsed());
        }
        times
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the connection opens");
    stream.set_nodelay(true).expect("the option is set");
    stream.set_read_timeout(Some(daemon::LIMIT)).expect("the option is set");
    stream
}

fn parse_json(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("JSON")
}

async fn compare_with_ironic() {
    let site = daemon::site("");
    let (ironic, volboot) = (Ironic::start().await, Daemon::start(site.path()));
    let mut servers = [Server::new(ironic.address, 40), Server::new(volboot.api, 1000)];
    let mut times: [[Vec<Duration>; 3]; 2] = Default::default();
    for _ in 0..PAGE_SIZE {
        for server in &mut servers {
            server.create();
        }
    }
    for _ in 0..ROUNDS {
        for (server, times) in servers.iter_mut().zip(&mut times) {
            let node = format!("nodes/{}", parse_json(&server.create())["uuid"].as_str().expect("a UUID"));
            times[0].extend(server.measure(|server| server.get(&node)));
            times[1].extend(server.measure(Server::create));
            times[2].extend(server.measure(|server| server.get(&format!("nodes?limit={PAGE_SIZE}"))));
        }
    }
    println!("{:>24} {:>22} {:>22} {:>8}", "", "Ironic", "volboot", "ratio");
    for (row, name) in ["GET one node", "POST a node", "GET a page of 100"].iter().enumerate() {
        let [ironic_time, volboot_time] = [0, 1].map(|server: usize| median(times[server][row].clone()));
        let format_time = |time: Duration| {
            format!("{:8.2} ms {:6.0} /s", time.as_secs_f64() * 1e3, 1.0 / time.as_secs_f64())
        };
        let ratio = ironic_time.as_secs_f64() / volboot_time.as_secs_f64();
        println!(
            "{name:>24} {:>22} {:>22} {ratio:>7.0}x",
            format_time(ironic_time),
            format_time(volboot_time)
        );
    }
}

async fn measure_volboot() {
    let site = daemon::site("");
    let node = fill(&site.path().join("store.redb")).await;
    let volboot = Daemon::start(site.path());
    let mut server = Server::new(volboot.api, 0);
    println!("\nvolboot with {NODES} nodes:");
    for (name, path, samples) in [
        ("GET one node", &*format!("nodes/{node}"), 10_000),
        ("GET a page of 100", "nodes?limit=100", 1000),
        ("GET a page of 1000, detailed", "nodes/detail?limit=1000", 50),
        ("GET a page of 100 by name", "nodes?limit=100&sort_key=name", 50),
    ] {
        server.samples = samples;
        let before = volboot.cpu_time();
        let times = server.measure(|server| server.get(path));
        print(name, times, volboot.cpu_time().saturating_sub(before));
    }
    let before = resident_memory(volboot.pid());
    let (mut count, mut next) = (0, Some("nodes/detail?limit=100".to_owned()));
    let started_at = Instant::now();
    while let Some(path) = next {
        let page = parse_json(&server.get(&path));
        count += page["nodes"].as_array().expect("a page").len();
        next = page["next"].as_str().and_then(|url| url.split_once("/v1/")).map(|(_, path)| path.to_owned());
    }
    assert_eq!(count, NODES as usize);
    println!(
        "{:>28} {:.2} s; resident memory {before} kB before, {} kB after",
        "all, in pages of 100",
        started_at.elapsed().as_secs_f64(),
        resident_memory(volboot.pid())
    );
}

/// Creates the nodes in a store; returns the UUID of one node.
async fn fill(path: &Path) -> Uuid {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(path).expect("the store opens"));
    let inventory = Inventory::new(Arc::clone(&store));
    let mut last = Uuid::nil();
    for chunk in (0..NODES).collect::<Vec<_>>().chunks(64) {
        // Concurrently, for group commits of the writer.
        let tasks = chunk.iter().map(|n| {
            last = Uuid::new_v4();
            let mut node = Node::new(last, "fake-hardware", StorageInterface::Noop, Timestamp::now());
            node.name = Some(format!("node-{}", n.wrapping_mul(2_654_435_761)));
            let inventory = inventory.clone();
            tokio::spawn(async move { inventory.create(&node).await.expect("the record is created") })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("the record is created");
        }
    }
    store.close().await.expect("the store closes");
    last
}

/// The resident memory in kB.
fn resident_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the file exists");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the key is in the file");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Prints the times of requests, and the processor time of one request.
fn print(name: &str, mut times: Vec<Duration>, cpu_time: Duration) {
    times.sort();
    let percentile = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    let cpu = (cpu_time / times.len() as u32).as_secs_f64() * 1e3;
    println!("{name:>28} p50 {:.2} ms, p99 {:.2} ms, CPU {cpu:.3} ms", percentile(50), percentile(99));
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
