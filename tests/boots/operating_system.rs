//! Whole Debians, prepared by `packaging/os/prepare-system`: they boot from a volume, report that they are up, restart and
//! switch off as fast as from a local disk, and keep their root when either of two portals is lost.
//!
//! Each test takes ten to twenty minutes, builds its image from a Debian mirror, and runs by name: `make os`.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::lab::dhcp::Rom;
use crate::lab::machine::{Firmware, Machine, MachineSpec};
use crate::lab::network::{bridge, ip};
use crate::lab::target::{Account, Export, Target, portal_at};
use crate::lab::{self, Lab};
use crate::site::{INITIATOR, MAC, Site};

/// The time-out of a start or an end: without KVM a Debian takes minutes.
const LIMIT: Duration = Duration::from_secs(900);
/// The longest that an end from the volume may take beyond one from a local disk.
const MARGIN: Duration = Duration::from_secs(30);
const PORTALS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 99, 0, 3), Ipv4Addr::new(10, 99, 0, 4)];

/// A copy of the image, on the disk of this host: it is too large for the lab's memory.
struct Image(PathBuf);

impl Image {
    fn build(release: &str, builder: &str) -> Result<PathBuf> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/debian-image");
        let output = Command::new(script).args([release, builder]).output()?;
        ensure!(output.status.success(), "cannot build: {}", String::from_utf8_lossy(&output.stderr));
        Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
    }

    fn copy(built: &Path, name: &str) -> Result<Self> {
        let copy = built.with_extension(name);
        let status = Command::new("cp").arg("--sparse=always").arg(built).arg(&copy).status()?;
        ensure!(status.success(), "cannot copy {}", built.display());
        Ok(Self(copy))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A machine with enough memory for a whole system. With a second processor, Linux 6.12 once panicked: QEMU without KVM ran
/// code on one processor while the kernel patched it on the other.
fn describe_machine(firmware: Firmware) -> MachineSpec<'static> {
    MachineSpec { memory: 1024, ..MachineSpec::new(firmware, MAC) }
}

/// Waits for the end that the system has begun; returns how long it took.
fn wait_for_end(machine: &mut Machine) -> Result<Duration> {
    let begun = machine.wait_for(&["lab: ends"], LIMIT)?.at;
    machine.wait_for_end(LIMIT)?;
    Ok(begun.elapsed())
}

