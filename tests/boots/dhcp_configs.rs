//! The configuration files in `packaging/dhcp`: the offers to each kind of client, and real boots.
//!
//! QEMU's only BIOS PXE is iPXE's own, so a real BIOS boot covers the offer to iPXE only. The probe covers the
//! offers to other BIOSes.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::lab::daemon::Daemon;
use crate::lab::dhcp_configs::{DhcpServer, PackagedDhcp};
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::network::SERVER;
use crate::lab::probe::{ClientKind, Probe};
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::lab::{self, Lab};
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site, newer_ipxe, start_storage};

const SCRIPT: &str = "http://10.99.0.1:8080/boot.ipxe";
const HTTP_X64: &str = "http://10.99.0.1:8080/images/snponly.efi";
const HTTP_ARM64: &str = "http://10.99.0.1:8080/images/ipxe-arm64.efi";

/// iPXE's option 175 with "no-pxedhcp" only, with or without an end mark.
const NO_PXEDHCP: [u8; 3] = [176, 1, 1];

/// Changes to networkd's file for iPXE from volboot. Only an iPXE that fetches `autoexec.ipxe` works there.
const OVER_TFTP: [(&str, &str); 1] = [("\nBootFilename=http://10.99.0.1:8080/boot.ipxe\n#", "\n")];
const OVER_HTTP: [(&str, &str); 3] = [
    ("\nBootFilename=http://10.99.0.1:8080/boot.ipxe\n", "\n"),
    ("#BootFilename=http:", "BootFilename=http:"),
    ("#SendOption", "SendOption"),
];

#[test]
fn dnsmasq_offers_by_client_kind() -> Result<()> {
    lab::run(|lab| check_offers(lab, DhcpServer::Dnsmasq))
}

#[test]
fn dhcpd_offers_by_client_kind() -> Result<()> {
    lab::run(|lab| check_offers(lab, DhcpServer::Dhcpd))
}

#[test]
fn kea_offers_by_client_kind() -> Result<()> {
    lab::run(|lab| check_offers(lab, DhcpServer::Kea))
}

fn check_offers(lab: &Lab, server: DhcpServer) -> Result<()> {
    let _dhcp = PackagedDhcp::start(lab, server, &[])?;
    let probe = Probe::start()?;
    for (kind, file) in [
        (ClientKind::Pxe(0), "undionly.kpxe"),
        (ClientKind::Pxe(7), "snponly.efi"),
        (ClientKind::Pxe(9), "snponly.efi"),
        (ClientKind::Pxe(11), "ipxe-arm64.efi"),
        (ClientKind::Other, "undionly.kpxe"),
    ] {
        let offer = probe.offer(kind)?;
        ensure!(offer.file == file && offer.server == SERVER && offer.class.is_none(), "{kind:?}: {offer:?}");
    }
    for (kind, url) in [(ClientKind::Http(16), HTTP_X64), (ClientKind::Http(19), HTTP_ARM64)] {
        let offer = probe.offer(kind)?;
        ensure!(offer.file == url && offer.class.as_deref() == Some("HTTPClient"), "{kind:?}: {offer:?}");
    }
    for kind in [0, 7, 9, 11, 16, 19].map(ClientKind::Ipxe) {
        let offer = probe.offer(kind)?;
        ensure!(offer.file == SCRIPT && offer.class.is_none(), "{kind:?}: {offer:?}");
        let options = offer.ipxe.as_deref().unwrap_or_default();
        ensure!(
            options.starts_with(&NO_PXEDHCP) && matches!(options[3..], [] | [255]),
            "{kind:?}: {offer:?}"
        );
    }
    Ok(())
}

