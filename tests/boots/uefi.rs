//! UEFI machines: OVMF's PXE fetches `snponly.efi` from volboot, and iPXE then fetches the script.

use anyhow::Result;

use crate::lab;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site, start_storage};

#[test]
fn uefi_machine_boots_by_snponly() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Uefi))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let mut site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&[&export])?;

        let mut machine = MachineSpec::new(Firmware::Uefi, MAC).power_on(lab)?;
        machine.wait_for(&["NBP file downloaded successfully"], BOOT_LIMIT)?;
        machine.wait_for(&["boot.ipxe... ok"], BOOT_LIMIT)?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        site.volboot.stop()
    })
}

/// Debian installs no `\EFI\BOOT\BOOTX64.EFI`, so the boot depends on the loader in the target's properties.
#[test]
fn uefi_machine_starts_the_loader_of_the_target() -> Result<()> {
    const LOADER: &str = r"\EFI\debian\grubx64.efi";
    lab::run(|lab| {
        let recipe = Recipe { loader: LOADER, ..Recipe::new("alpha", Firmware::Uefi) };
        let volume = Volume::bootable(lab, &recipe)?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        let node = site.register(&[])?;
        site.api.create_target(&node, 0, &export, Some(LOADER))?;

        let mut machine = MachineSpec::new(Firmware::Uefi, MAC).power_on(lab)?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        Ok(())
    })
}

#[test]
fn uefi_machine_has_two_volumes_with_separate_secrets() -> Result<()> {
    lab::run(|lab| {
        let data = Volume::data(lab, "beta")?;
        let recipe = Recipe { data_volume: Some(&data), ..Recipe::new("alpha", Firmware::Uefi) };
        let system = Volume::bootable(lab, &recipe)?;
        let exports = [&Export::new(&system, INITIATOR), &Export::new(&data, INITIATOR)];
        let _storage = start_storage(lab, &exports)?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&exports)?;

        let mut machine = MachineSpec::new(Firmware::Uefi, MAC).power_on(lab)?;
        machine.wait_for(&[&system.boot_line()], BOOT_LIMIT)?;
        machine.wait_for(&[&data.data_line()], BOOT_LIMIT)?;
        Ok(())
    })
}
