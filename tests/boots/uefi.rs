//! UEFI machines: OVMF's own PXE fetches `snponly.efi` from volboot, which fetches the script.

use anyhow::Result;

use crate::lab;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Build, Firmware};
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site, storage};

#[test]
fn boots_its_volume_through_snponly_from_volboot() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Uefi))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = storage(lab, &[&export])?;
        let mut site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&[&export])?;

        let mut machine = Build::bare(Firmware::Uefi, MAC).power_on(lab)?;
        machine.shows(&["NBP file downloaded successfully"], BOOT_LIMIT)?;
        machine.shows(&["boot.ipxe... ok"], BOOT_LIMIT)?;
        machine.shows(&[&volume.boot_line()], BOOT_LIMIT)?;
        site.volboot.stop()
    })
}

/// A disk without `\EFI\BOOT\BOOTX64.EFI`, as Debian installs it: only the name in the target's properties
/// leads to a boot.
#[test]
fn starts_the_loader_that_the_boot_target_names() -> Result<()> {
    const LOADER: &str = r"\EFI\debian\grubx64.efi";
    lab::run(|lab| {
        let recipe = Recipe { loader: LOADER, ..Recipe::new("alpha", Firmware::Uefi) };
        let volume = Volume::bootable(lab, &recipe)?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = storage(lab, &[&export])?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        let node = site.register(&[])?;
        site.api.create_target(&node, 0, &export, Some(LOADER))?;

        let mut machine = Build::bare(Firmware::Uefi, MAC).power_on(lab)?;
        machine.shows(&[&volume.boot_line()], BOOT_LIMIT)?;
        Ok(())
    })
}

#[test]
fn sees_both_of_its_volumes_each_with_a_secret_of_its_own() -> Result<()> {
    lab::run(|lab| {
        let data = Volume::data(lab, "beta")?;
        let recipe = Recipe { reads: Some(&data), ..Recipe::new("alpha", Firmware::Uefi) };
        let system = Volume::bootable(lab, &recipe)?;
        let exports = [&Export::new(&system, INITIATOR), &Export::new(&data, INITIATOR)];
        let _storage = storage(lab, &exports)?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&exports)?;

        let mut machine = Build::bare(Firmware::Uefi, MAC).power_on(lab)?;
        machine.shows(&[&system.boot_line()], BOOT_LIMIT)?;
        machine.shows(&[&data.data_line()], BOOT_LIMIT)?;
        Ok(())
    })
}
