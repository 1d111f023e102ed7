//! Floods from the network: idle connections, and names without a limit. Other clients and the host must not notice.
//!
//! The short forms are bounded for CI. `VOLBOOT_FLOODS=full` runs the long ones (CONTRIBUTING.md).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;
use parking_lot::Mutex;

use crate::lab::daemon::{Daemon, store_path};
use crate::lab::host::Host;
use crate::lab::network::{SERVER, bridge, ip, set_parameter};
use crate::lab::{Lab, run};

const BINARY: &str = env!("CARGO_BIN_EXE_volboot");
/// The time-out of one read.
const LIMIT: Duration = Duration::from_secs(20);
/// Requests of a client beside the flood, of which 95 % must take a second at most.
const PROBES: usize = 20;
/// Requests that the rate limit allows an address at once.
const BURST: u32 = 30;

/// The short number, or the one of the long form.
fn scale(short: u32, full: u32) -> u32 {
    if std::env::var("VOLBOOT_FLOODS").is_ok_and(|form| form == "full") { full } else { short }
}

/// Gives this host the addresses of many clients.
fn add_clients() -> Result<()> {
    ip(&["route", "add", "local", "10.128.0.0/9", "dev", "lo"])
}

fn client(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a80_0001 + number)
}

/// Connects from the address of a client.
fn connect(number: u32, port: u16) -> Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((client(number), 0)).into())?;
    socket.connect_timeout(&SocketAddr::from((SERVER, port)).into(), LIMIT)?;
    socket.set_read_timeout(Some(LIMIT))?;
    Ok(socket.into())
}

/// Sends a request, and reads the whole response.
fn get(mut stream: TcpStream, path: &str) -> Result<String> {
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}

fn get_api(path: &str) -> Result<String> {
    let stream = TcpStream::connect("127.0.0.1:6385")?;
    stream.set_read_timeout(Some(LIMIT))?;
    get(stream, path)
}

/// The resident memory of a process, in megabytes.
fn resident_memory(pid: Pid) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1000)
}

fn file_size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path)?.len())
}

#[test]
fn idle_connections_of_one_client_delay_no_other() -> Result<()> {
    run(|lab: &Lab| {
        add_clients()?;
        let daemon = Daemon::start(lab, Path::new(BINARY), "", None)?;
        let mut events = TcpStream::connect("127.0.0.1:6385")?;
        events.set_read_timeout(Some(LIMIT))?;
        write!(events, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let connections: Vec<_> = (0..scale(1500, 5000)).map(|_| connect(7, 8080)).collect::<Result<_>>()?;
        let mut times = Vec::new();
        for _ in 0..PROBES {
            let start = Instant::now();
            let response = get(connect(9, 8080)?, "/boot.ipxe")?;
            ensure!(response.starts_with("HTTP/1.0 200 "), "{response}");
            times.push(start.elapsed());
        }
        times.sort();
        let p95 = times[PROBES * 95 / 100 - 1];
        println!("{} idle connections: p95 of another client {p95:?}", connections.len());
        ensure!(p95 <= Duration::from_secs(1), "{times:?}");
        // The client itself is served too, and may hold the configured number.
        ensure!(get(connect(7, 8080)?, "/healthz")?.ends_with("ok\n"));
        let metrics = get_api("/metrics")?;
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)).context("no such metric")?;
            Ok::<_, anyhow::Error>(line.trim().parse::<usize>()?)
        };
        ensure!(value("volboot_connections{listener=\"http\"}")? <= 66, "{metrics}");
        let displaced = value("volboot_connections_displaced{listener=\"http\"}")?;
        ensure!(displaced >= connections.len() - 64, "{metrics}");
        // The event stream is still there: it reports the boot sessions.
        let mut lines = BufReader::new(events).lines();
        ensure!(lines.any(|line| line.is_ok_and(|line| line.contains("session_started"))));
        drop(daemon);
        Ok(())
    })
}

