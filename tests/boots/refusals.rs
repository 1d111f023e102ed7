//! Machines that are not to boot a volume: told why on their console, and sent on to their next boot device.

use anyhow::Result;

use crate::lab;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Build, Firmware};
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site, storage};

/// What an unknown machine is told, with the address it was looked for by.
const UNKNOWN: &str = "no node has a port with the address 52:54:00:12:34:56";

#[test]
fn an_unknown_bios_machine_is_told_so_and_starts_its_own_disk() -> Result<()> {
    lab::run(|lab| {
        let disk = Volume::bootable(lab, &Recipe::new("local", Firmware::Bios))?;
        let _site = Site::open(lab, Rom::FetchesScript, "")?;

        let mut machine = Build { disk: Some(&disk), ..Build::bare(Firmware::Bios, MAC) }.power_on(lab)?;
        machine.shows(&["boot.ipxe... ok"], BOOT_LIMIT)?;
        machine.shows(&[UNKNOWN], BOOT_LIMIT)?;
        machine.shows(&[&disk.boot_line()], BOOT_LIMIT)?;
        Ok(())
    })
}

/// Firmware goes on only when iPXE leaves with a failure; after a success it opens its set-up menu and stays
/// there. What comes next in OVMF's boot order is the same card with IPv6.
#[test]
fn an_unknown_uefi_machine_is_told_so_and_tries_its_next_boot_option() -> Result<()> {
    lab::run(|lab| {
        let _site = Site::open(lab, Rom::FetchesScript, "")?;

        let mut machine = Build::bare(Firmware::Uefi, MAC).power_on(lab)?;
        machine.shows(&["boot.ipxe... ok"], BOOT_LIMIT)?;
        machine.shows(&[UNKNOWN], BOOT_LIMIT)?;
        machine.shows(&["Start PXE over IPv6"], BOOT_LIMIT)?;
        Ok(())
    })
}

#[test]
fn a_machine_in_maintenance_is_told_the_reason_and_boots_no_volume() -> Result<()> {
    lab::run(|lab| {
        let disk = Volume::bootable(lab, &Recipe::new("local", Firmware::Bios))?;
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = storage(lab, &[&export])?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        let node = site.register(&[&export])?;
        site.api.set_maintenance(&node, "fan 3 is broken")?;

        let mut machine = Build { disk: Some(&disk), ..Build::bare(Firmware::Bios, MAC) }.power_on(lab)?;
        machine.shows(&["is in maintenance: fan 3 is broken"], BOOT_LIMIT)?;
        machine.shows(&[&disk.boot_line()], BOOT_LIMIT)?;
        Ok(())
    })
}
