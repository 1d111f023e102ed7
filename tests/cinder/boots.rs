//! Machines that really boot from volumes in Cinder: real firmware, real iPXE, and a boot loader that says its name.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::Test;
use crate::ground::Ground;
use crate::lab::cinder::Service;
use crate::lab::dhcp::{Dhcp, Rom};
use crate::lab::machine::{Build, Firmware};
use crate::lab::volume::{Recipe, Volume};
use crate::stand::{MACS, Stand};

pub(crate) const TESTS: &[Test] = &[(
    "a_machine_boots_its_volume_whatever_happened_since_its_last_boot",
    whatever_happened_since_its_last_boot,
)];

/// No step of a boot takes longer than this, even on a busy host.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

fn whatever_happened_since_its_last_boot(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let _dhcp = Dhcp::start(&stand.ground.lab, Rom::FetchesScript)?;
    let image = Volume::bootable(&stand.ground.lab, &Recipe::new("cinders", Firmware::Bios))?;
    let volume = stand.ground.owner.create_volume("chap")?;
    stand.ground.cloud.fill(&volume, image.image())?;
    let node = stand.deploy(0, &[&volume])?;
    let boots = |stand: &Stand<'_>, patterns: &[&str]| -> Result<()> {
        let mut machine = Build::bare(Firmware::Bios, MACS[0]).power_on(&stand.ground.lab)?;
        for pattern in patterns {
            machine.shows(&[pattern], BOOT_LIMIT)?;
        }
        machine.shows(&[&image.boot_line()], BOOT_LIMIT)?;
        Ok(())
    };
    boots(&stand, &["boot.ipxe... ok"])?;
    let attachment = stand.is_attached_once(&volume)?;

    stand.ground.cloud.restart_target(&stand.ground.lab)?;
    boots(&stand, &["boot.ipxe... ok"])?;

    stand.ground.cloud.stop(Service::CinderApi)?;
    boots(&stand, &["booting from the connection of"])?;
    stand.ground.cloud.start_again(Service::CinderApi)?;
    ensure!(stand.is_attached_once(&volume)? == attachment);
    stand.ends_well(&node, &volume)
}
