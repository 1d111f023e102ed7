//! Machines with two network cards: iPXE uses the firmware's card, and another one if volboot is not reached through it.
//!
//! The iPXE of Debian 13 with drivers of its own (`ipxe.efi`) runs `autoexec.ipxe` before DHCP, and has both cards. The
//! machine boots by its second card.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::lab::daemon::Daemon;
use crate::lab::dhcp::{Dhcp, Rom};
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::network::{bridge, other_bridge};
use crate::lab::other_network::{OtherNetwork, OtherService};
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::lab::{self, Lab};
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site, newer_ipxe, start_storage};

const OTHER_MAC: &str = "52:54:00:65:43:21";
/// iPXE's line after a failed boot request.
const FAILED: &str = "cannot fetch the boot script";
/// The last line of a script that does not boot, such as one with a refusal.
const GIVES_UP: &str = "continuing with the next boot device";

/// Boots a machine with another card on this bridge; the console shows these lines first. `has_port`: whether the node has
/// a port for the other card.
fn boot(
    lab: &Lab,
    firmware: Firmware,
    bridge: &'static str,
    http: &str,
    lines: &[&str],
    has_port: bool,
) -> Result<()> {
    let volume = Volume::bootable(lab, &Recipe::new("alpha", firmware))?;
    let export = Export::new(&volume, INITIATOR);
    let _storage = start_storage(lab, &[&export])?;
    let binary = Path::new(env!("CARGO_BIN_EXE_volboot"));
    let volboot = Daemon::start_on_all_addresses(lab, binary, Some(&newer_ipxe()?), http)?;
    let site = Site::with_lab_dhcp(volboot, Dhcp::start(lab, Rom::FetchesScriptOrIpxeEfi)?)?;
    let node = site.register(&[&export])?;
    if has_port {
        site.api.create_port(&node, OTHER_MAC)?;
    }
    let spec = MachineSpec { other_card: Some((OTHER_MAC, bridge)), ..MachineSpec::new(firmware, MAC) };
    let mut machine = spec.power_on(lab)?;
    machine.wait_for(&["autoexec.ipxe... ok"], BOOT_LIMIT)?;
    let booted = volume.boot_line();
    for line in lines.iter().chain([&booted.as_str()]) {
        let first = machine.wait_for(&[line, FAILED, GIVES_UP, &booted], BOOT_LIMIT)?;
        ensure!(first.index == 0, "not '{line}' is first");
    }
    Ok(())
}

#[test]
fn firmware_card_is_used_beside_a_card_in_another_network() -> Result<()> {
    lab::run(|lab| {
        let _network = OtherNetwork::start(lab, OtherService::Dhcp)?;
        boot(lab, Firmware::Uefi, other_bridge(), "", &[], false)
    })
}

/// `ipxe-arm64.efi` has drivers of its own.
#[test]
fn firmware_card_is_used_on_arm64() -> Result<()> {
    lab::run(|lab| {
        let _network = OtherNetwork::start(lab, OtherService::Dhcp)?;
        boot(lab, Firmware::UefiArm64, other_bridge(), "", &[], false)
    })
}

#[test]
fn firmware_card_is_used_beside_a_card_with_router_advertisements() -> Result<()> {
    lab::run(|lab| {
        let _network = OtherNetwork::start(lab, OtherService::RouterAdvertisements)?;
        boot(lab, Firmware::Uefi, other_bridge(), "", &[], false)
    })
}

/// The neighbour check accepts the firmware's card only: the other one has no port.
#[test]
fn firmware_card_is_used_beside_a_card_in_the_same_network() -> Result<()> {
    lab::run(|lab| boot(lab, Firmware::Uefi, bridge(), "", &[], false))
}

/// volboot has only an IPv6 address of the other network, and the firmware's card only an IPv4 address.
#[test]
fn another_card_is_used_after_a_connect_error() -> Result<()> {
    lab::run(|lab| {
        let _network = OtherNetwork::start(lab, OtherService::Both)?;
        boot(
            lab,
            Firmware::Uefi,
            other_bridge(),
            r#"url = "http://[fd00:98::1]:8080""#,
            &[FAILED, "no answer through net1"],
            true,
        )
    })
}
