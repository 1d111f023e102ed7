//! Benchmark of the ProxyDHCP server beside dnsmasq as a proxy: processor time per answer, and ten thousand machines at once.
//!
//! `cargo bench --bench dhcp`, as root: both servers run in a network of their own, in turns, with the same load. Each UEFI
//! machine sends a DHCPDISCOVER and a request to port 4011, and each answer counts. volboot looks up the node of every request,
//! and records it in the history, up to 6000 requests of machines without a node in a minute. Its commits after the last answer
//! count too. Neither server writes log lines. The measure is the processor time as accounted by the operating system; each figure is the median of several turns.

#![allow(clippy::cast_precision_loss)] // figures in tables

#[path = "../../lab/mod.rs"]
mod lab;

mod client;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::Lab;
use lab::api::Api;
use lab::daemon::Daemon;
use lab::network::bridge;
use lab::process::Process;
use reqwest::Method;
use serde_json::json;

use client::Machines;

/// Machines of a turn, and concurrent ones.
const TURN: u32 = 4000;
const CONCURRENT: [usize; 3] = [1, 4, 64];
const TURNS: usize = 7;
/// Machines that are switched on at once.
const STORM: u32 = 10_000;
/// Longer than the history waits with DHCP requests, a second.
const HISTORY_DELAY: Duration = Duration::from_secs(2);
/// The share of dnsmasq's processor time that is the target.
const TARGET: f64 = 0.8;

/// The keys of volboot: machines without a node are answered, since nodes are in the way of a benchmark of DHCP alone.
const KEYS: &str = "unknown = \"answer\"";

fn main() -> ExitCode {
    match lab::run(measure) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(lab: &Lab) -> Result<()> {
    let images = lab.path().join("images");
    fs::create_dir(&images)?;
    fs::write(images.join("snponly.efi"), "iPXE")?;
    let machines = Machines::connect()?;
    println!("| concurrent machines | volboot, µs CPU per answer | dnsmasq | share | target |");
    println!("|---|---|---|---|---|");
    for concurrent in CONCURRENT {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            ours.push(take_turn(&Server::start_volboot(lab, &images)?, &machines, concurrent)?);
            theirs.push(take_turn(&Server::start_dnsmasq()?, &machines, concurrent)?);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let share = ours / theirs;
        let result = if share <= TARGET { "reached" } else { "MISSED" };
        println!("| {concurrent} | {ours:.1} | {theirs:.1} | {share:.2} | ≤ {TARGET}: {result} |");
    }
    println!("\n| {STORM} machines at once | all answered twice | requests sent again | CPU |");
    println!("|---|---|---|---|");
    for name in ["volboot", "dnsmasq"] {
        let server =
            if name == "volboot" { Server::start_volboot(lab, &images)? } else { Server::start_dnsmasq()? };
        let (start, before) = (Instant::now(), server.cpu()?);
        // A server may leave machines without an answer.
        let result = machines.boot(STORM, STORM as usize);
        let seconds = start.elapsed().as_secs_f64();
        sleep(HISTORY_DELAY);
        let cpu = server.cpu()?.saturating_sub(before);
        let milliseconds = cpu.as_secs_f64() * 1000.0;
        match result {
            Ok(repeated) => println!("| {name} | {seconds:.1} s | {repeated} | {milliseconds:.0} ms |"),
            Err(error) => println!("| {name} | no: {error:#} | | {milliseconds:.0} ms |"),
        }
    }
    Ok(())
}

/// The processor time per answer, in microseconds.
fn take_turn(server: &Server, machines: &Machines, concurrent: usize) -> Result<f64> {
    machines.boot(200, concurrent)?;
    sleep(HISTORY_DELAY);
    let before = server.cpu()?;
    let repeated = machines.boot(TURN, concurrent)?;
    // What the history writes later is part of the turn.
    sleep(HISTORY_DELAY);
    let answers = 2 * TURN + repeated;
    Ok(server.cpu()?.saturating_sub(before).as_secs_f64() * 1e6 / f64::from(answers))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A server under test.
enum Server {
    Volboot(Daemon),
    Dnsmasq(Process),
}

impl Server {
    fn start_volboot(lab: &Lab, images: &Path) -> Result<Self> {
        let binary = Path::new(env!("CARGO_BIN_EXE_volboot"));
        let volboot = Daemon::start_as_proxy(lab, binary, Some(images), KEYS)?;
        let quiet = json!({ "filter": "warn" });
        Api::new()?.send(&Method::PUT, "appliance/log", &quiet)?;
        Ok(Self::Volboot(volboot))
    }

    fn start_dnsmasq() -> Result<Self> {
        let mut dnsmasq = Command::new("dnsmasq");
        dnsmasq
            .args(["--keep-in-foreground", "--user=root", "--conf-file=/dev/null", "--pid-file=", "--port=0"])
            .args(["--bind-interfaces", "--log-facility=-", "--quiet-dhcp", "--dhcp-range=10.99.0.0,proxy"])
            .arg(format!("--interface={}", bridge()))
            .args(["--pxe-service=7,volboot,snponly.efi,10.99.0.1"]);
        let mut process = Process::start("dnsmasq", &mut dnsmasq, None)?;
        process.wait_for(&["sockets bound"], Duration::from_secs(30))?;
        Ok(Self::Dnsmasq(process))
    }

    /// The processor time of all threads since the start.
    fn cpu(&self) -> Result<Duration> {
        let pid = match self {
            Self::Volboot(daemon) => daemon.pid(),
            Self::Dnsmasq(process) => process.pid(),
        };
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = thread?.path().join("schedstat");
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            nanoseconds += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}
