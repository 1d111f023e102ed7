//! Benchmark of a boot storm: volboot's TFTP server beside dnsmasq, tftpd-hpa and async-tftp.
//!
//! `cargo bench --bench tftp` runs all scenarios; arguments (`storm`, `loss`, `probes`, `dead`, `memory`) select
//! some. All traffic stays on the loopback interface. The measure is the server's processor time as accounted by the
//! operating system, since wall time depends on other load. Servers take turns, and each figure is the median of
//! several turns. The clients compare every byte. At the end, a table compares the figures with their targets.
//!
//! On a machine with other load, run the benchmark under `chrt -f 10`. Without real-time priority, processes that
//! preempt a server between two packets distort its figures.

#![allow(clippy::cast_precision_loss)] // figures in tables

mod baseline;
mod client;
mod servers;
mod targets;

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use client::ClientConfig;
use servers::Server;
use targets::Targets;

const FILE_SIZE: usize = 1 << 20;
/// How long a client waits for its next transfer after it aborted the previous one.
const MAX_WAIT: Duration = Duration::from_secs(20);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [role, name, address, directory] = arguments.as_slice()
        && role == "serve"
    {
        return servers::serve(name, address.parse().expect("an address"), Path::new(directory));
    }
    let is_selected = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    let directory = tempfile::tempdir().expect("a directory");
    let file: Vec<u8> =
        (0..FILE_SIZE as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(directory.path().join("file"), &file).expect("room for the file");
    let mut bench = Bench { file, servers: Server::start_all(directory.path()), targets: Targets::default() };
    bench.check_servers();
    if is_selected("storm") {
        bench.storm();
    }
    if is_selected("loss") {
        bench.loss();
    }
    if is_selected("probes") {
        bench.probes();
    }
    if is_selected("dead") {
        bench.dead_clients();
    }
    if is_selected("memory") {
        bench.memory();
    }
    bench.targets.print();
}

struct Bench {
    file: Vec<u8>,
    servers: Vec<Server>,
    targets: Targets,
}

impl Bench {
    fn check_servers(&self) {
        for server in &self.servers {
            let (_, failures) = self.run_clients(server, ClientConfig::LOCKSTEP, 1, 1);
            assert_eq!(failures, [""; 0], "{} does not serve", server.name);
        }
    }

    fn run_clients(
        &self,
        server: &Server,
        config: ClientConfig,
        transfers: usize,
        clients: usize,
    ) -> (Vec<Duration>, Vec<String>) {
        client::run_clients(server.address, config, &self.file, transfers, clients)
    }

    fn storm(&mut self) {
        println!("\n## Processor time and throughput, 1 MB, blksize 1432, medians of alternating turns\n");
        println!(
            "| windowsize | clients | server | CPU ms per transfer | of dnsmasq's | of baseline | MB/s | of dnsmasq's |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        for (window, clients, transfers, rounds) in [
            (1, 1, 50, 9),
            (1, 8, 100, 9),
            (1, 64, 128, 9),
            (1, 256, 256, 5),
            (4, 64, 192, 9),
            (16, 64, 256, 9),
        ] {
            let results = self.measure_storm(window, clients, transfers, rounds);
            let result_of = |server: &str| results.iter().find(|(name, ..)| *name == server).copied();
            let (dnsmasq, baseline) = (result_of("dnsmasq"), result_of("baseline"));
            for (name, cpu, speed) in &results {
                let share = |figure: f64, reference: Option<f64>| {
                    reference.map_or("–".into(), |reference| format!("{:.2}", figure / reference))
                };
                println!(
                    "| {window} | {clients} | {name} | {cpu:.2} | {} | {} | {speed:.0} | {} |",
                    share(*cpu, dnsmasq.map(|(_, cpu, _)| cpu)),
                    share(*cpu, baseline.map(|(_, cpu, _)| cpu)),
                    share(*speed, dnsmasq.map(|(.., speed)| speed)),
                );
            }
            if let (Some((_, cpu, speed)), Some((_, dnsmasq_cpu, dnsmasq_speed))) =
                (result_of("volboot"), dnsmasq)
            {
                let (max_cpu, min_speed) = match window {
                    1 => (0.95, 1.0),
                    4 => (0.50, 1.0),
                    _ => (0.40, 1.0),
                };
                let case = format!("windowsize {window}, {clients} clients");
                let name = format!("{case}: CPU, share of dnsmasq's");
                self.targets.at_most(&name, cpu / dnsmasq_cpu, max_cpu);
                let name = format!("{case}: throughput, share of dnsmasq's");
                self.targets.at_least(&name, speed / dnsmasq_speed, min_speed);
            }
        }
    }

