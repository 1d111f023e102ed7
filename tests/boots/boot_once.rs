//! One-time boots: a machine whose own volume does not boot starts a rescue volume, with its own one as second drive.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::lab;
use crate::lab::dhcp::Rom;
use crate::lab::documents::command;
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, LOG_LIMIT, MAC, Site, start_storage};

/// Types the command of the guide for operators, with the names and addresses of the lab.
fn boot_once(export: &Export) -> Result<String> {
    let uri = format!("iscsi:{}:{}:{}", export.portal.replace(':', "::"), export.lun, export.iqn);
    let command = command("volboot boot-once web-1")
        .replacen("volboot", env!("CARGO_BIN_EXE_volboot"), 1)
        .replace("web-1", "node-1")
        .replace("iscsi:192.0.2.9::3260:1:iqn.2010-10.org.example:rescue", &uri)
        .replace("--chap-user rescue", &format!("--chap-user {}", export.account.username));
    let output = Command::new("sh")
        .args(["-c", &command])
        .env("VOLBOOT_CHAP_PASSWORD", &export.account.password)
        .output()
        .context("the shell does not run")?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn rescue(firmware: Firmware) -> Result<()> {
    lab::run(move |lab| {
        // A volume without a boot loader, with a file that the rescue volume's boot loader reads.
        let broken = Volume::data(lab, "broken")?;
        let recipe = Recipe { data_volume: Some(&broken), ..Recipe::new("rescue", firmware) };
        let rescue = Volume::bootable(lab, &recipe)?;
        let (own, other) = (Export::new(&broken, INITIATOR), Export::new(&rescue, INITIATOR));
        let _storage = start_storage(lab, &[&own, &other])?;
        let mut site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&[&own])?;
        let said = boot_once(&other)?;
        ensure!(said.contains("with the node's own volumes: at the next boot"), "{said}");

        let mut machine = MachineSpec::new(firmware, MAC).power_on(lab)?;
        machine.wait_for(&["one-time boot from target"], BOOT_LIMIT)?;
        machine.wait_for(&[&rescue.boot_line()], BOOT_LIMIT)?;
        machine.wait_for(&[&broken.data_line()], BOOT_LIMIT)?;
        drop(machine);
        let once = site.api.get("nodes/node-1/boot-once")?;
        ensure!(once["boot_once"]["state"] == "consumed", "{once}");

        // The next boot is the node's own again. A BIOS hangs at a volume without boot code.
        let mut machine = MachineSpec::new(firmware, MAC).power_on(lab)?;
        let first = machine.wait_for(&["one-time boot from", "connecting to volume"], BOOT_LIMIT)?;
        ensure!(first.index == 1, "the machine got the one-time boot twice");
        site.volboot.wait_for_log("one-time boot ended", LOG_LIMIT)?;
        ensure!(
            site.api.get("nodes/node-1/boot-once")?["boot_once"].is_null(),
            "the one-time boot has not ended"
        );
        Ok(())
    })
}

#[test]
fn bios_machine_repairs_its_volume_from_a_rescue_volume() -> Result<()> {
    rescue(Firmware::Bios)
}

#[test]
fn uefi_machine_repairs_its_volume_from_a_rescue_volume() -> Result<()> {
    rescue(Firmware::Uefi)
}
