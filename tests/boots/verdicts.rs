//! Every failure has its sentence: each is provoked with real parts, and what the timeline says of it is compared.
//!
//! One machine goes through all of them: since every try is resolved anew, what is wrong is exchanged between two tries,
//! and at the end it boots.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::lab;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Build, Firmware};
use crate::lab::target::{Export, LUN, portal};
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site, storage};

/// How often the verdict is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Waits until the machine's timeline has come to this.
fn comes_to(site: &Site, beginning: &str) -> Result<Value> {
    let deadline = Instant::now() + BOOT_LIMIT;
    loop {
        let machine = site.api.show(&format!("machines/{MAC}")).unwrap_or_default();
        let text = machine["verdict"]["text"].as_str().unwrap_or_default();
        if text.starts_with(beginning) {
            return Ok(machine);
        }
        ensure!(Instant::now() < deadline, "it came to \"{text}\", not to \"{beginning}\"");
        // Nothing is waited for by this: it only spares the host.
        std::thread::sleep(LOOK);
    }
}

#[test]
fn a_bios_machine_that_fails_in_every_way_is_told_of_each_and_boots_in_the_end() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let site = Site::open(
            lab,
            Rom::FetchesScript,
            "[boot]\nunknown = \"retry\"\nrefused = \"retry\"\ntries = 50\n",
        )?;
        let mut machine = Build::bare(Firmware::Bios, MAC).power_on(lab)?;

        let seen =
            comes_to(&site, "stopped at its question, because no node has a port with the address 52:54:00")?;
        ensure!(seen["verdict"]["state"] == "unknown", "{seen}");
        let node = site.register(&[])?;
        site.api.set_maintenance(&node, "fan 3 is broken")?;
        comes_to(&site, "stopped at its question, because node node-1 is in maintenance: fan 3 is broken")?;

        let right = json!({
            "target_portal": portal(), "target_iqn": export.iqn, "target_lun": LUN, "auth_method": "CHAP",
            "auth_username": export.account.username, "auth_password": export.account.password,
        });
        let with = |name: &str, value: Value| {
            let mut properties = right.clone();
            properties[name] = value;
            properties
        };
        let mut without = right.clone();
        for name in ["auth_method", "auth_username", "auth_password"] {
            without.as_object_mut().map(|properties| properties.remove(name));
        }
        let mut target = site.api.create_target_as(&node, &export.iqn, &right)?;
        site.api.clear_maintenance(&node)?;
        let at = format!("stopped at connecting to volume {}, because", export.iqn);
        comes_to(&site, &format!("{at} the storage refused the connection at the portal's port [0xf0a60"))?;

        let _storage = storage(lab, &[&export])?;
        for (properties, sentence) in [
            (
                with("target_iqn", json!("iqn.2026-01.lab.volboot:nobody")),
                "the target does not know the volume's name (IQN), or not yet [0x2c0d60",
            ),
            (
                with("auth_password", json!("not the password at all")),
                "the target refused the name and password (CHAP) [0x410d61",
            ),
            (
                without,
                "the target rejected the login: it demands a name and password (CHAP), and got none [0x430d66",
            ),
            (
                with("target_lun", json!(7)),
                "the target let it in, but there is no disk under this number (LUN) [0x1d704",
            ),
        ] {
            site.api.delete_target(&target)?;
            target = site.api.create_target_as(&node, &export.iqn, &properties)?;
            comes_to(&site, &format!("{at} {sentence}"))?;
        }
        site.api.delete_target(&target)?;
        site.api.create_target_as(&node, &export.iqn, &right)?;
        machine.shows(&[&volume.boot_line()], BOOT_LIMIT)?;
        let seen = comes_to(&site, "hooked its volume, ")?;
        ensure!(seen["verdict"]["state"] == "hooked" && seen["journeys"] == 1, "{seen}");
        let first = seen["timeline"][0]["text"].as_str().unwrap_or_default();
        ensure!(first == "read /boot.ipxe" || first.contains("over TFTP"), "{first}");
        Ok(())
    })
}

#[test]
fn a_uefi_machine_is_told_that_its_volume_has_no_boot_loader() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::data(lab, "beta")?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = storage(lab, &[&export])?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&[&export])?;

        let _machine = Build::bare(Firmware::Uefi, MAC).power_on(lab)?;
        let seen = comes_to(
            &site,
            "stopped at starting from its volume, because there is no boot loader on the volume that UEFI firmware can \
             start [0x7f2220",
        )?;
        let texts: Vec<_> = seen["timeline"].as_array().into_iter().flatten().map(|e| &e["text"]).collect();
        // The whole way, from the first file on: OVMF looks how long it is before it reads it.
        for step in ["asked over TFTP how long snponly.efi is", "read snponly.efi over TFTP", "it was sent"] {
            let told = texts.iter().any(|text| text.as_str().is_some_and(|text| text.contains(step)));
            ensure!(told, "\"{step}\" is not in {texts:?}");
        }
        Ok(())
    })
}
