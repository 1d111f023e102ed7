//! The site's DHCP server: dnsmasq, with DHCP, IPv6 router advertisements, and a name for volboot.
//!
//! Its rules name volboot as the boot server, like those of a real site:
//! * firmware gets a file name for its architecture (RFC 4578, option 93) and the TFTP server's address;
//! * iPXE, recognized by option 175, gets the URL of the script. Without this rule iPXE would load itself in a loop.
//!
//! Traps:
//! * An iPXE with IPv6 accepts a DHCP offer only after it has seen an IPv6 router, or after 15 seconds. With the router
//!   here a boot takes 4 s instead of 20 s.
//! * The only BIOS network ROM of QEMU is iPXE itself, and the requests of the ROM and of `undionly.kpxe` are the same.
//!   To have the latter fetched, dnsmasq names it in the *first* lease only. A script on that lease tags the machine as
//!   `chained`.
//! * The kernel clears the parent-death signal ([`super::process`]) when a process changes its user. dnsmasq does so
//!   even from root to root, unless started with `--no-daemon`.
//! * By default dnsmasq reads `/etc/dnsmasq.conf` and keeps leases and a pid file in directories of the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::Lab;
use super::network::{SERVER, SITE_V6, bridge};
use super::process::Process;

/// volboot's name in dnsmasq's DNS.
pub(crate) const NAME: &str = "volboot.lab";

const START_LIMIT: Duration = Duration::from_secs(60);
/// iPXE's encapsulated option "no-pxedhcp": skips the wait of two seconds for a ProxyDHCP server.
const NO_PROXY: &str = "encap:175,176,1b";

/// The boot file for a machine's iPXE ROM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rom {
    /// The script.
    FetchesScript,
    /// `undionly.kpxe`, which then fetches the script.
    LoadsUndionly,
    /// The script, over TFTP.
    FetchesScriptOverTftp,
    /// The script. UEFI loads `ipxe.efi`, an iPXE with drivers of its own.
    FetchesScriptOrIpxeEfi,
}

/// A running DHCP server.
pub(crate) struct Dhcp {
    process: Process,
}

impl Dhcp {
    /// Starts the server on the lab's bridge and waits until it listens.
    pub(crate) fn start(lab: &Lab, rom: Rom) -> Result<Self> {
        Self::start_with(lab, rom, &[])
    }

    /// Starts a server that names no boot file, with additional `arguments`.
    pub(crate) fn start_plain(lab: &Lab, arguments: &[&str]) -> Result<Self> {
        let mut dnsmasq = Command::new("dnsmasq");
        dnsmasq
            .args(["--no-daemon", "--log-facility=-", "--conf-file=/dev/null", "--pid-file=", "--port=0"])
            .args(["--no-ping", "--bind-interfaces", &format!("--interface={}", bridge())])
            .arg(format!("--dhcp-leasefile={}", lab.path().join("leases").display()))
            .arg("--dhcp-range=10.99.0.50,10.99.0.99,255.255.255.0,1h")
            .args(arguments);
        let mut process = Process::start("dnsmasq", &mut dnsmasq, None)?;
        process.wait_for(&["DHCP, sockets bound"], START_LIMIT)?;
        Ok(Self { process })
    }

    /// Starts the server with additional `arguments`.
    pub(crate) fn start_with(lab: &Lab, rom: Rom, arguments: &[&str]) -> Result<Self> {
        let efi = if rom == Rom::FetchesScriptOrIpxeEfi { "ipxe.efi" } else { "snponly.efi" };
        let script_url = format!("http://{SERVER}:8080/boot.ipxe");
        let mut dnsmasq = Command::new("dnsmasq");
        dnsmasq
            .args(["--no-daemon", "--log-facility=-", "--conf-file=/dev/null", "--pid-file="])
            .args(["--bind-interfaces", "--no-ping", "--no-resolv", "--no-hosts"])
            .arg(format!("--host-record={NAME},{SERVER}"))
            .arg(format!("--interface={}", bridge()))
            .arg(format!("--dhcp-leasefile={}", lab.path().join("leases").display()))
            .arg("--dhcp-range=10.99.0.50,10.99.0.99,255.255.255.0,1h")
            .args(["--enable-ra", &format!("--dhcp-range={SITE_V6},ra-only")])
            .arg(format!("--dhcp-option={NO_PROXY}"))
            .args(arguments)
            .args(["--dhcp-match=set:ipxe,175", "--dhcp-match=set:uefi,option:client-arch,7"])
            .arg("--dhcp-match=set:arm64,option:client-arch,11")
            .arg(format!("--dhcp-boot=tag:uefi,tag:!ipxe,{efi},,{SERVER}"))
            .arg(format!("--dhcp-boot=tag:arm64,tag:!ipxe,ipxe-arm64.efi,,{SERVER}"));
        match rom {
            Rom::FetchesScript | Rom::FetchesScriptOrIpxeEfi => {
                dnsmasq.arg(format!("--dhcp-boot=tag:ipxe,{script_url}"))
            }
            Rom::FetchesScriptOverTftp => dnsmasq.arg(format!("--dhcp-boot=tag:ipxe,boot.ipxe,,{SERVER}")),
            Rom::LoadsUndionly => {
                tag_known_machines(lab, &mut dnsmasq)?;
                dnsmasq
                    .arg(format!("--dhcp-boot=tag:ipxe,tag:chained,{script_url}"))
                    .arg(format!("--dhcp-boot=tag:ipxe,tag:!chained,undionly.kpxe,,{SERVER}"))
            }
        };
        let mut process = Process::start("dnsmasq", &mut dnsmasq, None)?;
        process.wait_for(&["DHCP, sockets bound"], START_LIMIT)?;
        Ok(Self { process })
    }
}

/// Configures the tag `chained` for all requests after a machine's first lease.
fn tag_known_machines(lab: &Lab, dnsmasq: &mut Command) -> Result<()> {
    let hosts = lab.path().join("dhcp-hosts");
    fs::create_dir(&hosts)?;
    let script = lab.path().join("on-lease");
    // $1 is the event of the lease, $2 the machine's MAC address.
    let text =
        format!("#!/bin/sh\n[ \"$1\" != add ] || echo \"$2,set:chained\" > '{}'/\"$2\"\n", hosts.display());
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700))?;
    dnsmasq
        .arg(format!("--dhcp-hostsdir={}", hosts.display()))
        .arg(format!("--dhcp-script={}", script.display()))
        .arg("--dhcp-scriptuser=root");
    Ok(())
}
