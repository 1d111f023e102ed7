//! Benchmark of preflight: what it adds to a boot request. `cargo bench --bench preflight`.
//!
//! For a plan with two portals on loopback: the first request (both portals are probed), later requests (the results are
//! known), and the first request with portals that drop every packet, which waits for the limit.

#![allow(clippy::cast_precision_loss)] // for display only

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use uuid::Uuid;
use volboot::model::{BootPlan, BootVolume, SanUri};
use volboot::preflight::Preflight;

/// First requests per measurement; each needs a preflight of its own.
const FIRST: usize = 200;
/// Later requests per measurement.
const LATER: usize = 20_000;
/// First requests with silent portals, each of which takes the whole limit.
const SILENT: usize = 20;

#[tokio::main]
async fn main() {
    let mut listeners = Vec::new();
    for _ in 0..2 {
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listens"));
    }
    let addresses: Vec<_> =
        listeners.iter().map(|listener| listener.local_addr().expect("an address")).collect();
    for listener in listeners {
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    }
    println!("{:>28} {:>12} {:>12}", "", "p50", "p99");
    let mut times = Vec::new();
    for _ in 0..FIRST {
        times.push(measure(&Preflight::default(), &addresses).await);
    }
    print("first request", &mut times);
    let preflight = Preflight::default();
    measure(&preflight, &addresses).await;
    let mut times = Vec::new();
    for _ in 0..LATER {
        times.push(measure(&preflight, &addresses).await);
    }
    print("later request", &mut times);
    // A test network (RFC 5737): a packet to it is dropped, or the host refuses it at once.
    let silent = ["192.0.2.1:3260", "198.51.100.1:3260"].map(|text| text.parse().expect("an address"));
    let mut times = Vec::new();
    for _ in 0..SILENT {
        times.push(measure(&Preflight::default(), &silent).await);
    }
    print("first, no portal answers", &mut times);
}

/// The time that a preflight takes for a plan with these portals.
async fn measure(preflight: &Preflight, portals: &[SocketAddr]) -> Duration {
    let path = |portal: &SocketAddr| SanUri {
        portal: portal.to_string().parse().expect("a portal"),
        lun: "1".parse().expect("a LUN"),
        target: "iqn.2010-10.org.example:root".parse().expect("a name"),
    };
    let mut plan = BootPlan {
        node: Uuid::nil(),
        label: "node-1".into(),
        initiator: "iqn.2017-08.org.openstack.node-1".parse().expect("a name"),
        boot: BootVolume { id: "root".into(), paths: portals.iter().map(path).collect(), chap: None },
        data: Vec::new(),
        loader: None,
        notes: Vec::new(),
        once: None,
        portal_notes: Vec::new(),
    };
    let started_at = Instant::now();
    preflight.apply(&mut plan).await;
    started_at.elapsed()
}

fn print(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let micros = |part: usize| times[(times.len() - 1) * part / 100].as_nanos() as f64 / 1e3;
    println!("{name:>28} {:>9.1} µs {:>9.1} µs", micros(50), micros(99));
}
