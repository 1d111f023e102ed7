//! The demo from an empty network to a booted machine, step by step.

use std::env;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lab::Lab;
use crate::lab::address_server::{AddressServer, AddressServerKind};
use crate::lab::api::Api;
use crate::lab::daemon::{API, Daemon, proxy_section};
use crate::lab::dhcp_configs::start_router;
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::network::SERVER;
use crate::lab::target::{Export, Target, portal};
use crate::lab::volume::{HALT_LINE, Recipe, Volume};
use crate::milestones;
use crate::screen::Screen;

const INITIATOR: &str = "iqn.2026-01.lab.volboot:node-1";
const MAC: &str = "52:54:00:12:34:56";
const BOOT_LIMIT: Duration = Duration::from_secs(240);

/// Builds the site, boots the machine and prints each step; returns after the clean-up.
pub(crate) fn run(directory: &Path, firmware: Firmware, screen: &Screen) -> Result<()> {
    let kind = match firmware {
        Firmware::Bios => "BIOS",
        Firmware::Uefi => "UEFI",
        Firmware::UefiArm64 => "arm64",
    };
    screen.message(&format!("volboot: a {kind} machine without a disk boots from an iSCSI volume"));

    let lab = Lab::open(directory)?;
    screen.step(&format!("Created a private network with the server {SERVER}"));

    let volume = Volume::bootable(&lab, &Recipe::new("alpha", firmware))?;
    screen.step("Created a volume with a boot loader (GRUB) that prints the volume's name");

    let export = Export::new(&volume, INITIATOR);
    let mut target = Target::start(&lab)?;
    target.export(&export)?;
    screen.step(&format!("tgt exports the volume at {} as {}", portal(), export.iqn));
    screen
        .row(&format!("            to {INITIATOR} only, CHAP user {}, secret ****", export.account.username));

    let dhcp = (start_router()?, AddressServer::start(AddressServerKind::Dnsmasq)?);
    screen.step("dnsmasq serves addresses, on a host of its own; it knows nothing of volboot");

    let log = screen.clone();
    let handler = Some(Box::new(move |line: &str| log.log(line)) as _);
    let mut volboot = Daemon::start(&lab, &binary()?, &proxy_section(), handler)?;
    screen.step("volboot is ready, and names the boot file beside dnsmasq ([dhcp] mode = \"proxy\")");

    let api = Api::new()?;
    let node = api.create_node("node-1")?;
    api.create_port(&node, MAC)?;
    api.create_connector(&node, INITIATOR)?;
    api.create_target(&node, 0, &export, None)?;
    screen.step(&format!("Created node node-1 at http://{API}, with MAC address, initiator name and volume"));

    screen.step("Power on. The machine's console:");
    let console = screen.clone();
    let start = Instant::now();
    let handler = Some(Box::new(move |line: &str| console.console(line)) as _);
    let mut machine =
        MachineSpec { line_handler: handler, ..MachineSpec::new(firmware, MAC) }.power_on(&lab)?;
    machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
    machine.wait_for(&[HALT_LINE], BOOT_LIMIT)?;
    screen.step("The volume's boot loader has printed its name: the machine has booted from its volume.");

    screen.message("");
    milestones::print_milestones(&machine, firmware, start, &volume.boot_line(), screen);
    screen.message("");

    drop(machine);
    volboot.stop()?;
    drop((dhcp, target));
    screen.step("All parts are switched off and removed.");
    Ok(())
}

/// The binary from the same build as this example: `target/<profile>/volboot`, beside `examples/`.
fn binary() -> Result<PathBuf> {
    let example = env::current_exe()?;
    let profile = example.parent().and_then(Path::parent).context("the demo is not in a build directory")?;
    let binary = profile.join("volboot");
    ensure!(binary.exists(), "{} is not built: run `make demo`", binary.display());
    Ok(binary)
}
