//! A simulated machine: sends boot requests, and waits and retries as the scripts require.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// The time-out of a boot.
const LIMIT: Duration = Duration::from_secs(600);
/// iPXE's time-out for a response.
const RESPONSE_LIMIT: Duration = Duration::from_secs(20);

/// The result of one machine's boot.
#[derive(Debug)]
pub(crate) struct BootResult {
    /// The time until the boot script.
    pub(crate) duration: Duration,
    /// When the boot script arrived.
    pub(crate) booted_at: Instant,
    /// The number of boot requests.
    pub(crate) requests: u32,
    /// The number of failed requests among them.
    pub(crate) failed_requests: u64,
    /// Whether the script uses the last known connection.
    pub(crate) last_known: bool,
    /// The reasons of the waits, without repetitions in a row.
    pub(crate) reasons: Vec<String>,
}

/// Sends boot requests until the script boots. The first request goes to the first server. After a failure, the next
/// request goes to the next server, as behind an address that moves.
pub(crate) async fn boot(servers: &[SocketAddr], n: u32, mac: &str) -> BootResult {
    let started_at = Instant::now();
    let journey = format!("{:016x}", random(started_at, n));
    let mut path = format!("/boot/{mac}?macs={mac}&platform=pcbios&journey={journey}&try=1");
    let (mut requests, mut failures, mut failed_requests) = (0, 0, 0);
    let mut servers = servers.iter().cycle();
    let mut server = *servers.next().expect("a server");
    let mut reasons = Vec::new();
    loop {
        requests += 1;
        let response = get(server, n, &path).await;
        let duration = started_at.elapsed();
        assert!(duration < LIMIT, "{mac} does not boot: {reasons:?}");
        let Ok(script) = response else {
            // The retries of templates/chain.ipxe.
            failed_requests += 1;
            failures += 1;
            tokio::time::sleep(Duration::from_secs(failures)).await;
            server = *servers.next().expect("the servers repeat");
            continue;
        };
        failures = 0;
        if script.contains("\nsanboot ") {
            let last_known = script.contains("booting from the last known connection of");
            let booted_at = Instant::now();
            return BootResult { duration, booted_at, requests, failed_requests, last_known, reasons };
        }
        let word = |before| {
            let (_, rest) =
                script.split_once(before).unwrap_or_else(|| panic!("unexpected script for {mac}:\n{script}"));
            rest.split_whitespace().next().unwrap_or_default()
        };
        let pause = word("retrying in ").parse().expect("seconds");
        // The machine has no host name.
        path = format!("/boot/{}", word("chain --replace --autofree ").replace("${hostname:uristring}", ""));
        let reason = script.lines().find_map(|line| line.strip_prefix("echo volboot: "));
        reasons.extend(reason.map(str::to_owned));
        reasons.dedup();
        tokio::time::sleep(Duration::from_secs(pause)).await;
    }
}

/// A random number per boot.
fn random(now: Instant, n: u32) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((now, n))
}

/// Sends a request on a new connection, from an IP address of the machine's own.
async fn get(server: SocketAddr, n: u32, path: &str) -> io::Result<String> {
    tokio::time::timeout(RESPONSE_LIMIT, exchange(server, n, path)).await?
}

async fn exchange(server: SocketAddr, n: u32, path: &str) -> io::Result<String> {
    let [_, _, high, low] = n.to_be_bytes();
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 1, high, low), 0).into())?;
    let mut stream = socket.connect(server).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    // A killed server closes the connection without a response.
    if response.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    assert!(response.starts_with("HTTP/1.1 200"), "{path}: {response}");
    Ok(response)
}
