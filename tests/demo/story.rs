//! The demo from an empty network to a booted machine, step by step.

use std::env;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lab::Lab;
use crate::lab::api::Api;
use crate::lab::daemon::{API, Daemon};
use crate::lab::dhcp::{Dhcp, Rom};
use crate::lab::machine::{Build, Firmware};
use crate::lab::network::SERVER;
use crate::lab::target::{Export, Target, portal};
use crate::lab::volume::{LAST_WORDS, Recipe, Volume};
use crate::milestones;
use crate::screen::Screen;

const INITIATOR: &str = "iqn.2026-01.lab.volboot:node-1";
const MAC: &str = "52:54:00:12:34:56";
const BOOT_LIMIT: Duration = Duration::from_secs(240);

/// Builds the site, boots the machine and tells what happened; returns when all of it is switched off again.
pub(crate) fn tell(directory: &Path, firmware: Firmware, screen: &Screen) -> Result<()> {
    let kind = match firmware {
        Firmware::Bios => "BIOS",
        Firmware::Uefi => "UEFI",
        Firmware::UefiArm64 => "arm64",
    };
    screen.say(&format!("volboot: a {kind} machine without a disk boots from an iSCSI volume"));

    let lab = Lab::open(directory)?;
    screen.step(&format!("A network of its own, with nothing in it but {SERVER}"));

    let volume = Volume::bootable(&lab, &Recipe::new("alpha", firmware))?;
    screen.step("A volume with a boot loader (GRUB) that will say its name");

    let export = Export::new(&volume, INITIATOR);
    let mut target = Target::start(&lab)?;
    target.offer(&export)?;
    screen.step(&format!("tgt offers it at {} as {},", portal(), export.iqn));
    screen
        .row(&format!("            to {INITIATOR} only, CHAP user {}, secret ****", export.account.username));

    let dhcp = Dhcp::start(&lab, Rom::FetchesScript)?;
    screen.step("dnsmasq gives out addresses and names volboot as the boot server");

    let log = screen.clone();
    let mut volboot = Daemon::start(&lab, &binary()?, "", Some(Box::new(move |line| log.log(line))))?;
    screen.step("volboot serves");

    let api = Api::new()?;
    let node = api.create_node("node-1")?;
    api.create_port(&node, MAC)?;
    api.create_connector(&node, INITIATOR)?;
    api.create_target(&node, 0, &export, None)?;
    screen
        .step(&format!("Node node-1 is registered at http://{API}: its MAC, its initiator name, its volume"));

    screen.step("Power on. From here on the machine is on its own; this is its console:");
    let console = screen.clone();
    let start = Instant::now();
    let listener = Some(Box::new(move |line: &str| console.console(line)) as _);
    let mut machine = Build { listener, ..Build::bare(firmware, MAC) }.power_on(&lab)?;
    machine.shows(&[&volume.boot_line()], BOOT_LIMIT)?;
    machine.shows(&[LAST_WORDS], BOOT_LIMIT)?;
    screen.step("The volume's own boot loader has spoken: the machine has booted from its volume.");

    screen.say("");
    milestones::account(&machine, firmware, start, &volume.boot_line(), screen);
    screen.say("");

    drop(machine);
    volboot.stop()?;
    drop((dhcp, target));
    screen.step("Everything is switched off and removed.");
    Ok(())
}

/// The binary that was built with this example: `target/<profile>/volboot`, beside `examples/`.
fn binary() -> Result<PathBuf> {
    let example = env::current_exe()?;
    let profile = example.parent().and_then(Path::parent).context("the demo is not in a build directory")?;
    let binary = profile.join("volboot");
    ensure!(binary.exists(), "{} is not built: run `make demo`", binary.display());
    Ok(binary)
}
