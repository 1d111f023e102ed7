//! The site's DHCP server as `packaging/dhcp` has it: each of the four, with the file that operators are given.
//!
//! Only the addresses and the interface differ from the file, as the file says they will.
//!
//! Traps it copes with:
//! * The servers keep leases, locks and pid files in places of the host, are confined to such places where AppArmor
//!   is, and have them made by service managers: each gets those places empty, in a mount namespace of its own.
//! * networkd changes its user, after which the kernel forgets whom to kill with its parent ([`super::process`]): so
//!   each server has a namespace of processes too, which ends with a process that does not.
//! * networkd leaves links alone that udev has not announced, unless `/sys` can only be read, as in containers; takes
//!   away from its link each address that its file does not name; and if its own is there already, may set it again for
//!   ever (252). So it gets a link without any.
//! * An iPXE with IPv6 waits long for a router ([`super::dhcp`]), so there is one here too; networkd is it itself.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Lab;
use super::network::{SITE_V6, bridge};
use super::process::Process;

const SNIPPETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/dhcp");
/// The network in the files, and the lab's.
const NETWORKS: [&str; 2] = ["10.0.0.", "10.99.0."];
const INTERFACE: &str = "eth0";

const START_LIMIT: Duration = Duration::from_secs(60);

/// A DHCP server that there is a file for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// dnsmasq.
    Dnsmasq,
    /// ISC dhcpd.
    Dhcpd,
    /// Kea.
    Kea,
    /// systemd-networkd.
    Networkd,
}

/// How one of them is run.
struct How {
    file: &'static str,
    /// Shell commands, to be run where the adapted file is in `$here`.
    command: String,
    /// What it says when it serves.
    ready: &'static str,
}

impl Server {
    fn how(self) -> How {
        let bridge = bridge();
        match self {
            Self::Dnsmasq => How {
                file: "dnsmasq.conf",
                command: format!(
                    "exec dnsmasq --no-daemon --log-facility=- --conf-file=\"$here/dnsmasq.conf\" --pid-file= \
                     --port=0 --bind-interfaces --interface={bridge} --no-ping --dhcp-leasefile=/run/leases"
                ),
                ready: "DHCP, sockets bound",
            },
            Self::Dhcpd => How {
                file: "dhcpd.conf",
                command: format!(
                    "mkdir /var/lib/dhcp; touch /var/lib/dhcp/dhcpd.leases; mount --bind \"$here\" /etc/dhcp; \
                     exec dhcpd -4 -f -d --no-pid {bridge}"
                ),
                ready: "Server starting service",
            },
            Self::Kea => How {
                file: "kea-dhcp4.conf",
                command: "mkdir /var/lib/kea /run/kea; mount --bind \"$here\" /etc/kea; \
                          exec kea-dhcp4 -c /etc/kea/kea-dhcp4.conf"
                    .to_owned(),
                ready: "DHCP4_STARTED",
            },
            Self::Networkd => How {
                file: "networkd.network",
                command: format!(
                    "ip address flush dev {bridge}; mkdir -p /run/systemd/network/volboot.network.d; \
                     cp \"$here/networkd.network\" /run/systemd/network/volboot.network; \
                     printf '[Network]\\nIPv6SendRA=yes\\n[IPv6Prefix]\\nPrefix={SITE_V6}/64\\n' > /run/systemd/network/volboot.network.d/v6.conf; \
                     chmod -R go+rX /run/systemd; mount -t sysfs -o ro none /sys; \
                     export SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console; \
                     exec /lib/systemd/systemd-networkd"
                ),
                ready: "DHCPv4 server: STARTED",
            },
        }
    }
}

/// A running DHCP server, and an IPv6 router.
pub(crate) struct Site {
    _server: Process,
    _router: Option<Process>,
}

impl Site {
    /// Starts the server with its file and waits until it serves. `changes` are made to the file first.
    pub(crate) fn start(lab: &Lab, server: Server, changes: &[(&str, &str)]) -> Result<Self> {
        let router = (server != Server::Networkd).then(advertise_router).transpose()?;
        let How { file, command, ready } = server.how();
        let mut text = fs::read_to_string(Path::new(SNIPPETS).join(file))?;
        ensure!(text.contains(NETWORKS[0]), "{file} has other addresses than it had");
        text = text.replace(NETWORKS[0], NETWORKS[1]).replace(INTERFACE, bridge());
        for (from, to) in changes {
            ensure!(text.contains(from), "there is no '{from}' in {file}");
            text = text.replace(from, to);
        }
        let here = lab.path().join("dhcp");
        fs::create_dir(&here)?;
        fs::write(here.join(file), text)?;

        let script = format!("mount -t tmpfs none /run; mount -t tmpfs none /var/lib; {command}");
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--mount-proc", "--pid", "--fork", "--kill-child", "sh", "-ec", &script]);
        unshare.env("here", &here);
        let mut process = Process::start(file, &mut unshare, None)?;
        process.wait_for(&[ready], START_LIMIT).with_context(|| format!("{server:?} does not start"))?;
        Ok(Self { _server: process, _router: router })
    }
}

/// Something that says it is an IPv6 router, and nothing more.
fn advertise_router() -> Result<Process> {
    let mut dnsmasq = Command::new("dnsmasq");
    dnsmasq
        .args(["--no-daemon", "--log-facility=-", "--conf-file=/dev/null", "--pid-file=", "--port=0"])
        .args(["--bind-interfaces", "--enable-ra", &format!("--dhcp-range={SITE_V6},ra-only")])
        .arg(format!("--interface={}", bridge()));
    let mut process = Process::start("the router", &mut dnsmasq, None)?;
    process.wait_for(&["router advertisement"], START_LIMIT)?;
    Ok(process)
}
