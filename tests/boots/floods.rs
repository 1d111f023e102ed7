//! Floods of requests: scripts, forged sources, names without a limit, random MAC addresses. Neither memory, nor
//! history, nor log may grow without a bound.
//!
//! The short forms are bounded for CI. `VOLBOOT_FLOODS=full` runs the long ones (CONTRIBUTING.md).

use std::io::BufReader;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;
use parking_lot::Mutex;

use crate::flood_clients::{
    LIMIT, add_clients, client, connect, find_metric, get_api, read_response, scale, send,
};
use crate::lab::daemon::{Daemon, store_path};
use crate::lab::host::Host;
use crate::lab::network::{SERVER, bridge, set_parameter};
use crate::lab::{Lab, run};

const BINARY: &str = env!("CARGO_BIN_EXE_volboot");
/// Requests that the rate limit allows an address at once.
const BURST: u32 = 30;
/// Parts of the flood of MAC addresses, with a figure after each.
const PARTS: u32 = 10;

/// The resident memory of a process, in megabytes.
fn resident_memory(pid: Pid) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1000)
}

fn file_size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path)?.len())
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
        let limited =
            find_metric(&get_api("/metrics")?, "volboot_http_rejections_total{reason=\"rate_limit\"}")?;
        ensure!(limited == 8 * requests - sent, "{limited} requests limited");
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
            let name = "volboot_tftp_transfers_total{outcome=\"not_found\"}";
            // Before the first request, there is no such metric.
            Ok::<_, anyhow::Error>(find_metric(&get_api("/metrics")?, name).unwrap_or(0))
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
        let log_size = Arc::new(AtomicUsize::new(0));
        let size = Arc::clone(&log_size);
        let count_bytes = move |line: &str| {
            size.fetch_add(line.len() + 1, Ordering::Relaxed);
        };
        let daemon = Daemon::start(lab, Path::new(BINARY), "", Some(Box::new(count_bytes)))?;
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
        let log_size = log_size.load(Ordering::Relaxed);
        println!(
            "{clients} clients, {datagrams} datagrams: {memory} MB resident, history grown by {grown} bytes, log {log_size} bytes"
        );
        ensure!(log_size < 5_000_000, "{log_size} bytes of log");
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
        let part = scale(50, 4500);
        let (mut memory, mut history) = (0, 0);
        for number in 0..PARTS {
            let (first, end) = (part * number, part * (number + 1));
            let request = move |worker| {
                thread::spawn(move || (first + worker..end).step_by(4).try_for_each(request_scripts))
            };
            for worker in (0..4).map(request).collect::<Vec<_>>() {
                worker.join().expect("no panic")?;
            }
            memory = resident_memory(daemon.pid())?;
            history = file_size(&store_path(lab).with_file_name("history.redb"))?;
            println!("{} random MACs: {memory} MB resident, history {history} bytes", end * BURST);
        }
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
