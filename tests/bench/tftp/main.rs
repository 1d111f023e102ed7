//! What a boot storm costs: volboot's TFTP engine beside dnsmasq, tftpd-hpa and async-tftp, in one run.
//!
//! `cargo bench --bench tftp` runs all; names of scenarios (`storm`, `loss`, `probes`, `dead`, `memory`) choose. All
//! traffic stays on the loopback interface. What counts is the server's processor time as the operating system
//! accounts it: time on the wall depends on the neighbours. Servers take turns, each figure is the median of
//! several turns, and every byte that arrives is compared. At the end stands what was to be reached.
//!
//! On a machine with other work, `chrt -f 10` before it gives both sides the processor when they ask for it: figures of
//! servers that are pushed aside between two packets say more about the neighbours.

#![allow(clippy::cast_precision_loss)] // figures for people

mod bar;
mod bare;
mod client;
mod servers;

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use bar::Bar;
use client::Wish;
use servers::Server;

const FILE: usize = 1 << 20;
/// How long a client that broke off a transfer is ready to wait for its next one.
const PATIENCE: Duration = Duration::from_secs(20);

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
    let mut bench = Bench { file, servers: Server::start_all(directory.path()), bar: Bar::default() };
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
    bench.bar.print();
}

struct Bench {
    file: Vec<u8>,
    servers: Vec<Server>,
    bar: Bar,
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

    fn storm(&mut self) {
        println!("\n## Processor time and throughput, 1 MB, blksize 1432, medians of alternating turns\n");
        println!(
            "| windowsize | clients | server | CPU ms per transfer | of dnsmasq's | of bare | MB/s | of dnsmasq's |"
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
            let measured = self.storm_of(window, clients, transfers, rounds);
            let of = |name: &str| measured.iter().find(|(of, ..)| *of == name).copied();
            let (dnsmasq, bare) = (of("dnsmasq"), of("bare"));
            for (name, cpu, speed) in &measured {
                let share = |ours: f64, theirs: Option<f64>| {
                    theirs.map_or("–".into(), |it| format!("{:.2}", ours / it))
                };
                println!(
                    "| {window} | {clients} | {name} | {cpu:.2} | {} | {} | {speed:.0} | {} |",
                    share(*cpu, dnsmasq.map(|it| it.1)),
                    share(*cpu, bare.map(|it| it.1)),
                    share(*speed, dnsmasq.map(|it| it.2)),
                );
            }
            if let (Some((_, cpu, speed)), Some((_, their_cpu, their_speed))) = (of("volboot"), dnsmasq) {
                let (most, least) = match window {
                    1 => (0.85, 1.0),
                    4 => (0.45, 2.0),
                    _ => (0.30, 2.0),
                };
                let case = format!("windowsize {window}, {clients} clients");
                self.bar.at_most(&format!("{case}: CPU, share of dnsmasq's"), cpu / their_cpu, most);
                self.bar.at_least(
                    &format!("{case}: throughput, share of dnsmasq's"),
                    speed / their_speed,
                    least,
                );
            }
        }
    }

    /// Name, milliseconds of processor time per transfer and MB/s of each server.
    fn storm_of(
        &self,
        window: u16,
        clients: usize,
        transfers: usize,
        rounds: usize,
    ) -> Vec<(&'static str, f64, f64)> {
        let wish = Wish { window, ..Wish::LOCKSTEP };
        let mut turns = vec![(Vec::new(), Vec::new()); self.servers.len()];
        for _ in 0..rounds {
            for (server, (cpus, times)) in self.servers.iter().zip(&mut turns) {
                let (cpu, began) = (server.cpu(), Instant::now());
                let (_, faults) = self.swarm(server, wish, transfers, clients);
                times.push(began.elapsed());
                cpus.push(server.cpu().saturating_sub(cpu) / transfers as u32);
                assert_eq!(faults, [""; 0], "{} failed on a clean line", server.name);
            }
        }
        let medians = self.servers.iter().zip(turns).map(|(server, (cpus, times))| {
            let speed = (transfers * FILE) as f64 / 1e6 / median(times).as_secs_f64();
            (server.name, median(cpus).as_secs_f64() * 1e3, speed)
        });
        medians.collect()
    }

