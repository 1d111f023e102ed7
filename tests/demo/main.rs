//! `make demo`: a machine without a disk boots from an iSCSI volume, before your eyes.
//!
//! The lab's own thread tells the [`story`]; this one waits for its end, for Ctrl-C, or for the time limit.
//! In each case the process just ends: the kernel then kills what the lab has started and removes its network
//! with the last of it ([`lab`]).

#[path = "../lab/mod.rs"]
mod lab;

mod milestones;
mod screen;
mod story;

use std::process::ExitCode;
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use lab::machine::Firmware;
use screen::Screen;

/// A boot takes half a minute; a slow host may take some times that.
const LIMIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let screen = Screen::new();
    match demonstrate(&screen) {
        Ok(code) => code,
        Err(error) => {
            screen.say(&format!("The demo failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn demonstrate(screen: &Screen) -> Result<ExitCode> {
    let firmware = firmware_asked_for()?;
    ensure!(lab::network::is_root(), "it makes a network of its own, which needs root: run `make demo`");
    // Dropped last: by then nothing uses it.
    let directory = lab::directory()?;
    let path = directory.path().to_owned();
    let storyteller = screen.clone();
    let (tell_end, end) = oneshot::channel();
    thread::Builder::new().name("lab".into()).spawn(move || {
        // Unheard only if the main thread has given up and is about to end the process.
        let _unheard = tell_end.send(story::tell(&path, firmware, &storyteller));
    })?;

    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = end => result.context("the demo's thread panicked")?.map(|()| ExitCode::SUCCESS),
            _ = interrupt.recv() => Ok(cut_short(screen, SignalKind::interrupt())),
            _ = terminate.recv() => Ok(cut_short(screen, SignalKind::terminate())),
            () = tokio::time::sleep(LIMIT) => bail!("it did not end within {} s", LIMIT.as_secs()),
        }
    })
}

/// The shell's code for "ended by that signal".
fn cut_short(screen: &Screen, signal: SignalKind) -> ExitCode {
    screen.say("Interrupted: everything is being switched off and removed.");
    ExitCode::from(u8::try_from(128 + signal.as_raw_value()).unwrap_or(u8::MAX))
}

fn firmware_asked_for() -> Result<Firmware> {
    match env::args().nth(1).as_deref() {
        None | Some("bios") => Ok(Firmware::Bios),
        Some("uefi") => Ok(Firmware::Uefi),
        Some(other) => bail!("firmware is `bios` or `uefi`, not `{other}`"),
    }
}
