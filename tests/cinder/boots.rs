//! Boots of emulated machines from volumes in Cinder: real firmware, real iPXE, and a boot loader that prints its
//! name.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Test;
use crate::fixture::Fixture;
use crate::lab::cinder::Service;
use crate::lab::dhcp::{Dhcp, Rom};
use crate::lab::documents::block;
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::volume::{Recipe, Volume};
use crate::python::python_program;
use crate::setup::{MACS, Setup};

pub(crate) const TESTS: &[Test] = &[
    ("a_machine_boots_by_the_quick_start", by_the_quick_start),
    ("a_machine_boots_through_changes_and_outages_of_the_cloud", through_changes_and_outages),
];

/// The time limit of each step of a boot, even on a busy host.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// Powers on a BIOS machine, expects each pattern in turn, and then the boot loader of its volume.
fn expect_boot(setup: &Setup<'_>, image: &Volume, patterns: &[&str]) -> Result<()> {
    let mut machine = MachineSpec::new(Firmware::Bios, MACS[0]).power_on(&setup.fixture.lab)?;
    for pattern in patterns {
        machine.wait_for(&[pattern], BOOT_LIMIT)?;
    }
    machine.wait_for(&[&image.boot_line()], BOOT_LIMIT)?;
    Ok(())
}

/// Runs the commands of README unchanged except for the volume id.
fn by_the_quick_start(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let _dhcp = Dhcp::start(&setup.fixture.lab, Rom::FetchesScript)?;
    let image = Volume::bootable(&setup.fixture.lab, &Recipe::new("quick", Firmware::Bios))?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    setup.fixture.cloud.fill(&volume, image.image())?;

    let commands = block("--volume-id VOLUME").join("\n");
    ensure!(commands.contains("--volume-id VOLUME"), "README has another placeholder for the volume");
    run_commands(&setup, &commands.replace("VOLUME", &volume))?;
    expect_boot(&setup, &image, &[])?;
    setup.expect_single_attachment(&volume)?;
    run_commands(
        &setup,
        "openstack --os-auth-type none --os-endpoint http://127.0.0.1:6385 baremetal node delete web-1",
    )?;
    setup.expect_free(&volume)?;
    setup.fixture.owner.delete_volume(&volume)
}

/// Runs commands in a shell with OpenStack's client in its PATH.
fn run_commands(setup: &Setup<'_>, commands: &str) -> Result<()> {
    let openstack = python_program("openstack");
    let client = Path::new(openstack.get_program()).parent().context("the program has no directory")?;
    let path = format!("{}:{}", client.display(), std::env::var("PATH")?);
    let mut shell = Command::new("timeout");
    shell.args([&BOOT_LIMIT.as_secs().to_string(), "bash", "-euc", commands]);
    shell.env_clear().env("PATH", path).env("HOME", setup.fixture.lab.path());
    let output = shell.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{commands}\nended with {}: {stderr}", output.status);
    Ok(())
}

fn through_changes_and_outages(fixture: &mut Fixture) -> Result<()> {
    let mut setup = Setup::new(fixture)?;
    let _dhcp = Dhcp::start(&setup.fixture.lab, Rom::FetchesScript)?;
    let image = Volume::bootable(&setup.fixture.lab, &Recipe::new("cinders", Firmware::Bios))?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    setup.fixture.cloud.fill(&volume, image.image())?;
    let node = setup.deploy(0, &[&volume])?;
    expect_boot(&setup, &image, &["boot.ipxe... ok"])?;
    let attachment = setup.expect_single_attachment(&volume)?;

    setup.fixture.cloud.restart_target(&setup.fixture.lab)?;
    expect_boot(&setup, &image, &["boot.ipxe... ok"])?;

    setup.fixture.cloud.move_portals()?;
    expect_boot(&setup, &image, &["boot.ipxe... ok"])?;

    setup.fixture.admin.revoke_tokens_of(&setup.fixture.owner)?;
    expect_boot(&setup, &image, &["boot.ipxe... ok"])?;
    ensure!(setup.expect_single_attachment(&volume)? == attachment);

    setup.fixture.owner.detach(&attachment)?;
    setup.fixture.owner.await_status(&volume, "available")?;
    expect_boot(&setup, &image, &["boot.ipxe... ok"])?;
    let attachment = setup.expect_single_attachment(&volume)?;

    // The service recovers while the machine waits.
    setup.fixture.cloud.freeze(Service::CinderVolume)?;
    let mut machine = MachineSpec::new(Firmware::Bios, MACS[0]).power_on(&setup.fixture.lab)?;
    machine.wait_for(&["retrying in"], BOOT_LIMIT)?;
    setup.fixture.cloud.thaw(Service::CinderVolume)?;
    machine.wait_for(&[&image.boot_line()], BOOT_LIMIT)?;
    drop(machine);

    for service in [Service::CinderVolume, Service::CinderApi] {
        setup.fixture.cloud.stop(service)?;
        expect_boot(&setup, &image, &["booting from the last known connection of"])?;
        setup.fixture.cloud.restart(service)?;
    }
    // A restarted volboot has no token and needs none for a last known connection.
    setup.volboot.stop()?;
    setup.fixture.cloud.stop(Service::Keystone)?;
    setup.restart()?;
    expect_boot(&setup, &image, &["booting from the last known connection of"])?;
    setup.fixture.cloud.restart(Service::Keystone)?;
    expect_boot(&setup, &image, &["boot.ipxe... ok"])?;
    ensure!(setup.expect_single_attachment(&volume)? == attachment);
    setup.tear_down_one(&node, &volume)
}