/// How long a restart and a switch-off take from a local disk.
fn measure_local_disk(lab: &Lab, site: &mut Site, firmware: Firmware, image: &Path) -> Result<[Duration; 2]> {
    let mut times = [Duration::ZERO; 2];
    for (start, time) in (1..).zip(&mut times) {
        let mut machine =
            MachineSpec { first_disk: Some(image), ..describe_machine(firmware) }.power_on(lab)?;
        site.volboot.wait_for_log(r#""step":"up""#, LIMIT)?;
        machine.wait_for(&[&format!("lab: start {start} is up; root on /dev/vda2")], LIMIT)?;
        *time = wait_for_end(&mut machine)?;
    }
    Ok(times)
}

/// Plugs the portals in, with addresses of their own.
fn plug_portal(address: Ipv4Addr) -> Result<()> {
    ip(&["address", "add", &format!("{address}/24"), "dev", bridge()])
}

/// A portal without its address answers nothing, as one whose switch has died.
fn unplug_portal(address: Ipv4Addr) -> Result<()> {
    ip(&["address", "del", &format!("{address}/24"), "dev", bridge()])
}

/// Waits until the writes of the system go through one of `portals`; returns which.
fn wait_for_writes(machine: &mut Machine, portals: &[Ipv4Addr]) -> Result<Ipv4Addr> {
    let lines: Vec<_> = portals.iter().map(|portal| format!("lab: writes go to {portal}.")).collect();
    let patterns: Vec<_> = lines.iter().map(String::as_str).collect();
    Ok(portals[machine.wait_for(&patterns, LIMIT)?.index])
}

/// Takes away the portal of the writes, gives it back, and takes away the other one. Returns how long the writes stood
/// still each time.
fn lose_active_portals(machine: &mut Machine) -> Result<[Duration; 2]> {
    let first = wait_for_writes(machine, &PORTALS)?;
    let second = if first == PORTALS[0] { PORTALS[1] } else { PORTALS[0] };
    machine.wait_for(&["lab: active paths: 2."], LIMIT)?;
    let lost = Instant::now();
    unplug_portal(first)?;
    wait_for_writes(machine, &[second])?;
    let first_loss = lost.elapsed();
    plug_portal(first)?;
    machine.wait_for(&["lab: active paths: 2."], LIMIT)?;
    let lost = Instant::now();
    unplug_portal(second)?;
    wait_for_writes(machine, &[first])?;
    let second_loss = lost.elapsed();
    machine.wait_for(&["lab: root is writable"], LIMIT)?;
    Ok([first_loss, second_loss])
}

fn boot_and_stay(release: &'static str, builder: &'static str, firmware: Firmware) -> Result<()> {
    let built = Image::build(release, builder)?;
    lab::run(move |lab| {
        let mut site = Site::open(lab, Rom::FetchesScript, "")?;
        let local = Image::copy(&built, "local")?;
        let [local_restart, local_off] = measure_local_disk(lab, &mut site, firmware, &local.0)?;
        drop(local);

        let volume = Image::copy(&built, "volume")?;
        for portal in PORTALS {
            plug_portal(portal)?;
        }
        let mut export = Export::of_image(&volume.0, INITIATOR);
        // The firmware's table has room for two paths with short names only.
        export.iqn = String::from("iqn.2026-01.lab.volboot:root");
        export.account = Account { username: "root".to_owned(), password: "secret of root #1".to_owned() };
        let mut target = Target::start_at(lab, &PORTALS)?;
        target.export(&export)?;
        let node = site.register_with(INITIATOR, &[])?;
        let properties = json!({
            "target_portals": PORTALS.map(portal_at),
            "target_iqns": [export.iqn, export.iqn],
            "target_luns": [export.lun, export.lun],
            "auth_method": "CHAP",
            "auth_username": export.account.username,
            "auth_password": export.account.password,
        });
        site.api.create_target_with(&node, "root", &properties)?;

        let mut machine = describe_machine(firmware).power_on(lab)?;
        let power_on = Instant::now();
        check_start(&mut site, &mut machine, 1)?;
        let start = power_on.elapsed();
        let restart = wait_for_end(&mut machine)?;

        let mut machine = describe_machine(firmware).power_on(lab)?;
        check_start(&mut site, &mut machine, 2)?;
        let losses = lose_active_portals(&mut machine)?;
        let off = wait_for_end(&mut machine)?;
        ensure!(machine.find_time("lab: a write failed").is_none(), "a write failed");
        ensure!(machine.find_time("EXT4-fs error").is_none(), "an I/O error reached the file system");

        println!(
            "{release}, {builder}, {firmware:?}: up after {} s; restart {} s, local disk {} s; off {} s, local disk {} s; \
             writes stood still for {} s and {} s",
            start.as_secs(),
            restart.as_secs(),
            local_restart.as_secs(),
            off.as_secs(),
            local_off.as_secs(),
            losses[0].as_secs(),
            losses[1].as_secs()
        );
        ensure!(restart <= local_restart + MARGIN, "the restart took {} s", restart.as_secs());
        ensure!(off <= local_off + MARGIN, "the switch-off took {} s", off.as_secs());
        Ok(())
    })
    .with_context(|| format!("{release} with {builder} on {firmware:?}"))
}

/// Checks the state of a system that has started from the volume, and volboot's receipt of its report.
fn check_start(site: &mut Site, machine: &mut Machine, start: u32) -> Result<()> {
    site.volboot.wait_for_log(r#""step":"up""#, LIMIT)?;
    machine.wait_for(&[&format!("lab: start {start} is up; root on /dev/mapper/")], LIMIT)?;
    for _ in PORTALS {
        machine.wait_for(&[&format!("lab: session of {INITIATOR}, replacement time-out 15")], LIMIT)?;
    }
    machine.wait_for(&[&format!("lab: InitiatorName={INITIATOR}")], LIMIT)?;
    machine.wait_for(&["lab: failed units: none"], LIMIT)?;
    Ok(())
}

#[test]
#[ignore = "takes ten to twenty minutes and needs a Debian mirror; `make os` runs it"]
fn debian_12_with_initramfs_tools_stays_up_on_bios() -> Result<()> {
    boot_and_stay("bookworm", "initramfs-tools", Firmware::Bios)
}

#[test]
#[ignore = "takes ten to twenty minutes and needs a Debian mirror; `make os` runs it"]
fn debian_13_with_initramfs_tools_stays_up_on_bios() -> Result<()> {
    boot_and_stay("trixie", "initramfs-tools", Firmware::Bios)
}

#[test]
#[ignore = "takes ten to twenty minutes and needs a Debian mirror; `make os` runs it"]
fn debian_13_with_initramfs_tools_stays_up_on_uefi() -> Result<()> {
    boot_and_stay("trixie", "initramfs-tools", Firmware::Uefi)
}

#[test]
#[ignore = "takes ten to twenty minutes and needs a Debian mirror; `make os` runs it"]
fn debian_12_with_dracut_stays_up_on_bios() -> Result<()> {
    boot_and_stay("bookworm", "dracut", Firmware::Bios)
}

#[test]
#[ignore = "takes ten to twenty minutes and needs a Debian mirror; `make os` runs it"]
fn debian_13_with_dracut_stays_up_on_bios() -> Result<()> {
    boot_and_stay("trixie", "dracut", Firmware::Bios)
}