    fn loss(&mut self) {
        println!("\n## 2 % of packets lost each way, 1 MB, blksize 1432, 100 clients at once\n");
        let mut found = Vec::new();
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
                found.push((server.name, window, faults.len(), percentile(&times, 99)));
                let (half, slow) = (percentile(&times, 50), percentile(&times, 99));
                println!(
                    "| {window} | {} | {transfers} | {} | {half:.2} | {slow:.2} |",
                    server.name,
                    faults.len()
                );
            }
        }
        let of = |name: &str, window| found.iter().find(|it| (it.0, it.1) == (name, window));
        if let (Some((.., ours)), Some((.., theirs))) = (of("volboot", 1), of("dnsmasq", 1)) {
            self.bar.at_most("2 % loss, lockstep: p99, share of dnsmasq's", ours / theirs, 0.5);
        }
        if let Some((_, _, failed, _)) = of("volboot", 16) {
            self.bar.at_most("2 % loss, windowsize 16: failed of 1000", *failed as f64, 0.0);
        }
    }

    fn probes(&mut self) {
        let mut found = None;
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
                    // What was broken off may be sent again and again.
                    Ok((length, _)) if answer[..length] != expected[..] && began.elapsed() < PATIENCE => {}
                    _ => break began.elapsed(),
                }
            };
            let more = if wait < PATIENCE { "" } else { "more than " };
            println!("| {} | {left} | {more}{:.1} ms |", server.name, wait.as_secs_f64() * 1e3);
            if server.name == "volboot" {
                found = Some((left, wait));
            }
        }
        if let Some((left, wait)) = found {
            self.bar.at_most("300 aborted probes: left after 1 s", left as f64, 0.0);
            // Less than any timer: the shortest wait for an answer is 100 ms.
            let wait = wait.as_secs_f64() * 1e3;
            self.bar.at_most("probe and transfer from one port: ms until the answer", wait, 50.0);
        }
    }

    fn dead_clients(&mut self) {
        println!("\n## 100 live clients, lockstep, beside 1000 that were switched off after their request\n");
        let mut found = None;
        println!("| server | alone: median s | p99 s | beside the dead: median s | p99 s | failed |");
        println!("|---|---|---|---|---|---|");
        for server in self.real_servers() {
            let (alone, _) = self.swarm(server, Wish::LOCKSTEP, 1000, 100);
            let dead: Vec<_> = (0..1000).map(|_| client::socket()).collect();
            for socket in &dead {
                socket.send_to(&Wish::LOCKSTEP.request(), server.address).expect("a way to the server");
            }
            let (beside, faults) = self.swarm(server, Wish::LOCKSTEP, 1000, 100);
            println!(
                "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
                server.name,
                percentile(&alone, 50),
                percentile(&alone, 99),
                percentile(&beside, 50),
                percentile(&beside, 99),
                faults.len(),
            );
            if server.name == "volboot" {
                found = Some((percentile(&beside, 50) / percentile(&alone, 50), faults.len()));
            }
        }
        if let Some((slower, failed)) = found {
            // What the neighbours on this machine do to two runs of the same is more than a tenth already.
            self.bar.at_most("100 live beside 1000 dead clients: median, share of that alone", slower, 1.25);
            self.bar.at_most("100 live beside 1000 dead clients: failed", failed as f64, 0.0);
        }
    }

    fn memory(&mut self) {
        const RUNNING: u64 = 2000;
        let mut found = None;
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
            let each = used as f64 / 1000.0 / clients.len() as f64;
            println!("| {} | {each:.1} |", server.name);
            if server.name == "volboot" {
                found = Some(each);
            }
        }
        if let Some(each) = found {
            self.bar.at_most("kB per running transfer", each, 10.0);
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