    /// Returns the name, the milliseconds of processor time per transfer and the MB/s of each server.
    fn measure_storm(
        &self,
        window: u16,
        clients: usize,
        transfers: usize,
        rounds: usize,
    ) -> Vec<(&'static str, f64, f64)> {
        let config = ClientConfig { window_size: window, ..ClientConfig::LOCKSTEP };
        let mut turns = vec![(Vec::new(), Vec::new()); self.servers.len()];
        for _ in 0..rounds {
            for (server, (cpus, times)) in self.servers.iter().zip(&mut turns) {
                let (cpu, started_at) = (server.cpu(), Instant::now());
                let (_, failures) = self.run_clients(server, config, transfers, clients);
                times.push(started_at.elapsed());
                cpus.push(server.cpu().saturating_sub(cpu) / transfers as u32);
                assert_eq!(failures, [""; 0], "{} failed on a clean link", server.name);
            }
        }
        let medians = self.servers.iter().zip(turns).map(|(server, (cpus, times))| {
            let speed = (transfers * FILE_SIZE) as f64 / 1e6 / median(times).as_secs_f64();
            (server.name, median(cpus).as_secs_f64() * 1e3, speed)
        });
        medians.collect()
    }

    fn loss(&mut self) {
        println!("\n## 2 % of packets lost each way, 1 MB, blksize 1432, 100 concurrent clients\n");
        let mut results = Vec::new();
        println!("| windowsize | server | transfers | failed | median s | p99 s |");
        println!("|---|---|---|---|---|---|");
        for (window, volboot_transfers, other_transfers) in [(1, 100, 100), (16, 1000, 100)] {
            let config = ClientConfig { window_size: window, loss: 0.02, ..ClientConfig::LOCKSTEP };
            for server in self.real_servers() {
                if window > 1 && !matches!(server.name, "volboot" | "async-tftp") {
                    continue;
                }
                let transfers = if server.name == "volboot" { volboot_transfers } else { other_transfers };
                let (times, failures) = self.run_clients(server, config, transfers, 100);
                let (median, p99) = (percentile(&times, 50), percentile(&times, 99));
                results.push((server.name, window, failures.len(), p99));
                println!(
                    "| {window} | {} | {transfers} | {} | {median:.2} | {p99:.2} |",
                    server.name,
                    failures.len()
                );
            }
        }
        let result_of = |server: &str, window| {
            results.iter().find(|(name, window_size, ..)| (*name, *window_size) == (server, window))
        };
        if let (Some((.., p99)), Some((.., dnsmasq_p99))) = (result_of("volboot", 1), result_of("dnsmasq", 1))
        {
            self.targets.at_most("2 % loss, lockstep: p99, share of dnsmasq's", p99 / dnsmasq_p99, 0.5);
        }
        if let Some((_, _, failed, _)) = result_of("volboot", 16) {
            self.targets.at_most("2 % loss, windowsize 16: failed of 1000", *failed as f64, 0.0);
        }
    }

    fn probes(&mut self) {
        let mut result = None;
        println!("\n## Aborted size probes, as UEFI firmware sends them\n");
        println!(
            "| server | descriptors, threads and processes left 1 s after 300 | wait for a transfer from the probe's port |"
        );
        println!("|---|---|---|");
        for server in self.real_servers() {
            let before = server.resource_count();
            for _ in 0..300 {
                probe(&client::socket(), server.address);
            }
            thread::sleep(Duration::from_secs(1));
            let left = server.resource_count().saturating_sub(before);
            let socket = client::socket();
            probe(&socket, server.address);
            let started_at = Instant::now();
            socket
                .send_to(b"\0\x01file\0octet\0blksize\x001468\0", server.address)
                .expect("a route to the server");
            socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a read time-out");
            let mut response = [0; 2048];
            let expected = b"\0\x06blksize\x001468\0";
            let wait = loop {
                match socket.recv_from(&mut response) {
                    // Some servers retransmit the response to the probe.
                    Ok((length, _))
                        if response[..length] != expected[..] && started_at.elapsed() < MAX_WAIT => {}
                    _ => break started_at.elapsed(),
                }
            };
            let prefix = if wait < MAX_WAIT { "" } else { "more than " };
            println!("| {} | {left} | {prefix}{:.1} ms |", server.name, wait.as_secs_f64() * 1e3);
            if server.name == "volboot" {
                result = Some((left, wait));
            }
        }
        if let Some((left, wait)) = result {
            self.targets.at_most("300 aborted probes: left after 1 s", left as f64, 0.0);
            // Less than any timer: the minimum RTO is 100 ms.
            let wait = wait.as_secs_f64() * 1e3;
            self.targets.at_most("probe and transfer from one port: ms until the response", wait, 50.0);
        }
    }