#[test]
fn networkd_offers_the_same_to_all_clients() -> Result<()> {
    type Case = (&'static [(&'static str, &'static str)], &'static str, Option<&'static str>);
    let cases: [Case; 3] =
        [(&[], SCRIPT, None), (&OVER_TFTP, "snponly.efi", None), (&OVER_HTTP, HTTP_X64, Some("HTTPClient"))];
    for (changes, file, class) in cases {
        lab::run(move |lab| {
            let _dhcp = PackagedDhcp::start(lab, DhcpServer::Networkd, changes)?;
            let probe = Probe::start()?;
            for kind in [
                ClientKind::Pxe(0),
                ClientKind::Pxe(7),
                ClientKind::Http(16),
                ClientKind::Ipxe(0),
                ClientKind::Other,
            ] {
                let offer = probe.offer(kind)?;
                let is_expected =
                    offer.file == file && offer.server == SERVER && offer.class.as_deref() == class;
                ensure!(is_expected, "{kind:?}: {offer:?}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn bios_machine_boots_with_dnsmasq() -> Result<()> {
    lab::run(|lab| check_boot(lab, DhcpServer::Dnsmasq, Firmware::Bios, false))
}

#[test]
fn uefi_machine_boots_with_dnsmasq() -> Result<()> {
    lab::run(|lab| check_boot(lab, DhcpServer::Dnsmasq, Firmware::Uefi, false))
}

#[test]
fn uefi_machine_boots_over_http_with_dnsmasq() -> Result<()> {
    lab::run(|lab| check_boot(lab, DhcpServer::Dnsmasq, Firmware::Uefi, true))
}

#[test]
fn bios_machine_boots_with_dhcpd() -> Result<()> {
    lab::run(|lab| check_boot(lab, DhcpServer::Dhcpd, Firmware::Bios, false))
}

#[test]
fn uefi_machine_boots_with_dhcpd() -> Result<()> {
    lab::run(|lab| check_boot(lab, DhcpServer::Dhcpd, Firmware::Uefi, false))
}

#[test]
fn uefi_machine_boots_over_http_with_dhcpd() -> Result<()> {
    lab::run(|lab| check_boot(lab, DhcpServer::Dhcpd, Firmware::Uefi, true))
}

#[test]
fn bios_machine_boots_with_kea() -> Result<()> {
    lab::run(|lab| check_boot(lab, DhcpServer::Kea, Firmware::Bios, false))
}

#[test]
fn uefi_machine_boots_with_kea() -> Result<()> {
    lab::run(|lab| check_boot(lab, DhcpServer::Kea, Firmware::Uefi, false))
}

#[test]
fn uefi_machine_boots_over_http_with_kea() -> Result<()> {
    lab::run(|lab| check_boot(lab, DhcpServer::Kea, Firmware::Uefi, true))
}

fn check_boot(lab: &Lab, server: DhcpServer, firmware: Firmware, http_boot: bool) -> Result<()> {
    let volboot = Daemon::start(lab, Path::new(env!("CARGO_BIN_EXE_volboot")), "", None)?;
    boot_with(lab, volboot, server, &[], firmware, http_boot)
}

#[test]
fn machine_with_ipxe_rom_boots_with_networkd() -> Result<()> {
    lab::run(|lab| check_boot(lab, DhcpServer::Networkd, Firmware::Bios, false))
}

#[test]
fn uefi_machine_boots_newer_ipxe_with_networkd() -> Result<()> {
    lab::run(|lab| check_newer_boot(lab, DhcpServer::Networkd, &OVER_TFTP, Firmware::Uefi, false))
}

#[test]
fn uefi_machine_boots_newer_ipxe_over_http_with_networkd() -> Result<()> {
    lab::run(|lab| check_newer_boot(lab, DhcpServer::Networkd, &OVER_HTTP, Firmware::Uefi, true))
}

#[test]
fn arm64_machine_boots_with_dnsmasq() -> Result<()> {
    lab::run(|lab| check_newer_boot(lab, DhcpServer::Dnsmasq, &[], Firmware::UefiArm64, false))
}

#[test]
fn arm64_machine_boots_over_http_with_dnsmasq() -> Result<()> {
    lab::run(|lab| check_newer_boot(lab, DhcpServer::Dnsmasq, &[], Firmware::UefiArm64, true))
}

#[test]
fn arm64_machine_boots_with_dhcpd() -> Result<()> {
    lab::run(|lab| check_newer_boot(lab, DhcpServer::Dhcpd, &[], Firmware::UefiArm64, false))
}

#[test]
fn arm64_machine_boots_over_http_with_dhcpd() -> Result<()> {
    lab::run(|lab| check_newer_boot(lab, DhcpServer::Dhcpd, &[], Firmware::UefiArm64, true))
}

#[test]
fn arm64_machine_boots_with_kea() -> Result<()> {
    lab::run(|lab| check_newer_boot(lab, DhcpServer::Kea, &[], Firmware::UefiArm64, false))
}

#[test]
fn arm64_machine_boots_over_http_with_kea() -> Result<()> {
    lab::run(|lab| check_newer_boot(lab, DhcpServer::Kea, &[], Firmware::UefiArm64, true))
}

/// Boots with the iPXE of Debian 13: the first version that fetches `autoexec.ipxe`, and the first for arm64.
fn check_newer_boot(
    lab: &Lab,
    server: DhcpServer,
    changes: &[(&str, &str)],
    firmware: Firmware,
    http_boot: bool,
) -> Result<()> {
    let images = newer_ipxe()?;
    let volboot = Daemon::start_with_images(lab, Path::new(env!("CARGO_BIN_EXE_volboot")), &images)?;
    boot_with(lab, volboot, server, changes, firmware, http_boot)
}

fn boot_with(
    lab: &Lab,
    volboot: Daemon,
    server: DhcpServer,
    changes: &[(&str, &str)],
    firmware: Firmware,
    http_boot: bool,
) -> Result<()> {
    let volume = Volume::bootable(lab, &Recipe::new("alpha", firmware))?;
    let export = Export::new(&volume, INITIATOR);
    let _storage = start_storage(lab, &[&export])?;
    let site = Site::with_packaged_dhcp(volboot, PackagedDhcp::start(lab, server, changes)?)?;
    site.register(&[&export])?;

    let mut machine = MachineSpec { http_boot, ..MachineSpec::new(firmware, MAC) }.power_on(lab)?;
    if firmware != Firmware::Bios {
        machine.wait_for(
            &[if http_boot { "Start HTTP Boot over IPv4" } else { "Start PXE over IPv4" }],
            BOOT_LIMIT,
        )?;
    }
    machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
    Ok(())
}