/// Requests the first script of a boot session over one connection; returns how often it was sent.
fn request_first_scripts(number: u32, requests: u32) -> Result<u32> {
    let mut stream = connect(number, 8080)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut sent = 0;
    for request in 0..requests {
        let name = if request % 2 == 0 { "boot.ipxe" } else { "autoexec.ipxe" };
        send(&mut stream, &format!("/{name}"))?;
        let status = read_response(&mut reader)?;
        ensure!(status.contains(" 200 ") || status.contains(" 429 "), "{status}");
        sent += u32::from(status.contains(" 200 "));
    }
    Ok(sent)
}

#[test]
fn first_scripts_are_limited_for_a_flood_and_not_for_a_rack() -> Result<()> {
    run(|lab: &Lab| {
        add_clients()?;
        let daemon = Daemon::start(lab, Path::new(BINARY), "", None)?;
        let start = Instant::now();
        let requests = scale(500, 10_000);
        let flood: Vec<_> =
            (0..8).map(|_| thread::spawn(move || request_first_scripts(7, requests))).collect();
        // Meanwhile, 32 machines behind another address ask twice each.
        let rack: Vec<_> = (0..32).map(|_| thread::spawn(|| request_first_scripts(9, 2))).collect();
        for machine in rack {
            ensure!(machine.join().expect("no panic")? == 2, "a machine of the rack is limited");
        }
        let sent = flood.into_iter().map(|worker| worker.join().expect("no panic")).sum::<Result<u32>>()?;
        let seconds = start.elapsed().as_secs() as u32 + 1;
        println!("{} requests in {seconds} s: {sent} scripts sent", 8 * requests);
        ensure!(sent <= 128 + 2 * seconds, "{sent} scripts in {seconds} s");
        let metrics = get_api("/metrics")?;
        let limited = metrics
            .lines()
            .find_map(|line| line.strip_prefix("volboot_http_rejections_total{reason=\"rate_limit\"} "));
        ensure!(limited.context("no such metric")?.parse::<u32>()? == 8 * requests - sent, "{metrics}");
        drop(daemon);
        Ok(())
    })
}

/// Requests of the flood, and the seconds that they take at least.
const FORGED: u32 = 1000;
const FORGED_SECONDS: u32 = 2;

#[test]
fn forged_sources_without_a_route_fill_no_log() -> Result<()> {
    run(|lab: &Lab| {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&lines);
        let count_line = move |line: &str| log.lock().push(line.to_owned());
        let daemon = Daemon::start(lab, Path::new(BINARY), "", Some(Box::new(count_line)))?;
        let before = lines.lock().len();
        // The kernel must not drop the requests for their source.
        for interface in ["all", bridge()] {
            set_parameter(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
        }
        let forger = Host::connect("forger", "52:54:00:12:34:98")?;
        forger.ip("address add 10.99.0.8/24 dev eth0")?;
        forger.ip("route add local 172.16.0.0/16 dev lo")?;
        let start = Instant::now();
        let interval = Duration::from_secs(FORGED_SECONDS.into()) / FORGED;
        forger.request_missing_files((SERVER, 69).into(), Ipv4Addr::new(172, 16, 1, 1), FORGED, interval)?;
        // The end of every request is counted.
        let ended = || {
            let metrics = get_api("/metrics")?;
            let prefix = "volboot_tftp_transfers_total{outcome=\"not_found\"} ";
            let count = metrics.lines().find_map(|line| line.strip_prefix(prefix)).map(str::parse);
            Ok::<u32, anyhow::Error>(count.transpose()?.unwrap_or(0))
        };
        while ended()? < FORGED {
            ensure!(start.elapsed() < LIMIT, "{} of {FORGED} requests arrived", ended()?);
            thread::sleep(Duration::from_millis(50));
        }
        let seconds = start.elapsed().as_secs() + 1;
        let lines = lines.lock().split_off(before);
        println!("{FORGED} requests from as many sources in {seconds} s: {} log lines", lines.len());
        let faults = lines.iter().filter(|line| line.contains("neighbour table")).count();
        ensure!(faults == 0, "{faults} errors of the neighbour table");
        ensure!(lines.len() as u64 <= 11 * (seconds + 1), "{lines:#?}");
        drop(daemon);
        Ok(())
    })
}

