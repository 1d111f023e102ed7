//! BIOS machines: SeaBIOS, with iPXE as the network card's ROM.
//!
//! Every volume requires CHAP and accepts one initiator name only, so a boot proves that both are correct.

use anyhow::Result;
use serde_json::json;

use crate::lab;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::target::{Export, portal};
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, LOG_LIMIT, MAC, Site, start_storage};

#[test]
fn bios_machine_boots_by_its_rom() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let mut site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&[&export])?;

        let mut machine = MachineSpec::new(Firmware::Bios, MAC).power_on(lab)?;
        machine.wait_for(&["boot.ipxe... ok"], BOOT_LIMIT)?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        site.volboot.wait_for_log(r#""outcome":"boot""#, LOG_LIMIT)?;
        site.volboot.wait_for_log(r#""step":"hooked""#, LOG_LIMIT)?;
        site.volboot.stop()
    })
}

/// iPXE of 2019 runs the script with the search for the network card.
#[test]
fn bios_machine_boots_by_a_script_over_tftp() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let site = Site::open(lab, Rom::FetchesScriptOverTftp, "")?;
        site.register(&[&export])?;

        let mut machine = MachineSpec::new(Firmware::Bios, MAC).power_on(lab)?;
        machine.wait_for(&["boot.ipxe... ok"], BOOT_LIMIT)?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        Ok(())
    })
}

#[test]
fn bios_machine_boots_by_undionly() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let mut site = Site::open(lab, Rom::LoadsUndionly, "")?;
        site.register(&[&export])?;

        let mut machine = MachineSpec::new(Firmware::Bios, MAC).power_on(lab)?;
        machine.wait_for(&["undionly.kpxe... ok"], BOOT_LIMIT)?;
        machine.wait_for(&["boot.ipxe... ok"], BOOT_LIMIT)?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        site.volboot.stop()
    })
}

/// tgt knows LUN 256 by its flat address only. tgt accepts target names other than IQNs, except names with `_`.
#[test]
fn bios_machine_boots_from_lun_256_of_a_target_with_a_plain_name() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let mut export = Export::new(&volume, INITIATOR);
        export.iqn = "target.lab.alpha-1".to_owned();
        export.lun = 256;
        let _storage = start_storage(lab, &[&export])?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        let node = site.register(&[])?;
        let properties = json!({
            "target_portal": portal(), "target_iqn": export.iqn, "target_lun": export.lun, "addressing_mode": "SAM2",
            "auth_username": export.account.username, "auth_password": export.account.password,
        });
        site.api.create_target_with(&node, &export.iqn, &properties)?;

        let mut machine = MachineSpec::new(Firmware::Bios, MAC).power_on(lab)?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        Ok(())
    })
}

#[test]
fn bios_machine_has_two_volumes_with_separate_secrets() -> Result<()> {
    lab::run(|lab| {
        let data = Volume::data(lab, "beta")?;
        let recipe = Recipe { data_volume: Some(&data), ..Recipe::new("alpha", Firmware::Bios) };
        let system = Volume::bootable(lab, &recipe)?;
        let exports = [&Export::new(&system, INITIATOR), &Export::new(&data, INITIATOR)];
        let _storage = start_storage(lab, &exports)?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&exports)?;

        let mut machine = MachineSpec::new(Firmware::Bios, MAC).power_on(lab)?;
        machine.wait_for(&[&system.boot_line()], BOOT_LIMIT)?;
        machine.wait_for(&["(hd0) (hd1)"], BOOT_LIMIT)?;
        machine.wait_for(&[&data.data_line()], BOOT_LIMIT)?;
        Ok(())
    })
}
