//! The DHCP servers of `packaging/dhcp`, each with the file that operators are given: what each kind of machine is told,
//! and that machines boot by it.
//!
//! QEMU's BIOS has no PXE but iPXE's, so there a machine is told what iPXE is told; what other BIOSes are told is
//! asked for.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::lab::daemon::Daemon;
use crate::lab::machine::{Build, Firmware};
use crate::lab::network::SERVER;
use crate::lab::probe::{Kind, Probe};
use crate::lab::snippets::{Server, Site as Dhcp};
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::lab::{self, Lab};
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site, newer_ipxe, storage};

const SCRIPT: &str = "http://10.99.0.1:8080/boot.ipxe";
const HTTP_X64: &str = "http://10.99.0.1:8080/images/snponly.efi";
const HTTP_ARM64: &str = "http://10.99.0.1:8080/images/ipxe-arm64.efi";

/// iPXE's option 175 with "no-pxedhcp" and nothing else, however it is ended.
const NO_PXEDHCP: [u8; 3] = [176, 1, 1];

/// networkd's file, for machines that get iPXE from volboot. Only one that asks for `autoexec.ipxe` is of use there.
const OVER_TFTP: [(&str, &str); 1] = [("\nBootFilename=http://10.99.0.1:8080/boot.ipxe\n#", "\n")];
const OVER_HTTP: [(&str, &str); 3] = [
    ("\nBootFilename=http://10.99.0.1:8080/boot.ipxe\n", "\n"),
    ("#BootFilename=http:", "BootFilename=http:"),
    ("#SendOption", "SendOption"),
];

#[test]
fn dnsmasq_tells_each_kind_of_machine_what_it_can_use() -> Result<()> {
    lab::run(|lab| distinguishes(lab, Server::Dnsmasq))
}

#[test]
fn dhcpd_tells_each_kind_of_machine_what_it_can_use() -> Result<()> {
    lab::run(|lab| distinguishes(lab, Server::Dhcpd))
}

#[test]
fn kea_tells_each_kind_of_machine_what_it_can_use() -> Result<()> {
    lab::run(|lab| distinguishes(lab, Server::Kea))
}

fn distinguishes(lab: &Lab, server: Server) -> Result<()> {
    let _site = Dhcp::start(lab, server, &[])?;
    let probe = Probe::plug_in()?;
    for (kind, file) in [
        (Kind::Pxe(0), "undionly.kpxe"),
        (Kind::Pxe(7), "snponly.efi"),
        (Kind::Pxe(9), "snponly.efi"),
        (Kind::Pxe(11), "ipxe-arm64.efi"),
        (Kind::Other, "undionly.kpxe"),
    ] {
        let offer = probe.offer(kind)?;
        ensure!(offer.file == file && offer.server == SERVER && offer.class.is_none(), "{kind:?}: {offer:?}");
    }
    for (kind, url) in [(Kind::Http(16), HTTP_X64), (Kind::Http(19), HTTP_ARM64)] {
        let offer = probe.offer(kind)?;
        ensure!(offer.file == url && offer.class.as_deref() == Some("HTTPClient"), "{kind:?}: {offer:?}");
    }
    for kind in [0, 7, 9, 11, 16, 19].map(Kind::Ipxe) {
        let offer = probe.offer(kind)?;
        ensure!(offer.file == SCRIPT && offer.class.is_none(), "{kind:?}: {offer:?}");
        let told = offer.ipxe.as_deref().unwrap_or_default();
        ensure!(told.starts_with(&NO_PXEDHCP) && matches!(told[3..], [] | [255]), "{kind:?}: {offer:?}");
    }
    Ok(())
}

