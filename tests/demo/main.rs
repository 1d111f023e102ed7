//! `make demo`: a machine without a disk boots from an iSCSI volume, on the terminal.
//!
//! The lab's thread runs the [`scenario`]; the main thread waits for its end, for Ctrl-C, or for the time-out. In each
//! case the process just exits: the kernel then kills the lab's processes and removes its network ([`lab`]).

#[path = "../lab/mod.rs"]
mod lab;

mod milestones;
mod scenario;
mod screen;

use std::process::ExitCode;
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use lab::machine::Firmware;
use screen::Screen;

/// A boot takes half a minute; a slow host may need several times as long.
const LIMIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let screen = Screen::new();
    match run_demo(&screen) {
        Ok(code) => code,
        Err(error) => {
            screen.message(&format!("The demo failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run_demo(screen: &Screen) -> Result<ExitCode> {
    let firmware = parse_firmware()?;
    ensure!(
        lab::network::is_root(),
        "the demo creates a network of its own, which needs root: run `make demo`"
    );
    // Dropped last, when no other part uses it.
    let directory = lab::create_directory()?;
    let path = directory.path().to_owned();
    let lab_screen = screen.clone();
    let (result_sender, result) = oneshot::channel();
    thread::Builder::new().name("lab".into()).spawn(move || {
        // Fails only if the main thread has stopped waiting and is about to exit.
        let _ = result_sender.send(scenario::run(&path, firmware, &lab_screen));
    })?;

    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = result => result.context("the demo's thread panicked")?.map(|()| ExitCode::SUCCESS),
            _ = interrupt.recv() => Ok(report_interrupt(screen, SignalKind::interrupt())),
            _ = terminate.recv() => Ok(report_interrupt(screen, SignalKind::terminate())),
            () = tokio::time::sleep(LIMIT) => bail!("no end within {} s", LIMIT.as_secs()),
        }
    })
}

/// Reports the interrupt; returns the shell's exit code for this signal.
fn report_interrupt(screen: &Screen, signal: SignalKind) -> ExitCode {
    screen.message("Interrupted: switching off the machine and removing the lab.");
    ExitCode::from(u8::try_from(128 + signal.as_raw_value()).unwrap_or(u8::MAX))
}

fn parse_firmware() -> Result<Firmware> {
    match env::args().nth(1).as_deref() {
        None | Some("bios") => Ok(Firmware::Bios),
        Some("uefi") => Ok(Firmware::Uefi),
        Some(other) => bail!("firmware is `bios` or `uefi`, not `{other}`"),
    }
}
