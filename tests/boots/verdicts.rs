//! Verdicts on boot failures of real machines against a real target.
//!
//! One machine fails in many ways in a row. Every try is resolved again, so the test fixes one fault and causes the
//! next between two tries. In the end the machine boots.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::lab;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::target::{Export, LUN, portal};
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site, start_storage};

/// Interval between two reads of the verdict.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Waits for a verdict with this prefix. Returns the machine.
pub(crate) fn wait_for_verdict(site: &Site, prefix: &str) -> Result<Value> {
    let deadline = Instant::now() + BOOT_LIMIT;
    loop {
        let machine = site.api.get(&format!("machines/{MAC}")).unwrap_or_default();
        let text = machine["verdict"]["text"].as_str().unwrap_or_default();
        if text.starts_with(prefix) {
            return Ok(machine);
        }
        ensure!(Instant::now() < deadline, "the verdict is \"{text}\", not \"{prefix}\"");
        // Limits the load on the host.
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[test]
fn a_bios_machine_gets_a_verdict_on_each_failure_and_finally_boots() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let site = Site::open(
            lab,
            Rom::FetchesScript,
            "[boot]\nunknown = \"retry\"\nrefused = \"retry\"\ntries = 50\n",
        )?;
        let mut machine = MachineSpec::new(Firmware::Bios, MAC).power_on(lab)?;

        let verdict = "unknown machine: no node has a port with the address 52:54:00";
        let unknown = wait_for_verdict(&site, verdict)?;
        ensure!(unknown["verdict"]["state"] == "unknown", "{unknown}");
        let node = site.register(&[])?;
        site.api.set_maintenance(&node, "fan 3 is broken")?;
        wait_for_verdict(&site, "refused: node node-1: maintenance is set (fan 3 is broken)")?;

        let valid = json!({
            "target_portal": portal(), "target_iqn": export.iqn, "target_lun": LUN, "auth_method": "CHAP",
            "auth_username": export.account.username, "auth_password": export.account.password,
        });
        let with = |name: &str, value: Value| {
            let mut properties = valid.clone();
            properties[name] = value;
            properties
        };
        let mut without_chap = valid.clone();
        for name in ["auth_method", "auth_username", "auth_password"] {
            without_chap.as_object_mut().map(|properties| properties.remove(name));
        }
        let mut target = site.api.create_target_with(&node, &export.iqn, &valid)?;
        site.api.clear_maintenance(&node)?;
        let step = format!("failed: connecting to volume {}:", export.iqn);
        wait_for_verdict(
            &site,
            &format!("{step} storage refused the TCP connection at the portal's port [0xf0a60"),
        )?;

        let _storage = start_storage(lab, &[&export])?;
        for (properties, cause) in [
            (
                with("target_iqn", json!("iqn.2026-01.lab.volboot:missing")),
                "target does not know the volume's IQN (yet) [0x2c0d60",
            ),
            (
                with("auth_password", json!("an invalid password")),
                "target rejected CHAP credentials [0x410d61",
            ),
            (without_chap, "target requires CHAP credentials, but the machine has none [0x430d66"),
            (
                with("target_lun", json!(7)),
                "login succeeded, but the target has no disk with this LUN [0x1d704",
            ),
        ] {
            site.api.delete_target(&target)?;
            target = site.api.create_target_with(&node, &export.iqn, &properties)?;
            let report = site.api.get(&format!("nodes/{node}/volume-check"))?;
            wait_for_verdict(&site, &format!("{step} {cause}"))?;
            // The check's reason is the machine's error, but for its number.
            let reason = cause.split(" [").next().unwrap_or_default();
            ensure!(report["boots"] == false && report.to_string().contains(reason), "{report}");
        }
        site.api.delete_target(&target)?;
        site.api.create_target_with(&node, &export.iqn, &valid)?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        let hooked = wait_for_verdict(&site, "volume hooked after ")?;
        let is_expected = hooked["verdict"]["state"] == "hooked" && hooked["journeys_without_hook"] == 1;
        ensure!(is_expected, "{hooked}");
        let first = hooked["timeline"][0]["text"].as_str().unwrap_or_default();
        ensure!(first == "read /boot.ipxe" || first.contains("over TFTP"), "{first}");
        Ok(())
    })
}

#[test]
fn a_uefi_machine_gets_the_verdict_that_its_volume_has_no_boot_loader() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::data(lab, "beta")?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&[&export])?;

        let _machine = MachineSpec::new(Firmware::Uefi, MAC).power_on(lab)?;
        let report = site.api.get("nodes/node-1/volume-check")?;
        ensure!(report.to_string().contains("not on UEFI x86_64: no boot loader"), "{report}");
        let machine = wait_for_verdict(
            &site,
            "failed: starting from the volume: volume has no boot loader for UEFI firmware [0x7f2220",
        )?;
        let texts: Vec<_> =
            machine["timeline"].as_array().into_iter().flatten().map(|entry| &entry["text"]).collect();
        // The timeline is complete from the first file on. OVMF queries the file's size before it reads the file.
        for step in
            ["queried the size of snponly.efi over TFTP", "read snponly.efi over TFTP", "boot script sent"]
        {
            let is_listed = texts.iter().any(|text| text.as_str().is_some_and(|text| text.contains(step)));
            ensure!(is_listed, "\"{step}\" is not in {texts:?}");
        }
        Ok(())
    })
}
