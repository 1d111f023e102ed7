//! The configuration files in `packaging/dhcp`: the offers to each kind of client, and real boots.
//!
//! QEMU's only BIOS PXE is iPXE's own, so a real BIOS boot covers the offer to iPXE only. The probe covers the
//! offers to other BIOSes.

use std::path::Path;

use anyhow::{Result, ensure};
use volboot::images::{ARCHITECTURES, Architecture, BootClient, DhcpBootFile, Transport, choose_boot_file};
use volboot::model::IpxeFeature;

use crate::lab::daemon::Daemon;
use crate::lab::dhcp_configs::{DhcpServer, PackagedDhcp};
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::network::SERVER;
use crate::lab::probe::{ClientKind, Probe};
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::lab::{self, Lab};
use crate::site::{BOOT_LIMIT, INITIATOR, LOG_LIMIT, MAC, Site, newer_ipxe, start_storage};

const SCRIPT: &str = "http://10.99.0.1:8080/boot.ipxe";
const HTTP_X64: &str = "http://10.99.0.1:8080/images/snponly.efi";

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
    lab::run(|lab| check_offers(lab, DhcpServer::Dnsmasq, client_kinds()))
}

#[test]
fn dhcpd_offers_by_client_kind() -> Result<()> {
    lab::run(|lab| check_offers(lab, DhcpServer::Dhcpd, exact_client_kinds()))
}

#[test]
fn kea_offers_by_client_kind() -> Result<()> {
    lab::run(|lab| check_offers(lab, DhcpServer::Kea, exact_client_kinds()))
}

/// Compares the offers with the table that the code has.
fn check_offers(lab: &Lab, server: DhcpServer, kinds: Vec<ClientKind>) -> Result<()> {
    let _dhcp = PackagedDhcp::start(lab, server, &[])?;
    let probe = Probe::start()?;
    for kind in kinds {
        let expected = choose(kind);
        let offer = probe.offer(kind)?;
        ensure!(offer.file == url_or_name(expected), "{kind:?}: {offer:?}");
        if expected.is_some_and(|file| file.transport() == Transport::Tftp) {
            ensure!(offer.server == SERVER, "{kind:?}: {offer:?}");
        }
        let is_http_boot =
            matches!(expected, Some(DhcpBootFile::Image(row)) if row.transport == Transport::Http);
        ensure!(offer.class.as_deref() == is_http_boot.then_some("HTTPClient"), "{kind:?}: {offer:?}");
        if expected == Some(DhcpBootFile::Script) {
            let options = offer.ipxe.as_deref().unwrap_or_default();
            ensure!(
                options.starts_with(&NO_PXEDHCP) && matches!(options[3..], [] | [255]),
                "{kind:?}: {offer:?}"
            );
        }
    }
    Ok(())
}

/// Beside a server that gives addresses only. Clients that are no network-boot clients get no answer from a proxy.
#[test]
fn dnsmasq_as_proxy_offers_by_client_kind() -> Result<()> {
    lab::run(|lab| {
        let _dhcp = PackagedDhcp::start(lab, DhcpServer::DnsmasqProxy, &[])?;
        let probe = Probe::start()?;
        for kind in client_kinds() {
            // Without option 93, dnsmasq as a proxy does not answer.
            let Some(expected) = choose(kind).filter(|_| !kind.architectures().is_empty()) else { continue };
            let offer = probe.proxy_offer(kind)?;
            let class = match kind {
                ClientKind::Http(_) | ClientKind::HttpClass(_) => "HTTPClient",
                _ => "PXEClient",
            };
            let is_expected = offer.file == url_or_name(Some(expected))
                && offer.server == SERVER
                && offer.class.as_deref() == Some(class);
            ensure!(is_expected, "{kind:?}: {offer:?}");
            let untouched = probe.offer(kind)?;
            ensure!(untouched.has_address && untouched.file.is_empty(), "{kind:?}: {untouched:?}");
        }
        Ok(())
    })
}

/// Every architecture of the table, some without a row, and iPXE with and without the features that volboot needs.
fn client_kinds() -> Vec<ClientKind> {
    let mut kinds = vec![ClientKind::Other];
    for code in [1, 6, 10, 23, 27] {
        kinds.extend([ClientKind::Pxe(code), ClientKind::IpxeWithout(IpxeFeature::Http, code)]);
    }
    kinds.extend([
        ClientKind::Http(15),
        ClientKind::HttpClass(15),
        ClientKind::PxeClass(6),
        ClientKind::Ipxe(6),
    ]);
    for Architecture { code, transport, .. } in ARCHITECTURES {
        kinds.push(ClientKind::Ipxe(code));
        match transport {
            Transport::Tftp => kinds.extend([ClientKind::Pxe(code), ClientKind::PxeClass(code)]),
            Transport::Http => kinds.extend([ClientKind::Http(code), ClientKind::HttpClass(code)]),
        }
        kinds.extend(IpxeFeature::ALL.map(|feature| ClientKind::IpxeWithout(feature, code)));
    }
    kinds
}

