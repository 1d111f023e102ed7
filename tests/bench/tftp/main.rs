//! What a boot storm costs: volboot's TFTP engine beside dnsmasq, tftpd-hpa and async-tftp, in one run.
//!
//! `cargo bench --bench tftp` runs all; names of scenarios (`storm`, `loss`, `probes`, `dead`, `memory`) choose. All
//! traffic stays on the loopback interface. What counts is the server's processor time as the operating system
//! accounts it: time on the wall depends on the neighbours. Servers take turns, each figure is the median of
//! several turns, and every byte that arrives is compared.

#![allow(clippy::cast_precision_loss)] // figures for people

mod bare;
mod client;
mod servers;

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use client::Wish;
use servers::Server;

const FILE: usize = 1 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [role, name, address, directory] = arguments.as_slice()
        && role == "serve"
    {
        return servers::serve(name, address.parse().expect("an address"), Path::new(directory));
    }
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    let directory = tempfile::tempdir().expect("a directory");
    let file: Vec<u8> = (0..FILE as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(directory.path().join("file"), &file).expect("room for the file");
    let bench = Bench { file, servers: Server::start_all(directory.path()) };
    bench.wait_until_all_answer();
    if wanted("storm") {
        bench.storm();
    }
    if wanted("loss") {
        bench.loss();
    }
    if wanted("probes") {
        bench.probes();
    }
    if wanted("dead") {
        bench.dead_clients();
    }
    if wanted("memory") {
        bench.memory();
    }
}

struct Bench {
    file: Vec<u8>,
    servers: Vec<Server>,
}

impl Bench {
    fn wait_until_all_answer(&self) {
        for server in &self.servers {
            let (_, faults) = self.swarm(server, Wish::LOCKSTEP, 1, 1);
            assert_eq!(faults, [""; 0], "{} does not serve", server.name);
        }
    }

    fn swarm(
        &self,
        server: &Server,
        wish: Wish,
        transfers: usize,
        clients: usize,
    ) -> (Vec<Duration>, Vec<String>) {
        client::swarm(server.address, wish, &self.file, transfers, clients)
    }

    fn storm(&self) {
        const ROUNDS: usize = 5;
        println!("\n## Processor time and throughput, 1 MB, blksize 1432, median of {ROUNDS}\n");
        println!(
            "| windowsize | clients | server | CPU ms per transfer | share of dnsmasq's | MB/s | share |"
        );
        println!("|---|---|---|---|---|---|---|");
        // The fewer clients, the more often a server sleeps and is woken, which costs more than a packet.
        for (window, clients, transfers) in
            [(1, 4, 200), (1, 16, 200), (1, 64, 200), (4, 64, 300), (16, 64, 400)]
        {
            let wish = Wish { window, ..Wish::LOCKSTEP };
            let mut turns = vec![Vec::new(); self.servers.len()];
            for _ in 0..ROUNDS {
                for (server, turns) in self.servers.iter().zip(&mut turns) {
                    let (cpu, began) = (server.cpu(), Instant::now());
                    let (_, faults) = self.swarm(server, wish, transfers, clients);
                    let took = began.elapsed();
                    assert_eq!(faults, [""; 0], "{} failed on a clean line", server.name);
                    turns.push((server.cpu().saturating_sub(cpu) / transfers as u32, took));
                }
            }
            let medians: Vec<_> = turns
                .into_iter()
                .map(|turns| {
                    let (cpu, took): (Vec<_>, Vec<_>) = turns.into_iter().unzip();
                    let speed = (transfers * FILE) as f64 / 1e6 / median(took).as_secs_f64();
                    (median(cpu).as_secs_f64() * 1e3, speed)
                })
                .collect();
            let dnsmasq =
                self.servers.iter().position(|server| server.name == "dnsmasq").map(|at| medians[at]);
            for (server, (cpu, speed)) in self.servers.iter().zip(&medians) {
                let share = |ours: f64, theirs: Option<f64>| {
                    theirs.map_or("–".into(), |it| format!("{:.2}", ours / it))
                };
                let (cpu_share, speed_share) =
                    (share(*cpu, dnsmasq.map(|it| it.0)), share(*speed, dnsmasq.map(|it| it.1)));
                println!(
                    "| {window} | {clients} | {} | {cpu:.2} | {cpu_share} | {speed:.0} | {speed_share} |",
                    server.name
                );
            }
        }
    }

