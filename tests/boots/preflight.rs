//! Preflight: of two portals, the first dies, and the machine boots at its first try without waiting for a time-out.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::lab;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::network::{SECOND_ADDRESS, SERVER, bridge, ip};
use crate::lab::target::{Export, Target, portal, portal_at};
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site};

/// A result lasts a minute, and a probe of a silent portal two seconds.
const NOTICE_LIMIT: Duration = Duration::from_secs(180);

#[test]
fn machine_with_a_dead_portal_boots_at_its_first_try() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let mut export = Export::new(&volume, INITIATOR);
        // With such a secret, the BIOS table has room for one path.
        export.account.password = "a long secret of the volume alpha".repeat(3);
        let mut target = Target::start_at(lab, &[SECOND_ADDRESS, SERVER])?;
        target.export(&export)?;
        let mut site = Site::open(lab, Rom::FetchesScript, "")?;
        let node = site.register(&[])?;
        let properties = json!({
            "target_portals": [portal_at(SECOND_ADDRESS), portal()], "target_iqn": export.iqn,
            "target_lun": export.lun, "auth_username": export.account.username,
            "auth_password": export.account.password,
        });
        site.api.create_target_with(&node, &export.iqn, &properties)?;
        let mut machine = MachineSpec::new(Firmware::Bios, MAC).power_on(lab)?;
        machine.wait_for(&["1 of the 2 paths to volume"], BOOT_LIMIT)?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        drop(machine);

        ip(&["address", "del", &format!("{SECOND_ADDRESS}/24"), "dev", bridge()])?;
        site.volboot.wait_for_log("portal does not answer this host any more", NOTICE_LIMIT)?;
        let mut machine = MachineSpec::new(Firmware::Bios, MAC).power_on(lab)?;
        machine.wait_for(&["is tried last: it does not answer this host"], BOOT_LIMIT)?;
        let end = machine.wait_for(&["hook-0 failed", &volume.boot_line()], BOOT_LIMIT)?;
        ensure!(end.index == 1, "the machine waited for the dead portal");
        let preview = site.api.get(&format!("nodes/{node}/boot-preview"))?;
        let reachable: Vec<_> =
            preview["portals"].as_array().into_iter().flatten().map(|portal| &portal["reachable"]).collect();
        ensure!(reachable == [&json!(true), &json!(false)], "{preview}");
        Ok(())
    })
}
