//! The iBFT, iPXE's table for the operating system: machines boot although the table is full or not accepted.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::lab;
use crate::lab::daemon::Daemon;
use crate::lab::dhcp::{Dhcp, Rom};
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, LOG_LIMIT, MAC, Site, newer_ipxe, start_storage};

/// The warning on the console of a machine whose boot volume is not in the table.
const OUTSIDE: &str = "warning: the iBFT cannot hold volume";
/// The length of the host name that DHCP gives.
const HOST_NAME: usize = 59;
/// The room for the initiator name: 256 bytes for names and secrets, each with a final NUL byte.
const ROOM: usize = 256
    - (HOST_NAME + 1)
    - ("iqn.2026-01.lab.volboot:alpha".len() + 1)
    - ("user-alpha".len() + 1)
    - ("secret of alpha #1".len() + 1)
    - 1;

/// A BIOS machine with an initiator name of this length boots at the first try, with its volume in the table or not.
fn boot_bios_machine(initiator_length: usize, is_outside: bool) -> Result<()> {
    lab::run(move |lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let initiator = format!("{:i<initiator_length$}", "iqn.2026-01.lab.volboot:");
        let export = Export::new(&volume, &initiator);
        let _storage = start_storage(lab, &[&export])?;
        let host_name = format!("--dhcp-host={MAC},{}", "h".repeat(HOST_NAME));
        let dhcp = Dhcp::start_with(lab, Rom::FetchesScript, &[&host_name])?;
        let volboot = Daemon::start(lab, Path::new(env!("CARGO_BIN_EXE_volboot")), "", None)?;
        let site = Site::with_lab_dhcp(volboot, dhcp)?;
        site.register_with(&initiator, &[&export])?;

        let mut machine = MachineSpec::new(Firmware::Bios, MAC).power_on(lab)?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        ensure!(machine.find_time("hook-0 failed").is_none(), "the first try failed");
        ensure!(machine.find_time(OUTSIDE).is_some() == is_outside, "the layout of the table is wrong");
        Ok(())
    })
}

/// Without the warning the volume is in the table, and iPXE accepts the table: the sum is iPXE's own.
#[test]
fn bios_machine_has_its_ibft_if_names_and_secrets_just_fit() -> Result<()> {
    boot_bios_machine(ROOM, false)
}

/// Without the host name in the sum, each try fails with error 0x348520.
#[test]
fn bios_machine_boots_outside_the_ibft_at_the_first_try() -> Result<()> {
    boot_bios_machine(ROOM + 1, true)
}

/// UEFI firmware with a device tree instead of ACPI, such as U-Boot.
#[test]
fn uefi_machine_without_acpi_boots_at_the_second_try() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::UefiArm64))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let dhcp = Dhcp::start(lab, Rom::FetchesScript)?;
        let binary = Path::new(env!("CARGO_BIN_EXE_volboot"));
        let volboot = Daemon::start_with_images(lab, binary, &newer_ipxe()?)?;
        let mut site = Site::with_lab_dhcp(volboot, dhcp)?;
        site.register(&[&export])?;

        let spec = MachineSpec { acpi: false, ..MachineSpec::new(Firmware::UefiArm64, MAC) };
        let mut machine = spec.power_on(lab)?;
        machine.wait_for(&["hook-0 failed: error 0x3c2220"], BOOT_LIMIT)?;
        machine.wait_for(&[OUTSIDE], BOOT_LIMIT)?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        site.volboot.wait_for_log(r#""step":"hooked""#, LOG_LIMIT)?;
        Ok(())
    })
}
