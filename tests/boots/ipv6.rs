//! Machines in a network with IPv6 alone, with `packaging/dhcp/dnsmasq-ipv6.conf`: addresses, volboot and storage.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::lab::daemon::Daemon;
use crate::lab::dhcp_configs::{DhcpServer, PackagedDhcp};
use crate::lab::machine::{Firmware, IpVersion, MachineSpec};
use crate::lab::target::{Export, Target, portal_v6};
use crate::lab::volume::{Recipe, Volume};
use crate::lab::{self, Lab};
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site, newer_ipxe};

/// iPXE's line when it requests addresses.
const CONFIGURING: &str = "Configuring ";

/// Names the script on the TFTP server, which knows no relative URLs: it contains the rules for cards.
const OVER_TFTP: [(&str, &str); 1] =
    [("http://[fd00:99::1]:8080/boot.ipxe", "tftp://[fd00:99::1]/boot.ipxe")];

/// Boots a machine, whose iPXE configures its card once.
fn boot(lab: &Lab, firmware: Firmware, images: Option<PathBuf>) -> Result<()> {
    boot_with(lab, firmware, images, &[])
}

fn boot_with(lab: &Lab, firmware: Firmware, images: Option<PathBuf>, changes: &[(&str, &str)]) -> Result<()> {
    let volume = Volume::bootable(lab, &Recipe::new("alpha", firmware))?;
    let mut export = Export::new(&volume, INITIATOR);
    export.portal = portal_v6();
    let mut storage = Target::start_on_ipv6(lab)?;
    storage.export(&export)?;
    let binary = Path::new(env!("CARGO_BIN_EXE_volboot"));
    let volboot = Daemon::start_on_all_addresses(lab, binary, images.as_deref(), "")?;
    let site =
        Site::with_packaged_dhcp(volboot, PackagedDhcp::start(lab, DhcpServer::DnsmasqIpv6, changes)?)?;
    site.register(&[&export])?;

    let spec = MachineSpec { ip_version: IpVersion::V6, ..MachineSpec::new(firmware, MAC) };
    let mut machine = spec.power_on(lab)?;
    machine.wait_for(&[CONFIGURING], BOOT_LIMIT)?;
    machine.wait_for(&["boot.ipxe... ok"], BOOT_LIMIT)?;
    let booted = machine.wait_for(&[&volume.boot_line(), CONFIGURING], BOOT_LIMIT)?;
    ensure!(booted.index == 0, "iPXE configures the card again");
    Ok(())
}

#[test]
fn bios_machine_boots_over_ipv6() -> Result<()> {
    lab::run(|lab| boot(lab, Firmware::Bios, None))
}

#[test]
fn uefi_machine_boots_over_ipv6() -> Result<()> {
    lab::run(|lab| boot(lab, Firmware::Uefi, None))
}

#[test]
fn uefi_machine_boots_newer_ipxe_over_ipv6() -> Result<()> {
    lab::run(|lab| boot(lab, Firmware::Uefi, Some(newer_ipxe()?)))
}

#[test]
fn bios_machine_boots_by_the_script_over_tftp_and_ipv6() -> Result<()> {
    lab::run(|lab| boot_with(lab, Firmware::Bios, None, &OVER_TFTP))
}

#[test]
fn uefi_machine_boots_newer_ipxe_by_the_script_over_tftp_and_ipv6() -> Result<()> {
    lab::run(|lab| boot_with(lab, Firmware::Uefi, Some(newer_ipxe()?), &OVER_TFTP))
}
