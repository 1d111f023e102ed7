//! Floods of connections, idle and busy, to both HTTP listeners: other clients must not notice.
//!
//! The short forms are bounded for CI. `VOLBOOT_FLOODS=full` runs the long ones (CONTRIBUTING.md).

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::flood_clients::{add_clients, connect, find_metric, get, get_api, scale, send};
use crate::lab::daemon::Daemon;
use crate::lab::{Lab, run};

const BINARY: &str = env!("CARGO_BIN_EXE_volboot");
/// The ports of the boot listener and the operator listener, with their names in metrics.
const LISTENERS: [(u16, &str); 2] = [(8080, "http"), (6385, "api")];
/// Requests of a client beside the flood.
const PROBED: [(u16, &str); 5] =
    [(8080, "/boot.ipxe"), (8080, "/healthz"), (6385, "/v1"), (6385, "/healthz"), (6385, "/readyz")];
/// How often each is sent; 95 % must take a second at most.
const PROBES: usize = 20;
/// `connections_per_client`, by default.
const PER_CLIENT: usize = 64;
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

/// Sends every probe in turn from the address of a client, and checks the times.
fn probe(number: u32) -> Result<()> {
    let mut slowest = Duration::ZERO;
    for (port, path) in PROBED {
        let mut times = Vec::new();
        for _ in 0..PROBES {
            let start = Instant::now();
            let response = get(connect(number, port)?, path)?;
            ensure!(response.starts_with("HTTP/1.0 200 "), "{port}{path}: {response}");
            times.push(start.elapsed());
        }
        times.sort();
        let p95 = times[PROBES * 95 / 100 - 1];
        ensure!(p95 <= Duration::from_secs(1), "{port}{path}: {times:?}");
        slowest = slowest.max(p95);
    }
    println!("p95 of another client: {slowest:?}");
    Ok(())
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

/// Opens a connection that stays busy; `None` if the listener refuses it. The boot listener sends a file that is never
/// read; the operator listener sends events, or waits for a body.
fn open_busy(number: u32, port: u16, form: usize) -> Result<Option<TcpStream>> {
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
    let is_open = stream.write_all(request).is_ok()
        // Unbuffered, so that the rest of the response stays in the kernel.
        && BufReader::with_capacity(1, &mut stream).read_line(&mut status).is_ok()
        && !status.is_empty();
    ensure!(!is_open || status.contains(" 200 ") || status.contains(" 100 "), "{status}");
    Ok(is_open.then_some(stream))
}

#[test]
fn busy_connections_of_one_client_delay_no_other() -> Result<()> {
    run(|lab: &Lab| {
        let daemon = start(lab)?;
        let count = scale(200, 2000) as usize;
        let mut busy = Vec::new();
        for (port, listener) in LISTENERS {
            let connections: Vec<_> =
                (0..count).map(|form| open_busy(7, port, form)).collect::<Result<_>>()?;
            let open = connections.iter().flatten().count();
            ensure!(open == PER_CLIENT, "{listener}: {open} of {count} busy connections are open");
            busy.extend(connections);
        }
        println!("{PER_CLIENT} of {count} busy connections to each listener are open");
        probe(9)?;
        let metrics = get_api("/metrics")?;
        for (_, listener) in LISTENERS {
            let label = format!("{{listener=\"{listener}\"}}");
            let refused = find_metric(&metrics, &format!("volboot_connections_refused{label}"))? as usize;
            ensure!(refused == count - PER_CLIENT, "{listener}: {refused} refused");
            let displaced = find_metric(&metrics, &format!("volboot_connections_displaced{label}"))?;
            ensure!(displaced == 0, "{listener}: {displaced} displaced");
        }
        // A busy connection that ends makes room for the next one.
        for (port, _) in LISTENERS {
            let at = busy.iter().position(|stream: &Option<TcpStream>| {
                stream.as_ref().is_some_and(|stream| stream.peer_addr().is_ok_and(|to| to.port() == port))
            });
            drop(busy.remove(at.context("no busy connection")?));
            let deadline = Instant::now() + Duration::from_secs(20);
            while open_busy(7, port, 0)?.is_none() {
                ensure!(Instant::now() < deadline, "port {port}: the place stays taken");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        drop((daemon, busy));
        Ok(())
    })
}