    fn dead_clients(&mut self) {
        println!("\n## 100 live clients, lockstep, beside 1000 that were switched off after their request\n");
        let mut result = None;
        println!("| server | alone: median s | p99 s | beside the dead: median s | p99 s | failed |");
        println!("|---|---|---|---|---|---|");
        for server in self.real_servers() {
            let (alone, _) = self.run_clients(server, ClientConfig::LOCKSTEP, 1000, 100);
            let dead: Vec<_> = (1..=1000).map(client::socket_at).collect();
            for socket in &dead {
                socket
                    .send_to(&ClientConfig::LOCKSTEP.request(), server.address)
                    .expect("a route to the server");
            }
            let (beside, failures) = self.run_clients(server, ClientConfig::LOCKSTEP, 1000, 100);
            println!(
                "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
                server.name,
                percentile(&alone, 50),
                percentile(&alone, 99),
                percentile(&beside, 50),
                percentile(&beside, 99),
                failures.len(),
            );
            if server.name == "volboot" {
                result = Some((percentile(&beside, 50) / percentile(&alone, 50), failures.len()));
            }
        }
        if let Some((slowdown, failed)) = result {
            // Other load on the machine alone makes two identical runs differ by more than a tenth.
            let name = "100 live beside 1000 dead clients: median, share of that alone";
            self.targets.at_most(name, slowdown, 1.25);
            self.targets.at_most("100 live beside 1000 dead clients: failed", failed as f64, 0.0);
        }
    }

    fn memory(&mut self) {
        const RUNNING: u16 = 2000;
        let mut result = None;
        println!("\n## Memory while {RUNNING} transfers run, each after its first block\n");
        println!("| server | kB per transfer |");
        println!("|---|---|");
        for server in
            self.real_servers().filter(|server| matches!(server.name, "volboot" | "dnsmasq" | "async-tftp"))
        {
            let before = server.resident();
            let clients: Vec<_> = (0..RUNNING)
                .filter_map(|number| {
                    let socket = client::socket_at(number);
                    let from = request_size(&socket, server.address)?;
                    socket.send_to(&[0, 4, 0, 0], from).ok()?;
                    Some(socket)
                })
                .collect();
            let used = server.resident().saturating_sub(before);
            let per_transfer = used as f64 / 1000.0 / clients.len() as f64;
            println!("| {} | {per_transfer:.1} |", server.name);
            if server.name == "volboot" {
                result = Some(per_transfer);
            }
        }
        if let Some(per_transfer) = result {
            self.targets.at_most("kB per running transfer", per_transfer, 10.0);
        }
    }

    fn real_servers(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| !server.name.starts_with("baseline"))
    }
}

/// Requests the size of the file and aborts the transfer.
fn probe(socket: &std::net::UdpSocket, server: SocketAddr) {
    if let Some(from) = request_size(socket, server) {
        socket.send_to(b"\0\x05\0\x08User aborted the transfer\0", from).expect("a route to the server");
    }
}

/// Requests the size of the file; returns the source address of the response.
fn request_size(socket: &std::net::UdpSocket, server: SocketAddr) -> Option<SocketAddr> {
    socket.send_to(&ClientConfig::LOCKSTEP.request(), server).expect("a route to the server");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a read time-out");
    socket.recv_from(&mut [0; 2048]).ok().map(|(_, from)| from)
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(f64::NAN, Duration::as_secs_f64)
}
