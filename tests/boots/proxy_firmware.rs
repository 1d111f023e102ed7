//! Boots with the ProxyDHCP server: each firmware, beside a DHCP server that knows nothing of network boot.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::lab::address_server::{AddressServer, AddressServerKind};
use crate::lab::daemon::Daemon;
use crate::lab::dhcp_configs::start_router;
use crate::lab::machine::{Firmware, Machine, MachineSpec};
use crate::lab::network::other_bridge;
use crate::lab::relay::{RELAY, Relay};
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::lab::{self, Lab};
use crate::site::{BOOT_LIMIT, INITIATOR, LOG_LIMIT, MAC, Site, newer_ipxe, start_storage};

const BINARY: &str = env!("CARGO_BIN_EXE_volboot");

/// volboot as a ProxyDHCP server, with the binaries of this host or the newer ones.
fn start_proxy(lab: &Lab, is_newer: bool, keys: &str) -> Result<Daemon> {
    let images = if is_newer { Some(newer_ipxe()?) } else { None };
    Daemon::start_as_proxy(lab, Path::new(BINARY), images.as_deref(), keys)
}

/// Registers the machine with its volume, switches the machine on, and waits for the volume's boot loader.
fn boot(lab: &Lab, volboot: Daemon, spec: MachineSpec<'_>) -> Result<Site> {
    boot_with(lab, volboot, spec, |_, _| Ok(()))
}

/// The same; `meanwhile` runs after the start of the machine.
fn boot_with(
    lab: &Lab,
    volboot: Daemon,
    spec: MachineSpec<'_>,
    meanwhile: impl FnOnce(&mut Site, &mut Machine) -> Result<()>,
) -> Result<Site> {
    let volume = Volume::bootable(lab, &Recipe::new("alpha", spec.firmware))?;
    let export = Export::new(&volume, INITIATOR);
    let _storage = start_storage(lab, &[&export])?;
    let mut site = Site::without_dhcp(volboot)?;
    site.register(&[&export])?;
    let mut machine = spec.power_on(lab)?;
    meanwhile(&mut site, &mut machine)?;
    if let Err(error) = machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT) {
        return Err(error.context(format!("log of volboot:\n{}", site.volboot.tail())));
    }
    Ok(site)
}

