//! Machines that really boot from volumes in Cinder: real firmware, real iPXE, and a boot loader that says its name.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Test;
use crate::ground::Ground;
use crate::lab::cinder::Service;
use crate::lab::dhcp::{Dhcp, Rom};
use crate::lab::machine::{Build, Firmware};
use crate::lab::readme::block;
use crate::lab::volume::{Recipe, Volume};
use crate::python::program;
use crate::stand::{MACS, Stand};

pub(crate) const TESTS: &[Test] = &[
    ("a_machine_boots_by_the_quick_start", by_the_quick_start),
    (
        "a_machine_boots_its_volume_whatever_happened_since_its_last_boot",
        whatever_happened_since_its_last_boot,
    ),
];

/// No step of a boot takes longer than this, even on a busy host.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// A BIOS machine is switched on, shows each of the patterns in turn, and starts what is on its volume.
fn boots(stand: &Stand<'_>, image: &Volume, patterns: &[&str]) -> Result<()> {
    let mut machine = Build::bare(Firmware::Bios, MACS[0]).power_on(&stand.ground.lab)?;
    for pattern in patterns {
        machine.shows(&[pattern], BOOT_LIMIT)?;
    }
    machine.shows(&[&image.boot_line()], BOOT_LIMIT)?;
    Ok(())
}

/// What README says, typed as it stands, but for the volume's id.
fn by_the_quick_start(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let _dhcp = Dhcp::start(&stand.ground.lab, Rom::FetchesScript)?;
    let image = Volume::bootable(&stand.ground.lab, &Recipe::new("quick", Firmware::Bios))?;
    let volume = stand.ground.owner.create_volume("chap")?;
    stand.ground.cloud.fill(&volume, image.image())?;

    let commands = block("openstack baremetal node create").join("\n");
    ensure!(commands.contains("--volume-id VOLUME"), "README names the volume otherwise");
    types(&stand, &commands.replace("VOLUME", &volume))?;
    boots(&stand, &image, &[])?;
    stand.is_attached_once(&volume)?;
    types(
        &stand,
        "openstack --os-auth-type none --os-endpoint http://127.0.0.1:6385 baremetal node delete web-1",
    )?;
    stand.is_free(&volume)?;
    stand.ground.owner.delete_volume(&volume)
}

/// Types commands into a shell that finds OpenStack's client.
fn types(stand: &Stand<'_>, commands: &str) -> Result<()> {
    let openstack = program("openstack");
    let client = Path::new(openstack.get_program()).parent().context("it is in a folder")?;
    let path = format!("{}:{}", client.display(), std::env::var("PATH")?);
    let mut shell = Command::new("timeout");
    shell.args([&BOOT_LIMIT.as_secs().to_string(), "bash", "-euc", commands]);
    shell.env_clear().env("PATH", path).env("HOME", stand.ground.lab.path());
    let output = shell.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{commands}\nended with {}: {said}", output.status);
    Ok(())
}

fn whatever_happened_since_its_last_boot(ground: &mut Ground) -> Result<()> {
    let mut stand = Stand::new(ground)?;
    let _dhcp = Dhcp::start(&stand.ground.lab, Rom::FetchesScript)?;
    let image = Volume::bootable(&stand.ground.lab, &Recipe::new("cinders", Firmware::Bios))?;
    let volume = stand.ground.owner.create_volume("chap")?;
    stand.ground.cloud.fill(&volume, image.image())?;
    let node = stand.deploy(0, &[&volume])?;
    boots(&stand, &image, &["boot.ipxe... ok"])?;
    let attachment = stand.is_attached_once(&volume)?;

    stand.ground.cloud.restart_target(&stand.ground.lab)?;
    boots(&stand, &image, &["boot.ipxe... ok"])?;

    stand.ground.cloud.move_portals()?;
    boots(&stand, &image, &["boot.ipxe... ok"])?;

    stand.ground.admin.revoke_tokens_of(&stand.ground.owner)?;
    boots(&stand, &image, &["boot.ipxe... ok"])?;
    ensure!(stand.is_attached_once(&volume)? == attachment);

    stand.ground.owner.detach(&attachment)?;
    stand.ground.owner.await_status(&volume, "available")?;
    boots(&stand, &image, &["boot.ipxe... ok"])?;
    let attachment = stand.is_attached_once(&volume)?;

    // It comes back while the machine waits.
    stand.ground.cloud.freeze(Service::CinderVolume)?;
    let mut machine = Build::bare(Firmware::Bios, MACS[0]).power_on(&stand.ground.lab)?;
    machine.shows(&["asking again in"], BOOT_LIMIT)?;
    stand.ground.cloud.thaw(Service::CinderVolume)?;
    machine.shows(&[&image.boot_line()], BOOT_LIMIT)?;
    drop(machine);

    for service in [Service::CinderVolume, Service::CinderApi] {
        stand.ground.cloud.stop(service)?;
        boots(&stand, &image, &["booting from the connection of"])?;
        stand.ground.cloud.start_again(service)?;
    }
    // It has no token now, and must not need one to boot what it knows.
    stand.volboot.stop()?;
    stand.ground.cloud.stop(Service::Keystone)?;
    stand.start_again()?;
    boots(&stand, &image, &["booting from the connection of"])?;
    stand.ground.cloud.start_again(Service::Keystone)?;
    boots(&stand, &image, &["boot.ipxe... ok"])?;
    ensure!(stand.is_attached_once(&volume)? == attachment);
    stand.ends_well(&node, &volume)
}
