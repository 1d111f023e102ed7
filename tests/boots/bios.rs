//! BIOS machines: SeaBIOS, and the iPXE that is their network card's ROM.
//!
//! Every volume asks for CHAP and lets in one initiator name only, so a boot proves that both were right.

use anyhow::Result;

use crate::lab;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Build, Firmware};
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, LOG_LIMIT, MAC, Site, storage};

#[test]
fn boots_its_volume_from_the_card_s_own_ipxe() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = storage(lab, &[&export])?;
        let mut site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&[&export])?;

        let mut machine = Build::bare(Firmware::Bios, MAC).power_on(lab)?;
        machine.shows(&["boot.ipxe... ok"], BOOT_LIMIT)?;
        machine.shows(&[&volume.boot_line()], BOOT_LIMIT)?;
        site.volboot.logs(r#""outcome":"boot""#, LOG_LIMIT)?;
        site.volboot.logs(r#""step":"hooked""#, LOG_LIMIT)?;
        site.volboot.stop()
    })
}

#[test]
fn boots_its_volume_through_undionly_from_volboot() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = storage(lab, &[&export])?;
        let mut site = Site::open(lab, Rom::LoadsUndionly, "")?;
        site.register(&[&export])?;

        let mut machine = Build::bare(Firmware::Bios, MAC).power_on(lab)?;
        machine.shows(&["undionly.kpxe... ok"], BOOT_LIMIT)?;
        machine.shows(&["boot.ipxe... ok"], BOOT_LIMIT)?;
        machine.shows(&[&volume.boot_line()], BOOT_LIMIT)?;
        site.volboot.stop()
    })
}

#[test]
fn sees_both_of_its_volumes_each_with_a_secret_of_its_own() -> Result<()> {
    lab::run(|lab| {
        let data = Volume::data(lab, "beta")?;
        let recipe = Recipe { reads: Some(&data), ..Recipe::new("alpha", Firmware::Bios) };
        let system = Volume::bootable(lab, &recipe)?;
        let exports = [&Export::new(&system, INITIATOR), &Export::new(&data, INITIATOR)];
        let _storage = storage(lab, &exports)?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&exports)?;

        let mut machine = Build::bare(Firmware::Bios, MAC).power_on(lab)?;
        machine.shows(&[&system.boot_line()], BOOT_LIMIT)?;
        machine.shows(&["(hd0) (hd1)"], BOOT_LIMIT)?;
        machine.shows(&[&data.data_line()], BOOT_LIMIT)?;
        Ok(())
    })
}
