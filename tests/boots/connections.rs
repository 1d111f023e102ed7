//! Floods of connections, idle and busy, to both HTTP listeners: other clients must not notice.
//!
//! The short forms are bounded for CI. `VOLBOOT_FLOODS=full` runs the long ones (CONTRIBUTING.md).

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::flood_clients::{LIMIT, add_clients, connect, find_metric, get, get_api, scale, send};
use crate::lab::daemon::Daemon;
use crate::lab::{Lab, run};

const BINARY: &str = env!("CARGO_BIN_EXE_volboot");
/// The ports of the boot listener and the operator listener, with their names in metrics.
const LISTENERS: [(u16, &str); 2] = [(8080, "http"), (6385, "api")];
/// Requests of a client beside the flood.
const PROBED: [(u16, &str); 5] =
    [(8080, "/boot.ipxe"), (8080, "/healthz"), (6385, "/v1"), (6385, "/healthz"), (6385, "/readyz")];
/// How often each is sent in a round.
const PROBES: usize = 20;
/// The time that 95 % of them must not exceed.
const MAX_P95: Duration = Duration::from_secs(1);
/// The rounds of which one must be that fast.
const ROUNDS: usize = 3;
/// `connections_per_client`, by default.
const PER_CLIENT: usize = 64;
/// How long the busy connections of the test last at least: the listener waits 30 s for the body of a request.
const BUSY_FOR: Duration = Duration::from_secs(25);
/// Bytes of a file that no buffer of the kernel holds.
const LARGE_FILE: usize = 32 << 20;

/// Starts volboot with an API for all clients, and with a large iPXE binary.
fn start(lab: &Lab) -> Result<Daemon> {
    add_clients()?;
    let images = lab.path().join("images");
    fs::create_dir(&images)?;
    fs::write(images.join("snponly.efi"), vec![0; LARGE_FILE])?;
    Daemon::start_with_open_api(lab, Path::new(BINARY), &images)
}

/// Sends every probe in turn from the address of a client, and checks the times. A host that is busy with other work has slow
/// moments, while a flood that delays others does so in every round.
fn probe(number: u32) -> Result<()> {
    let mut slow = String::new();
    for _ in 0..ROUNDS {
        let mut slowest = Duration::ZERO;
        for (port, path) in PROBED {
            let times = time_requests(number, port, path)?;
            let p95 = times[PROBES * 95 / 100 - 1];
            if p95 > MAX_P95 {
                slow = format!("{port}{path}: {times:?}");
            }
            slowest = slowest.max(p95);
        }
        println!("p95 of another client: {slowest:?}");
        if slowest <= MAX_P95 {
            return Ok(());
        }
    }
    bail!("in each of {ROUNDS} rounds, at last {slow}")
}

/// The times of all requests for a path, in ascending order.
fn time_requests(number: u32, port: u16, path: &str) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..PROBES {
        let start = Instant::now();
        let response = get(connect(number, port)?, path)?;
        ensure!(response.starts_with("HTTP/1.0 200 "), "{port}{path}: {response}");
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times)
}

/// Opens a connection that sends nothing, half of a request, or nothing after a response.
fn open_idle(number: u32, port: u16, form: u32) -> Result<TcpStream> {
    let mut stream = connect(number, port)?;
    // The listener may close the connection at any time.
    let _ = match form % 3 {
        0 => Ok(()),
        1 => stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Half: "),
        _ => stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
    };
    Ok(stream)
}

#[test]
fn idle_connections_of_one_client_delay_no_other() -> Result<()> {
    run(|lab: &Lab| {
        let daemon = start(lab)?;
        // Reports the boot sessions of the probes.
        let mut events = connect(8, 6385)?;
        send(&mut events, "/v1/events")?;
        let count = scale(1500, 5000);
        let mut connections = Vec::new();
        for (port, _) in LISTENERS {
            for form in 0..count {
                connections.push(open_idle(7, port, form)?);
            }
        }
        println!("{count} idle connections to each listener");
        probe(9)?;
        // The client itself is served too, and may hold the configured number.
        for (port, _) in LISTENERS {
            ensure!(get(connect(7, port)?, "/healthz")?.ends_with("ok\n"));
        }
        let metrics = get_api("/metrics")?;
        for (_, listener) in LISTENERS {
            let value = |name| {
                Ok::<_, anyhow::Error>(
                    find_metric(&metrics, &format!("{name}{{listener=\"{listener}\"}}"))? as usize
                )
            };
            let open = value("volboot_connections")?;
            ensure!(open <= PER_CLIENT + 3, "{listener}: {open} connections");
            let displaced = value("volboot_connections_displaced")?;
            ensure!(displaced >= count as usize - PER_CLIENT, "{listener}: {displaced} displaced");
        }
        // The event stream is still there.
        let mut lines = BufReader::new(events).lines();
        ensure!(lines.any(|line| line.is_ok_and(|line| line.contains("session_started"))));
        drop((daemon, connections));
        Ok(())
    })
}

