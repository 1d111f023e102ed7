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

/// A server and a connection to it, which is kept as long as the server keeps it.
struct Server {
    address: SocketAddr,
    stream: TcpStream,
    /// Requests of one kind in a round.
    samples: usize,
}

impl Server {
    fn new(address: SocketAddr, samples: usize) -> Self {
        Self { address, stream: connect(address), samples }
    }

    /// Sends a request and reads its answer whole, without looking into it.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let request = format!(
            "{method} /v1/{path} HTTP/1.1\r\nHost: {}\r\nX-OpenStack-Ironic-API-Version: 1.33\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).expect("is sent");
        let (mut answer, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let read = self.stream.read(&mut buffer).expect("is answered");
            assert!(read > 0, "{path}: closed after {} bytes", answer.len());
            answer.extend_from_slice(&buffer[..read]);
            let Some(head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            let (head, rest) = (String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase(), head + 4);
            assert!(head.starts_with("http/1.1 2"), "{path}: {head}");
            let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let length: usize = header("content-length:").expect("a length").parse().expect("a number");
            if answer.len() == rest + length {
                if header("connection:") == Some("close") {
                    self.stream = connect(self.address);
                }
                return answer.split_off(rest);
            }
        }
    }

    fn get(&mut self, path: &str) -> Vec<u8> {
        self.ask("GET", path, "")
    }

    fn create(&mut self) -> Vec<u8> {
        let body = json!({"driver": "fake-hardware", "properties": {"capabilities": "iscsi_boot:True"}});
        self.ask("POST", "nodes", &body.to_string())
    }

    /// How long each of the round's requests took.
    fn timed<T>(&mut self, request: impl Fn(&mut Self) -> T) -> Vec<Duration> {
        let mut times = Vec::new();
        for _ in 0..self.samples {
            let began = Instant::now();
            request(self);
            times.push(began.elapsed());
        }
        times
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_nodelay(true).expect("is set");
    stream.set_read_timeout(Some(daemon::LIMIT)).expect("is set");
    stream
}

fn json_of(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("JSON")
}

async fn beside_ironic() {
    let site = daemon::site("");
    let (ironic, volboot) = (Ironic::start().await, Daemon::start(site.path()));
    let mut servers = [Server::new(ironic.address, 40), Server::new(volboot.api, 1000)];
    let mut times: [[Vec<Duration>; 3]; 2] = Default::default();
    for _ in 0..PAGE {
        for server in &mut servers {
            server.create();
        }
    }
    for _ in 0..ROUNDS {
        for (server, times) in servers.iter_mut().zip(&mut times) {
            let node = format!("nodes/{}", json_of(&server.create())["uuid"].as_str().expect("a UUID"));
            times[0].extend(server.timed(|server| server.get(&node)));
            times[1].extend(server.timed(Server::create));
            times[2].extend(server.timed(|server| server.get(&format!("nodes?limit={PAGE}"))));
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
    let mut server = Server::new(volboot.api, 2000);
    println!("\nvolboot with {MANY} nodes:");
    let path = format!("nodes/{some}");
    print("GET one node", server.timed(|server| server.get(&path)));
    server.samples = 50;
    print("GET a page of 100", server.timed(|server| server.get("nodes?limit=100")));
    print("GET a page of 1000, detailed", server.timed(|server| server.get("nodes/detail?limit=1000")));
    print("GET a page of 100 by name", server.timed(|server| server.get("nodes?limit=100&sort_key=name")));
    let before = resident(volboot.pid());
    let (mut seen, mut next) = (0, Some("nodes/detail?limit=100".to_owned()));
    let began = Instant::now();
    while let Some(path) = next {
        let page = json_of(&server.get(&path));
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
