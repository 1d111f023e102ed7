//! Refused boots: the reason is on the console, and the machine continues with its next boot device.

use anyhow::Result;

use crate::lab;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site, start_storage};

/// The reason on an unknown machine's console.
const UNKNOWN: &str = "no node has a port with the address 52:54:00:12:34:56";

#[test]
fn unknown_bios_machine_boots_its_local_disk() -> Result<()> {
    lab::run(|lab| {
        let disk = Volume::bootable(lab, &Recipe::new("local", Firmware::Bios))?;
        let _site = Site::open(lab, Rom::FetchesScript, "")?;

        let mut machine =
            MachineSpec { disk: Some(&disk), ..MachineSpec::new(Firmware::Bios, MAC) }.power_on(lab)?;
        machine.wait_for(&["boot.ipxe... ok"], BOOT_LIMIT)?;
        machine.wait_for(&[UNKNOWN], BOOT_LIMIT)?;
        machine.wait_for(&[&disk.boot_line()], BOOT_LIMIT)?;
        Ok(())
    })
}

/// UEFI continues only after iPXE has exited with an error; after a success it stays in its set-up menu. The next
/// entry in OVMF's boot order is the same card with IPv6.
#[test]
fn unknown_uefi_machine_tries_its_next_boot_option() -> Result<()> {
    lab::run(|lab| {
        let _site = Site::open(lab, Rom::FetchesScript, "")?;

        let mut machine = MachineSpec::new(Firmware::Uefi, MAC).power_on(lab)?;
        machine.wait_for(&["boot.ipxe... ok"], BOOT_LIMIT)?;
        machine.wait_for(&[UNKNOWN], BOOT_LIMIT)?;
        machine.wait_for(&["Start PXE over IPv6"], BOOT_LIMIT)?;
        Ok(())
    })
}

#[test]
fn machine_in_maintenance_boots_its_local_disk() -> Result<()> {
    lab::run(|lab| {
        let disk = Volume::bootable(lab, &Recipe::new("local", Firmware::Bios))?;
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        let node = site.register(&[&export])?;
        site.api.set_maintenance(&node, "fan 3 is broken")?;

        let mut machine =
            MachineSpec { disk: Some(&disk), ..MachineSpec::new(Firmware::Bios, MAC) }.power_on(lab)?;
        machine.wait_for(&["maintenance is set (fan 3 is broken)"], BOOT_LIMIT)?;
        machine.wait_for(&[&disk.boot_line()], BOOT_LIMIT)?;
        Ok(())
    })
}