/// The same, and clients that dnsmasq confuses: it compares each architecture in a list, and each byte of option 175.
pub(crate) fn exact_client_kinds() -> Vec<ClientKind> {
    let on_card = |code| IpxeFeature::ALL.map(|feature| ClientKind::IpxeOnCardWithout(feature, code));
    let mut kinds = client_kinds();
    kinds.extend([0, 7].into_iter().flat_map(on_card));
    kinds.extend([&[7, 0][..], &[0, 7], &[6, 7]].map(ClientKind::PxeList));
    kinds
}

pub(crate) fn choose(kind: ClientKind) -> Option<DhcpBootFile> {
    let (class, features) = (kind.vendor_class(), kind.features());
    choose_boot_file(&BootClient {
        architectures: &kind.architectures(),
        vendor_class: class.as_deref(),
        ipxe: features.as_deref(),
    })
}

/// The boot file as DHCP names it; empty for none.
pub(crate) fn url_or_name(file: Option<DhcpBootFile>) -> String {
    match file {
        None => String::new(),
        Some(file) => match file.transport() {
            Transport::Tftp => file.to_string(),
            Transport::Http => format!("http://{SERVER}:8080/{file}"),
        },
    }
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

/// Lets dnsmasq treat an iPXE without HTTPS as one without HTTP. The iPXE of 2019 has HTTP only, in QEMU's ROM and on this
/// host; that of Debian 13 has both.
const WITHOUT_HTTPS: [(&str, &str); 1] = [("set:ipxe-http,175,19", "set:ipxe-http,175,20")];

#[test]
fn bios_machine_whose_rom_lacks_a_feature_boots_by_a_complete_ipxe() -> Result<()> {
    lab::run(|lab| check_newer_boot(lab, DhcpServer::Dnsmasq, &WITHOUT_HTTPS, Firmware::Bios, false))
}

#[test]
fn bios_machine_whose_ipxe_stays_incomplete_gets_the_reason() -> Result<()> {
    lab::run(|lab| check_incomplete_ipxe(lab, Firmware::Bios, "undionly.kpxe"))
}

#[test]
fn uefi_machine_whose_ipxe_stays_incomplete_gets_the_reason() -> Result<()> {
    lab::run(|lab| check_incomplete_ipxe(lab, Firmware::Uefi, "snponly.efi"))
}

fn check_incomplete_ipxe(lab: &Lab, firmware: Firmware, image: &str) -> Result<()> {
    let volboot = Daemon::start(lab, Path::new(env!("CARGO_BIN_EXE_volboot")), "", None)?;
    let dhcp = PackagedDhcp::start(lab, DhcpServer::Dnsmasq, &WITHOUT_HTTPS)?;
    let mut site = Site::with_packaged_dhcp(volboot, dhcp)?;

    let mut machine = MachineSpec::new(firmware, MAC).power_on(lab)?;
    let reason = format!("this iPXE has no HTTP, and came back without HTTP after it read {image}");
    machine.wait_for(&[&format!("volboot: {reason}")], BOOT_LIMIT)?;
    machine.wait_for(&["continuing with the next boot device"], BOOT_LIMIT)?;
    site.volboot.wait_for_log(&format!(r#""name":"without-http/{image}""#), LOG_LIMIT)?;
    site.volboot.wait_for_log("boot ended: iPXE lacks HTTP", LOG_LIMIT)?;
    site.volboot.stop()
}

#[test]
fn bios_machine_boots_with_dnsmasq_as_proxy() -> Result<()> {
    lab::run(|lab| check_boot(lab, DhcpServer::DnsmasqProxy, Firmware::Bios, false))
}

#[test]
fn uefi_machine_boots_with_dnsmasq_as_proxy() -> Result<()> {
    lab::run(|lab| check_boot(lab, DhcpServer::DnsmasqProxy, Firmware::Uefi, false))
}

#[test]
fn uefi_machine_boots_over_http_with_dnsmasq_as_proxy() -> Result<()> {
    lab::run(|lab| check_boot(lab, DhcpServer::DnsmasqProxy, Firmware::Uefi, true))
}

#[test]
fn arm64_machine_boots_with_dnsmasq_as_proxy() -> Result<()> {
    lab::run(|lab| check_newer_boot(lab, DhcpServer::DnsmasqProxy, &[], Firmware::UefiArm64, false))
}
