//! Retries: a machine boots as soon as its storage is available.

use anyhow::{Result, ensure};

use crate::lab;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, LOG_LIMIT, MAC, Site, start_storage};

/// iPXE's "Connection reset" (error 0f0a60): no process listens on the portal.
const NO_LISTENER: &str = "http://ipxe.org/0f0a60";

#[test]
fn machine_boots_when_its_portal_comes_up() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let mut site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&[&export])?;

        let mut machine = MachineSpec::new(Firmware::Bios, MAC).power_on(lab)?;
        let first = machine.wait_for(&[NO_LISTENER, &volume.boot_line()], BOOT_LIMIT)?;
        ensure!(first.index == 0, "the machine booted without a portal");
        machine.wait_for(&[NO_LISTENER], BOOT_LIMIT)?;

        site.volboot.wait_for_log(r#""step":"hook-0""#, LOG_LIMIT)?;
        let _storage = start_storage(lab, &[&export])?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        Ok(())
    })
}
