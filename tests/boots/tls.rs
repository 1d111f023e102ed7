//! Boots over TLS: every request except the first file, which firmware reads over TFTP.
//!
//! The machines are UEFI machines with the iPXE of Debian 13. This iPXE fetches `autoexec.ipxe` from its own directory,
//! and so gets the HTTPS URL from volboot. DHCP names the HTTP URL, for all other machines.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::lab::ca::{Certificate, CertificateAuthority};
use crate::lab::daemon::Daemon;
use crate::lab::dhcp::{Dhcp, NAME, Rom};
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::network::SERVER;
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::lab::{self, Lab};
use crate::site::{BOOT_LIMIT, INITIATOR, LOG_LIMIT, MAC, Site, newer_ipxe, start_storage};

/// iPXE's "Connection reset" (error 0f0a60): no process listens on the portal.
const NO_LISTENER: &str = "ipxe.org/0f0a60";
/// iPXE's "Permission denied" (error 0216eb): the certificate chain leads to no trusted CA.
const NOT_TRUSTED: &str = "error 0x216eb";

/// Starts volboot with this certificate and this external URL.
fn open(lab: &Lab, images: &Path, url: &str, certificate: &Certificate) -> Result<Site> {
    let dhcp = Dhcp::start(lab, Rom::FetchesScript)?;
    let binary = Path::new(env!("CARGO_BIN_EXE_volboot"));
    Site::with_lab_dhcp(Daemon::start_with_tls(lab, binary, images, url, certificate)?, dhcp)
}

#[test]
fn reports_and_retries_over_tls() -> Result<()> {
    lab::run(|lab| {
        let ca = CertificateAuthority::new(lab)?;
        let certificate = ca.issue(&format!("DNS:{NAME}"))?;
        let url = format!("https://{NAME}:8080");
        let mut site = open(lab, &ca.embed_ca(&newer_ipxe()?.join("snponly.efi"))?, &url, &certificate)?;
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Uefi))?;
        let export = Export::new(&volume, INITIATOR);
        site.register(&[&export])?;

        let mut machine = MachineSpec::new(Firmware::Uefi, MAC).power_on(lab)?;
        machine.wait_for(&[&format!("{url}/boot/")], BOOT_LIMIT)?;
        // Without storage the machine reports the failure and retries.
        machine.wait_for(&[NO_LISTENER], BOOT_LIMIT)?;
        machine.wait_for(&[NO_LISTENER], BOOT_LIMIT)?;
        site.volboot.wait_for_log(r#""step":"hook-0""#, LOG_LIMIT)?;
        let _storage = start_storage(lab, &[&export])?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        site.volboot.wait_for_log(r#""step":"hooked""#, LOG_LIMIT)?;
        ensure!(site.volboot.find_log_time(r#""tls":true"#).is_some(), "no request over TLS");
        ensure!(site.volboot.find_log_time(r#""tls":false"#).is_none(), "a request without TLS");
        site.volboot.stop()
    })
}

/// iPXE sends the IP address as server name (SNI), which TLS forbids; this must not cause a log line per request.
#[test]
fn arm64_machine_boots_over_tls_by_ip_address() -> Result<()> {
    lab::run(|lab| {
        let ca = CertificateAuthority::new(lab)?;
        let certificate = ca.issue(&format!("IP:{SERVER}"))?;
        let images = ca.embed_ca(&newer_ipxe()?.join("ipxe-arm64.efi"))?;
        let site = open(lab, &images, &format!("https://{SERVER}:8080"), &certificate)?;
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::UefiArm64))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        site.register(&[&export])?;

        let mut machine = MachineSpec::new(Firmware::UefiArm64, MAC).power_on(lab)?;
        machine.wait_for(&[&format!("https://{SERVER}:8080/boot/")], BOOT_LIMIT)?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        let log = site.volboot.tail();
        ensure!(log.contains("boot request") && !log.contains("SNI"), "unexpected log:\n{log}");
        Ok(())
    })
}

#[test]
fn bios_machine_boots_without_tls() -> Result<()> {
    lab::run(|lab| {
        let certificate = CertificateAuthority::new(lab)?.issue(&format!("DNS:{NAME}"))?;
        let mut site = open(lab, &newer_ipxe()?, &format!("https://{NAME}:8080"), &certificate)?;
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        site.register(&[&export])?;

        let mut machine = MachineSpec::new(Firmware::Bios, MAC).power_on(lab)?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        site.volboot.wait_for_log(r#""tls":false"#, LOG_LIMIT)?;
        Ok(())
    })
}

#[test]
fn untrusted_certificate_is_on_console_and_in_the_log() -> Result<()> {
    lab::run(|lab| {
        let certificate = CertificateAuthority::new(lab)?.issue(&format!("DNS:{NAME}"))?;
        let mut site = open(lab, &newer_ipxe()?, &format!("https://{NAME}:8080"), &certificate)?;

        let mut machine = MachineSpec::new(Firmware::Uefi, MAC).power_on(lab)?;
        machine.wait_for(&[NOT_TRUSTED], BOOT_LIMIT)?;
        site.volboot.wait_for_log("TLS handshake failed", LOG_LIMIT)?;
        Ok(())
    })
}