fn check_boot(kind: AddressServerKind, firmware: Firmware, http_boot: bool) -> Result<()> {
    lab::run(move |lab| {
        let (_router, _addresses) = (start_router()?, AddressServer::start(kind)?);
        let volboot = start_proxy(lab, firmware == Firmware::UefiArm64, "")?;
        let site = boot(lab, volboot, MachineSpec { http_boot, ..MachineSpec::new(firmware, MAC) })?;
        let log = |text: &str| site.volboot.find_log_time(text).is_some();
        ensure!(log(r#""step":"discover""#) && log(r#""server":"10.99.0.3""#), "no DHCP in the log");
        ensure!(log(r#""step":"boot_server""#) == (firmware != Firmware::Bios && !http_boot));
        Ok(())
    })
}

#[test]
fn bios_machine_boots_beside_dnsmasq() -> Result<()> {
    check_boot(AddressServerKind::Dnsmasq, Firmware::Bios, false)
}

#[test]
fn bios_machine_boots_beside_dhcpd() -> Result<()> {
    check_boot(AddressServerKind::Dhcpd, Firmware::Bios, false)
}

#[test]
fn bios_machine_boots_beside_kea() -> Result<()> {
    check_boot(AddressServerKind::Kea, Firmware::Bios, false)
}

#[test]
fn uefi_machine_boots_beside_dnsmasq() -> Result<()> {
    check_boot(AddressServerKind::Dnsmasq, Firmware::Uefi, false)
}

#[test]
fn uefi_machine_boots_beside_dhcpd() -> Result<()> {
    check_boot(AddressServerKind::Dhcpd, Firmware::Uefi, false)
}

#[test]
fn uefi_machine_boots_beside_kea() -> Result<()> {
    check_boot(AddressServerKind::Kea, Firmware::Uefi, false)
}

#[test]
fn uefi_machine_boots_over_http_beside_dnsmasq() -> Result<()> {
    check_boot(AddressServerKind::Dnsmasq, Firmware::Uefi, true)
}

#[test]
fn arm64_machine_boots_beside_dnsmasq() -> Result<()> {
    check_boot(AddressServerKind::Dnsmasq, Firmware::UefiArm64, false)
}

#[test]
fn arm64_machine_boots_over_http_beside_dnsmasq() -> Result<()> {
    check_boot(AddressServerKind::Dnsmasq, Firmware::UefiArm64, true)
}

/// The site's server names `undionly.kpxe` in the first lease only: QEMU's BIOS ROM is iPXE, and would get the script.
#[test]
fn bios_machine_boots_by_undionly() -> Result<()> {
    lab::run(|lab| {
        let _router = start_router()?;
        let first_lease = "--dhcp-script=/run/on-lease --dhcp-scriptuser=root --dhcp-hostsdir=/run/hosts \
                           --dhcp-boot=tag:!chained,undionly.kpxe,,10.99.0.1 \
                           --dhcp-option=tag:!chained,encap:175,176,1b";
        let _addresses = AddressServer::start_dnsmasq_with_lease_script(first_lease)?;
        let volboot = start_proxy(lab, false, "")?;
        let site = boot(lab, volboot, MachineSpec::new(Firmware::Bios, MAC))?;
        ensure!(site.volboot.find_log_time(r#""name":"undionly.kpxe""#).is_some());
        Ok(())
    })
}

#[test]
fn machine_with_two_cards_boots() -> Result<()> {
    lab::run(|lab| {
        let (_router, _addresses) = (start_router()?, AddressServer::start(AddressServerKind::Dnsmasq)?);
        let _other = AddressServer::start_in_other_network()?;
        let volboot = start_proxy(lab, false, "")?;
        let other_card = Some(("52:54:00:65:43:21", other_bridge()));
        boot(lab, volboot, MachineSpec { other_card, ..MachineSpec::new(Firmware::Bios, MAC) })?;
        Ok(())
    })
}

#[test]
fn bios_machine_boots_behind_a_relay() -> Result<()> {
    check_relay(Firmware::Bios)
}

#[test]
fn uefi_machine_boots_behind_a_relay() -> Result<()> {
    check_relay(Firmware::Uefi)
}

fn check_relay(firmware: Firmware) -> Result<()> {
    lab::run(move |lab| {
        let _addresses = AddressServer::start_dnsmasq(
            "--dhcp-range=10.98.0.50,10.98.0.99,255.255.255.0,1h --dhcp-option=tag:!known,3,10.98.0.254",
        )?;
        let _relay = Relay::start()?;
        let keys = format!("relays = [\"{RELAY}\"]\n[boot]\nrouted_networks = [\"10.98.0.0/24\"]");
        let volboot = start_proxy(lab, false, &keys)?;
        let spec = MachineSpec { bridge: Some(other_bridge()), ..MachineSpec::new(firmware, MAC) };
        let site = boot(lab, volboot, spec)?;
        ensure!(site.volboot.find_log_time(&format!(r#""relay":"{RELAY}""#)).is_some());
        Ok(())
    })
}

#[test]
fn machines_boot_with_a_second_proxy() -> Result<()> {
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        lab::run(move |lab| {
            let _router = start_router()?;
            let _addresses = AddressServer::start(AddressServerKind::Dnsmasq)?;
            let proxy = "--dhcp-range=10.99.0.0,proxy --dhcp-match=set:ipxe,175 \
                         --dhcp-boot=tag:ipxe,http://10.99.0.1:8080/boot.ipxe,,10.99.0.1 \
                         --pxe-service=tag:!ipxe,7,volboot,snponly.efi,10.99.0.1";
            let _second = AddressServer::start_second(proxy)?;
            let volboot = start_proxy(lab, false, "")?;
            boot(lab, volboot, MachineSpec::new(firmware, MAC))?;
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn machine_boots_if_the_address_is_offered_twice() -> Result<()> {
    lab::run(|lab| {
        let _router = start_router()?;
        let _addresses = AddressServer::start(AddressServerKind::Dnsmasq)?;
        let _second = AddressServer::start_second("--dhcp-range=10.99.0.150,10.99.0.199,1h")?;
        let volboot = start_proxy(lab, false, "")?;
        boot(lab, volboot, MachineSpec::new(Firmware::Uefi, MAC))?;
        Ok(())
    })
}

/// The site's server answers the second request of the machine, when volboot has answered both.
#[test]
fn machine_boots_if_the_address_comes_late() -> Result<()> {
    lab::run(|lab| {
        let (_router, addresses) = (start_router()?, AddressServer::start(AddressServerKind::Dnsmasq)?);
        addresses.set_suspended(true)?;
        let volboot = start_proxy(lab, false, "")?;
        boot_with(lab, volboot, MachineSpec::new(Firmware::Uefi, MAC), |site, _| {
            for _ in 0..2 {
                site.volboot.wait_for_log(r#""step":"discover""#, BOOT_LIMIT)?;
            }
            addresses.set_suspended(false)
        })?;
        Ok(())
    })
}

/// The site's server answers before volboot runs: the machine's next request finds both.
#[test]
fn machine_boots_if_volboot_starts_later() -> Result<()> {
    lab::run(|lab| {
        let (_router, _addresses) = (start_router()?, AddressServer::start(AddressServerKind::Dnsmasq)?);
        let volboot = start_proxy(lab, false, "")?;
        boot_with(lab, volboot, MachineSpec::new(Firmware::Uefi, MAC), |site, machine| {
            site.volboot.set_suspended(true)?;
            machine.wait_for(&["Start PXE over IPv4"], BOOT_LIMIT)?;
            // The firmware has sent its first request, or does so now.
            std::thread::sleep(Duration::from_secs(2));
            site.volboot.set_suspended(false)
        })?;
        Ok(())
    })
}

/// An unknown machine gets nothing, appears with its firmware, and boots at its next try after it was enrolled.
#[test]
fn unknown_machine_boots_after_it_was_enrolled() -> Result<()> {
    lab::run(|lab| {
        let (_router, _addresses) = (start_router()?, AddressServer::start(AddressServerKind::Dnsmasq)?);
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Uefi))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let mut site = Site::without_dhcp(start_proxy(lab, false, "")?)?;
        let mut machine = MachineSpec::new(Firmware::Uefi, MAC).power_on(lab)?;
        site.volboot.wait_for_log(r#""answer":"unknown_machine""#, BOOT_LIMIT)?;
        let machines = site.api.get("machines")?;
        let verdict = &machines["machines"][0]["verdict"];
        ensure!(verdict["state"] == "unknown", "{machines}");
        site.register(&[&export])?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        site.volboot.wait_for_log(r#""step":"hooked""#, LOG_LIMIT)?;
        Ok(())
    })
}
