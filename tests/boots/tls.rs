//! Machines that come to volboot by TLS: every step of theirs but the first file, which firmware reads over TFTP.
//!
//! They are UEFI machines with the iPXE of Debian 13, which asks for `autoexec.ipxe` beside the file it came from, and so
//! learns volboot's URL from volboot. DHCP names the one without TLS, for all others.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::lab::authority::{Authority, Certificate};
use crate::lab::daemon::Daemon;
use crate::lab::dhcp::{Dhcp, NAME, Rom};
use crate::lab::machine::{Build, Firmware};
use crate::lab::network::SERVER;
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::lab::{self, Lab};
use crate::site::{BOOT_LIMIT, INITIATOR, LOG_LIMIT, MAC, Site, newer_ipxe, storage};

/// iPXE's "Connection reset" (error 0f0a60), which is what a portal without a listener gives.
const NO_LISTENER: &str = "ipxe.org/0f0a60";
/// iPXE's "Permission denied" (error 0216eb) if nothing that a server shows leads to who is trusted.
const NOT_TRUSTED: &str = "error 0x216eb";

/// volboot with this certificate, its machines told to come to `url`.
fn open(lab: &Lab, images: &Path, url: &str, certificate: &Certificate) -> Result<Site> {
    let dhcp = Dhcp::start(lab, Rom::FetchesScript)?;
    let binary = Path::new(env!("CARGO_BIN_EXE_volboot"));
    Site::with_lab_dhcp(Daemon::start_with_tls(lab, binary, images, url, certificate)?, dhcp)
}

#[test]
fn a_machine_reports_its_failures_and_boots_by_tls() -> Result<()> {
    lab::run(|lab| {
        let authority = Authority::new(lab)?;
        let certificate = authority.certify(&format!("DNS:{NAME}"))?;
        let url = format!("https://{NAME}:8080");
        let mut site =
            open(lab, &authority.trusted_by(&newer_ipxe()?.join("snponly.efi"))?, &url, &certificate)?;
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Uefi))?;
        let export = Export::new(&volume, INITIATOR);
        site.register(&[&export])?;

        let mut machine = Build::bare(Firmware::Uefi, MAC).power_on(lab)?;
        machine.shows(&[&format!("{url}/boot/")], BOOT_LIMIT)?;
        // There is no storage yet: it says so, and asks again.
        machine.shows(&[NO_LISTENER], BOOT_LIMIT)?;
        machine.shows(&[NO_LISTENER], BOOT_LIMIT)?;
        site.volboot.logs(r#""step":"hook-0""#, LOG_LIMIT)?;
        let _storage = storage(lab, &[&export])?;
        machine.shows(&[&volume.boot_line()], BOOT_LIMIT)?;
        site.volboot.logs(r#""step":"hooked""#, LOG_LIMIT)?;
        ensure!(site.volboot.when(r#""tls":true"#).is_some(), "nothing came by TLS");
        ensure!(site.volboot.when(r#""tls":false"#).is_none(), "something came without TLS");
        site.volboot.stop()
    })
}

/// iPXE names the address in the handshake as if it were a name (SNI), which TLS does not have: it is nothing to be told
/// of at each request.
#[test]
fn an_arm64_machine_boots_by_tls_from_an_address() -> Result<()> {
    lab::run(|lab| {
        let authority = Authority::new(lab)?;
        let certificate = authority.certify(&format!("IP:{SERVER}"))?;
        let images = authority.trusted_by(&newer_ipxe()?.join("ipxe-arm64.efi"))?;
        let site = open(lab, &images, &format!("https://{SERVER}:8080"), &certificate)?;
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::UefiArm64))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = storage(lab, &[&export])?;
        site.register(&[&export])?;

        let mut machine = Build::bare(Firmware::UefiArm64, MAC).power_on(lab)?;
        machine.shows(&[&format!("https://{SERVER}:8080/boot/")], BOOT_LIMIT)?;
        machine.shows(&[&volume.boot_line()], BOOT_LIMIT)?;
        let log = site.volboot.tail();
        ensure!(log.contains("boot request") && !log.contains("SNI"), "it logged:\n{log}");
        Ok(())
    })
}

#[test]
fn a_bios_machine_that_speaks_no_tls_boots_beside_them() -> Result<()> {
    lab::run(|lab| {
        let certificate = Authority::new(lab)?.certify(&format!("DNS:{NAME}"))?;
        let mut site = open(lab, &newer_ipxe()?, &format!("https://{NAME}:8080"), &certificate)?;
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = storage(lab, &[&export])?;
        site.register(&[&export])?;

        let mut machine = Build::bare(Firmware::Bios, MAC).power_on(lab)?;
        machine.shows(&[&volume.boot_line()], BOOT_LIMIT)?;
        site.volboot.logs(r#""tls":false"#, LOG_LIMIT)?;
        Ok(())
    })
}

#[test]
fn a_machine_that_does_not_trust_the_certificate_says_so_and_so_does_the_log() -> Result<()> {
    lab::run(|lab| {
        let certificate = Authority::new(lab)?.certify(&format!("DNS:{NAME}"))?;
        let mut site = open(lab, &newer_ipxe()?, &format!("https://{NAME}:8080"), &certificate)?;

        let mut machine = Build::bare(Firmware::Uefi, MAC).power_on(lab)?;
        machine.shows(&[NOT_TRUSTED], BOOT_LIMIT)?;
        site.volboot.logs("no TLS came about", LOG_LIMIT)?;
        Ok(())
    })
}
