//! The site's DHCP server: dnsmasq, with DHCP, IPv6 router advertisements, and a name for volboot.
//!
//! It names volboot as the boot server, as a site's own server would:
//! * firmware gets a file name for its architecture (RFC 4578, option 93) and our TFTP server's address;
//! * iPXE, known by its option 175, gets the URL of the script. Without that rule iPXE would load itself for
//!   ever.
//!
//! Traps it copes with:
//! * An iPXE with IPv6 takes no DHCP answer for the end of the matter before it has either heard an IPv6
//!   router or waited 15 seconds for one. So there is a router: a boot then takes 4 s instead of 20 s.
//! * QEMU has no BIOS network ROM but iPXE itself, and what the ROM sends does not differ from what
//!   `undionly.kpxe` sends. To see the latter fetched, a machine is told to load it *the first time it asks*:
//!   when dnsmasq has given out a lease it runs a script that files the machine under `chained`.
//! * The kernel forgets whom to kill with its parent ([`super::process`]) when a process changes its user,
//!   which dnsmasq does even from root to root, unless started with `--no-daemon`.
//! * dnsmasq reads `/etc/dnsmasq.conf`, keeps leases and a pid file in places of the host unless told
//!   otherwise.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::Lab;
use super::network::{SERVER, SITE_V6, bridge};
use super::process::Process;

/// volboot's name, which dnsmasq answers to who asks.
pub(crate) const NAME: &str = "volboot.lab";

const START_LIMIT: Duration = Duration::from_secs(60);
/// iPXE's encapsulated option "no-pxedhcp": there is no second DHCP server to wait two seconds for.
const NO_PROXY: &str = "encap:175,176,1b";

/// What a machine's iPXE ROM is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rom {
    /// To fetch the script.
    FetchesScript,
    /// To load `undionly.kpxe`, which then fetches the script.
    LoadsUndionly,
}

/// A running DHCP server.
pub(crate) struct Dhcp {
    process: Process,
}

impl Dhcp {
    /// Starts the server on the lab's bridge and waits until it listens.
    pub(crate) fn start(lab: &Lab, rom: Rom) -> Result<Self> {
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
            .args(["--dhcp-match=set:ipxe,175", "--dhcp-match=set:uefi,option:client-arch,7"])
            .arg("--dhcp-match=set:arm64,option:client-arch,11")
            .arg(format!("--dhcp-boot=tag:uefi,tag:!ipxe,snponly.efi,,{SERVER}"))
            .arg(format!("--dhcp-boot=tag:arm64,tag:!ipxe,ipxe-arm64.efi,,{SERVER}"));
        match rom {
            Rom::FetchesScript => dnsmasq.arg(format!("--dhcp-boot=tag:ipxe,{script_url}")),
            Rom::LoadsUndionly => {
                remember_who_was_answered(lab, &mut dnsmasq)?;
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

/// After a machine's first lease, its later requests carry the tag `chained`.
fn remember_who_was_answered(lab: &Lab, dnsmasq: &mut Command) -> Result<()> {
    let hosts = lab.path().join("dhcp-hosts");
    fs::create_dir(&hosts)?;
    let script = lab.path().join("on-lease");
    // $1 is what happened to the lease, $2 the machine's MAC.
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