#[test]
fn names_without_a_limit_fill_neither_memory_nor_history() -> Result<()> {
    run(|lab: &Lab| {
        add_clients()?;
        let daemon = Daemon::start(lab, Path::new(BINARY), "", None)?;
        let history = store_path(lab).with_file_name("history.redb");
        let before = file_size(&history)?;
        let clients = scale(200, 1000);
        let requests = scale(40, 200);
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                thread::spawn(move || {
                    (worker..clients).step_by(8).try_for_each(|number| request_names(number, requests))
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("no panic")?;
        }
        let datagrams = scale(20_000, 150_000);
        for number in 0..datagrams {
            let socket = UdpSocket::bind((client(number % 100_000), 0))?;
            let name = format!("{number}-{}", "y".repeat(1400));
            socket.send_to(format!("\0\u{1}{name}\0octet\0").as_bytes(), (SERVER, 69))?;
        }
        let machines = get_api("/v1/machines?limit=1000")?;
        ensure!(!machines.contains(&"x".repeat(129)) && !machines.contains(&"y".repeat(129)));
        let (memory, grown) = (resident_memory(daemon.pid())?, file_size(&history)? - before);
        println!(
            "{clients} clients, {datagrams} datagrams: {memory} MB resident, history grown by {grown} bytes"
        );
        ensure!(memory <= 96, "{memory} MB");
        ensure!(grown < 64_000_000, "{grown} bytes");
        let metrics = get_api("/metrics")?;
        ensure!(metrics.contains("volboot_http_rejections_total{reason=\"rate_limit\"}"), "{metrics}");
        Ok(())
    })
}

/// Requests files with long names over one connection. After the burst, the rate limit answers.
fn request_names(number: u32, requests: u32) -> Result<()> {
    let mut stream = connect(number, 8080)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    for request in 0..requests {
        let name = format!("{number}-{request}-{}", "x".repeat(15_000));
        send(&mut stream, &format!("/images/{name}.efi"))?;
        let status = read_response(&mut reader)?;
        ensure!(status.contains(" 404 ") || status.contains(" 429 "), "{status}");
    }
    Ok(())
}

#[test]
fn random_mac_addresses_do_not_fill_the_memory() -> Result<()> {
    run(|lab: &Lab| {
        add_clients()?;
        let daemon = Daemon::start(lab, Path::new(BINARY), "", None)?;
        let clients = scale(500, 45_000);
        let workers: Vec<_> = (0..4)
            .map(|worker| thread::spawn(move || (worker..clients).step_by(4).try_for_each(request_scripts)))
            .collect();
        for worker in workers {
            worker.join().expect("no panic")?;
        }
        let history = file_size(&store_path(lab).with_file_name("history.redb"))?;
        let memory = resident_memory(daemon.pid())?;
        println!("{} random MACs: {memory} MB resident, history {history} bytes", clients * BURST);
        ensure!(memory <= 96, "{memory} MB");
        ensure!(history < 64_000_000, "{history} bytes");
        Ok(())
    })
}

/// Requests the scripts of as many machines as the rate limit allows an address.
fn request_scripts(number: u32) -> Result<()> {
    let mut stream = connect(number, 8080)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    for request in 0..BURST {
        let [_, a, b, c] = (number * BURST + request).to_be_bytes();
        let mac = format!("02-{:02x}-{a:02x}-{b:02x}-{c:02x}-01", number >> 16);
        send(&mut stream, &format!("/boot/{mac}?journey={number}-{request}"))?;
        ensure!(read_response(&mut reader)?.contains(" 200 "));
    }
    Ok(())
}

/// Sends a request in one segment: the kernel would hold a second one back until the first is acknowledged.
fn send(stream: &mut TcpStream, path: &str) -> Result<()> {
    Ok(stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?)
}

/// Reads a response of an open connection; returns its status line.
fn read_response(reader: &mut BufReader<TcpStream>) -> Result<String> {
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let (mut line, mut length) = (status.clone(), 0);
    while !line.trim().is_empty() {
        line.clear();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    Ok(status)
}
