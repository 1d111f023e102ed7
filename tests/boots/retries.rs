//! Machines that cannot boot yet.

use anyhow::{Result, ensure};

use crate::lab;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Build, Firmware};
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, LOG_LIMIT, MAC, Site, storage};

/// iPXE's "Connection reset" (error 0f0a60), which is what a portal without a listener gives.
const NO_LISTENER: &str = "http://ipxe.org/0f0a60";

#[test]
fn a_machine_whose_portal_is_down_boots_when_it_comes_up() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let mut site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&[&export])?;

        let mut machine = Build::bare(Firmware::Bios, MAC).power_on(lab)?;
        let first = machine.shows(&[NO_LISTENER, &volume.boot_line()], BOOT_LIMIT)?;
        ensure!(first.which == 0, "it booted although there was no portal");
        machine.shows(&[NO_LISTENER], BOOT_LIMIT)?;

        site.volboot.logs(r#""step":"hook-0""#, LOG_LIMIT)?;
        let _storage = storage(lab, &[&export])?;
        machine.shows(&[&volume.boot_line()], BOOT_LIMIT)?;
        Ok(())
    })
}