#[test]
fn networkd_tells_all_machines_the_same() -> Result<()> {
    type Told = (&'static [(&'static str, &'static str)], &'static str, Option<&'static str>);
    let told: [Told; 3] =
        [(&[], SCRIPT, None), (&OVER_TFTP, "snponly.efi", None), (&OVER_HTTP, HTTP_X64, Some("HTTPClient"))];
    for (changes, file, class) in told {
        lab::run(move |lab| {
            let _site = Dhcp::start(lab, Server::Networkd, changes)?;
            let probe = Probe::plug_in()?;
            for kind in [Kind::Pxe(0), Kind::Pxe(7), Kind::Http(16), Kind::Ipxe(0), Kind::Other] {
                let offer = probe.offer(kind)?;
                let right = offer.file == file && offer.server == SERVER && offer.class.as_deref() == class;
                ensure!(right, "{kind:?}: {offer:?}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_bios_machine_boots_with_dnsmasq() -> Result<()> {
    lab::run(|lab| boots(lab, Server::Dnsmasq, Firmware::Bios, false))
}

#[test]
fn a_uefi_machine_boots_with_dnsmasq() -> Result<()> {
    lab::run(|lab| boots(lab, Server::Dnsmasq, Firmware::Uefi, false))
}

#[test]
fn a_uefi_machine_boots_over_http_with_dnsmasq() -> Result<()> {
    lab::run(|lab| boots(lab, Server::Dnsmasq, Firmware::Uefi, true))
}

#[test]
fn a_bios_machine_boots_with_dhcpd() -> Result<()> {
    lab::run(|lab| boots(lab, Server::Dhcpd, Firmware::Bios, false))
}

#[test]
fn a_uefi_machine_boots_with_dhcpd() -> Result<()> {
    lab::run(|lab| boots(lab, Server::Dhcpd, Firmware::Uefi, false))
}

#[test]
fn a_uefi_machine_boots_over_http_with_dhcpd() -> Result<()> {
    lab::run(|lab| boots(lab, Server::Dhcpd, Firmware::Uefi, true))
}

#[test]
fn a_bios_machine_boots_with_kea() -> Result<()> {
    lab::run(|lab| boots(lab, Server::Kea, Firmware::Bios, false))
}

#[test]
fn a_uefi_machine_boots_with_kea() -> Result<()> {
    lab::run(|lab| boots(lab, Server::Kea, Firmware::Uefi, false))
}

#[test]
fn a_uefi_machine_boots_over_http_with_kea() -> Result<()> {
    lab::run(|lab| boots(lab, Server::Kea, Firmware::Uefi, true))
}

fn boots(lab: &Lab, server: Server, firmware: Firmware, http_boot: bool) -> Result<()> {
    let volboot = Daemon::start(lab, Path::new(env!("CARGO_BIN_EXE_volboot")), "", None)?;
    boots_from(lab, volboot, server, &[], firmware, http_boot)
}

#[test]
fn a_machine_whose_card_has_ipxe_boots_with_networkd() -> Result<()> {
    lab::run(|lab| boots(lab, Server::Networkd, Firmware::Bios, false))
}

#[test]
fn a_uefi_machine_boots_newer_ipxe_with_networkd() -> Result<()> {
    lab::run(|lab| boots_newer(lab, Server::Networkd, &OVER_TFTP, Firmware::Uefi, false))
}

#[test]
fn a_uefi_machine_boots_newer_ipxe_over_http_with_networkd() -> Result<()> {
    lab::run(|lab| boots_newer(lab, Server::Networkd, &OVER_HTTP, Firmware::Uefi, true))
}

#[test]
fn an_arm64_machine_boots_with_dnsmasq() -> Result<()> {
    lab::run(|lab| boots_newer(lab, Server::Dnsmasq, &[], Firmware::UefiArm64, false))
}

#[test]
fn an_arm64_machine_boots_over_http_with_dnsmasq() -> Result<()> {
    lab::run(|lab| boots_newer(lab, Server::Dnsmasq, &[], Firmware::UefiArm64, true))
}

#[test]
fn an_arm64_machine_boots_with_dhcpd() -> Result<()> {
    lab::run(|lab| boots_newer(lab, Server::Dhcpd, &[], Firmware::UefiArm64, false))
}

#[test]
fn an_arm64_machine_boots_over_http_with_dhcpd() -> Result<()> {
    lab::run(|lab| boots_newer(lab, Server::Dhcpd, &[], Firmware::UefiArm64, true))
}

#[test]
fn an_arm64_machine_boots_with_kea() -> Result<()> {
    lab::run(|lab| boots_newer(lab, Server::Kea, &[], Firmware::UefiArm64, false))
}

#[test]
fn an_arm64_machine_boots_over_http_with_kea() -> Result<()> {
    lab::run(|lab| boots_newer(lab, Server::Kea, &[], Firmware::UefiArm64, true))
}

/// With the iPXE of Debian 13: the first that asks for `autoexec.ipxe`, and the first for arm64.
fn boots_newer(
    lab: &Lab,
    server: Server,
    changes: &[(&str, &str)],
    firmware: Firmware,
    http_boot: bool,
) -> Result<()> {
    let newer = newer_ipxe()?;
    let volboot = Daemon::start_with_images(lab, Path::new(env!("CARGO_BIN_EXE_volboot")), &newer)?;
    boots_from(lab, volboot, server, changes, firmware, http_boot)
}

fn boots_from(
    lab: &Lab,
    volboot: Daemon,
    server: Server,
    changes: &[(&str, &str)],
    firmware: Firmware,
    http_boot: bool,
) -> Result<()> {
    let volume = Volume::bootable(lab, &Recipe::new("alpha", firmware))?;
    let export = Export::new(&volume, INITIATOR);
    let _storage = storage(lab, &[&export])?;
    let site = Site::with(volboot, Dhcp::start(lab, server, changes)?)?;
    site.register(&[&export])?;

    let mut machine = Build { http_boot, ..Build::bare(firmware, MAC) }.power_on(lab)?;
    if firmware != Firmware::Bios {
        machine.shows(
            &[if http_boot { "Start HTTP Boot over IPv4" } else { "Start PXE over IPv4" }],
            BOOT_LIMIT,
        )?;
    }
    machine.shows(&[&volume.boot_line()], BOOT_LIMIT)?;
    Ok(())
}