/// A connection that stays busy. The server ends it after a time-out: [`BUSY_FOR`].
struct Busy {
    stream: TcpStream,
    port: u16,
}

impl Busy {
    /// Opens one; `None` if the listener refuses it. The boot listener sends a file that is never read; the operator
    /// listener sends events, or waits for a body.
    fn open(number: u32, port: u16, form: usize) -> Result<Option<Self>> {
        let mut stream = connect(number, port)?;
        let request: &[u8] = match port {
            8080 => b"GET /images/snponly.efi HTTP/1.1\r\nHost: x\r\n\r\n",
            _ if form % 2 == 0 => b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n",
            _ => {
                b"POST /v1/nodes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                  Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
            }
        };
        let mut status = String::new();
        // Unbuffered, so that the rest of the response stays in the kernel.
        let read = stream
            .write_all(request)
            .and_then(|()| BufReader::with_capacity(1, &mut stream).read_line(&mut status));
        if let Err(error) = &read {
            // A listener that is slow has not refused.
            let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            ensure!(!is_late, "port {port}: no response within {LIMIT:?}");
        }
        let is_open = read.is_ok() && !status.is_empty();
        ensure!(!is_open || status.contains(" 200 ") || status.contains(" 100 "), "{status}");
        Ok(is_open.then_some(Self { stream, port }))
    }
}

#[test]
fn busy_connections_of_one_client_delay_no_other() -> Result<()> {
    run(|lab: &Lab| {
        let daemon = start(lab)?;
        let count = scale(200, 2000) as usize;
        let mut busy = Vec::new();
        for (port, listener) in LISTENERS {
            let start = Instant::now();
            let connections: Vec<_> =
                (0..count).map(|form| Busy::open(7, port, form)).collect::<Result<_>>()?;
            let opened: Vec<_> = connections.into_iter().flatten().collect();
            // On a slow host, the first ones have reached their time-out, and made room for others.
            let took = start.elapsed();
            let is_exact = took < BUSY_FOR;
            println!("{listener}: {} of {count} busy connections opened in {took:?}", opened.len());
            ensure!(
                opened.len() == PER_CLIENT || opened.len() > PER_CLIENT && !is_exact,
                "{listener}: {} of {count} busy connections were open",
                opened.len()
            );
            let metrics = get_api("/metrics")?;
            let value = |name| {
                Ok::<_, anyhow::Error>(
                    find_metric(&metrics, &format!("{name}{{listener=\"{listener}\"}}"))? as usize
                )
            };
            let open = value("volboot_connections")?;
            ensure!(open <= PER_CLIENT + 3, "{listener}: {open} connections");
            let refused = value("volboot_connections_refused")?;
            ensure!(refused == count - opened.len(), "{listener}: {refused} refused");
            let displaced = value("volboot_connections_displaced")?;
            ensure!(displaced == 0 || !is_exact, "{listener}: {displaced} displaced");
            busy.extend(opened);
        }
        probe(9)?;
        // A busy connection that ends makes room for the next one.
        for (port, _) in LISTENERS {
            let at = busy.iter().position(|busy| busy.port == port);
            let ended: Busy = busy.remove(at.context("no busy connection")?);
            drop(ended.stream);
            let deadline = Instant::now() + LIMIT;
            while Busy::open(7, port, 0)?.is_none() {
                ensure!(Instant::now() < deadline, "port {port}: the place stays taken");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        drop((daemon, busy));
        Ok(())
    })
}