    fn loss(&self) {
        println!("\n## 2 % of packets lost each way, 1 MB, blksize 1432, 100 clients at once\n");
        println!("| windowsize | server | transfers | failed | median s | p99 s |");
        println!("|---|---|---|---|---|---|");
        for (window, ours, theirs) in [(1, 100, 100), (16, 1000, 100)] {
            let wish = Wish { window, loss: 0.02, ..Wish::LOCKSTEP };
            for server in self.real_servers() {
                if window > 1 && !matches!(server.name, "volboot" | "async-tftp") {
                    continue;
                }
                let transfers = if server.name == "volboot" { ours } else { theirs };
                let (times, faults) = self.swarm(server, wish, transfers, 100);
                let (half, slow) = (percentile(&times, 50), percentile(&times, 99));
                println!(
                    "| {window} | {} | {transfers} | {} | {half:.2} | {slow:.2} |",
                    server.name,
                    faults.len()
                );
            }
        }
    }

    fn probes(&self) {
        println!("\n## Probes for the size that are broken off, as UEFI firmware does\n");
        println!(
            "| server | descriptors, threads and processes left 1 s after 300 | transfer from the probe's port waits |"
        );
        println!("|---|---|---|");
        for server in self.real_servers() {
            let before = server.things();
            for _ in 0..300 {
                probe(&client::socket(), server.address);
            }
            thread::sleep(Duration::from_secs(1));
            let left = server.things().saturating_sub(before);
            let socket = client::socket();
            probe(&socket, server.address);
            let began = Instant::now();
            socket
                .send_to(b"\0\x01file\0octet\0blksize\x001468\0", server.address)
                .expect("a way to the server");
            socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a wait");
            let mut answer = [0; 2048];
            let expected = b"\0\x06blksize\x001468\0";
            let wait = loop {
                match socket.recv_from(&mut answer) {
                    Ok((length, _)) if answer[..length] == expected[..] => {
                        break format!("{:.1?}", began.elapsed());
                    }
                    Ok(_) => {}
                    Err(_) => break "over 10 s".into(),
                }
            };
            println!("| {} | {left} | {wait} |", server.name);
        }
    }

    fn dead_clients(&self) {
        println!("\n## 100 live clients, lockstep, beside 1000 that were switched off after their request\n");
        println!("| server | alone: median s | p99 s | beside the dead: median s | p99 s | failed |");
        println!("|---|---|---|---|---|---|");
        for server in self.real_servers() {
            let (alone, _) = self.swarm(server, Wish::LOCKSTEP, 100, 100);
            let dead: Vec<_> = (0..1000).map(|_| client::socket()).collect();
            for socket in &dead {
                socket.send_to(&Wish::LOCKSTEP.request(), server.address).expect("a way to the server");
            }
            let (beside, faults) = self.swarm(server, Wish::LOCKSTEP, 100, 100);
            println!(
                "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
                server.name,
                percentile(&alone, 50),
                percentile(&alone, 99),
                percentile(&beside, 50),
                percentile(&beside, 99),
                faults.len(),
            );
        }
    }

    fn memory(&self) {
        const RUNNING: u64 = 2000;
        println!("\n## Memory while {RUNNING} transfers run, each after its first block\n");
        println!("| server | kB per transfer |");
        println!("|---|---|");
        for server in
            self.real_servers().filter(|server| matches!(server.name, "volboot" | "dnsmasq" | "async-tftp"))
        {
            let before = server.resident();
            let clients: Vec<_> = (0..RUNNING)
                .filter_map(|_| {
                    let socket = client::socket();
                    let from = probe_answer(&socket, server.address)?;
                    socket.send_to(&[0, 4, 0, 0], from).ok()?;
                    Some(socket)
                })
                .collect();
            let used = server.resident().saturating_sub(before);
            println!("| {} | {:.1} |", server.name, used as f64 / 1000.0 / clients.len() as f64);
        }
    }

    fn real_servers(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| server.name != "bare")
    }
}

/// Asks for the size, takes the answer and breaks off.
fn probe(socket: &std::net::UdpSocket, server: SocketAddr) {
    if let Some(from) = probe_answer(socket, server) {
        socket.send_to(b"\0\x05\0\x08User aborted the transfer\0", from).expect("a way to the server");
    }
}

/// Where the answer to a request came from.
fn probe_answer(socket: &std::net::UdpSocket, server: SocketAddr) -> Option<SocketAddr> {
    socket.send_to(&Wish::LOCKSTEP.request(), server).expect("a way to the server");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a wait");
    socket.recv_from(&mut [0; 2048]).ok().map(|(_, from)| from)
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, Duration::as_secs_f64)
}
