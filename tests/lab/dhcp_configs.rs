//! The site's DHCP server with a configuration file of `packaging/dhcp`, for each of the four servers, and for IPv6.
//!
//! Only the addresses and the interface differ from the file, as the file instructs.
//!
//! Traps:
//! * The servers keep leases, locks and pid files in directories of the host. AppArmor confines some servers to
//!   these, and the service manager creates them. So each server gets empty directories in a mount namespace of its own.
//! * networkd changes its user, and so the kernel clears the parent-death signal ([`super::process`]). So each server
//!   has a PID namespace too, whose first process keeps the signal.
//! * networkd ignores links without a udev event, unless `/sys` is read-only, as in containers.
//! * networkd removes from its link each address that is not in its file. If its own address is already present,
//!   version 252 may set it again in a loop. So the link has no address at first.
//! * An iPXE with IPv6 waits long for a router ([`super::dhcp`]), so a router runs beside the server. networkd and
//!   the file for IPv6 are routers themselves.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Lab;
use super::address_server::{AddressServer, AddressServerKind};
use super::network::{SITE_V6, bridge};
use super::process::Process;

/// The directory of the files.
const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/dhcp");
/// The networks in the files, and those of the lab: for IPv4 and for IPv6.
const NETWORKS: [(&str, &str); 2] = [("10.0.0.", "10.99.0."), ("fd00::", SITE_V6)];
const INTERFACE: &str = "eth0";

const START_LIMIT: Duration = Duration::from_secs(60);

/// A DHCP server with a file in `packaging/dhcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DhcpServer {
    /// dnsmasq.
    Dnsmasq,
    /// dnsmasq as a proxyDHCP server, beside a DHCP server that only gives addresses.
    DnsmasqProxy,
    /// dnsmasq for DHCPv6, and as the router.
    DnsmasqIpv6,
    /// ISC dhcpd.
    Dhcpd,
    /// Kea.
    Kea,
    /// systemd-networkd.
    Networkd,
}

/// The command that runs a server.
struct Launch {
    file: &'static str,
    /// Shell commands; `$config` is the directory of the adapted file.
    command: String,
    /// Output of the server when it is ready.
    ready: &'static str,
}

impl DhcpServer {
    fn launch(self) -> Launch {
        let bridge = bridge();
        match self {
            Self::Dnsmasq => launch_dnsmasq("dnsmasq.conf", "sockets bound"),
            Self::DnsmasqProxy => launch_dnsmasq("dnsmasq-proxy.conf", "sockets bound"),
            Self::DnsmasqIpv6 => launch_dnsmasq("dnsmasq-ipv6.conf", "router advertisement on"),
            Self::Dhcpd => Launch {
                file: "dhcpd.conf",
                command: format!(
                    "mkdir /var/lib/dhcp; touch /var/lib/dhcp/dhcpd.leases; mount --bind \"$config\" /etc/dhcp; \
                     exec dhcpd -4 -f -d --no-pid {bridge}"
                ),
                ready: "Server starting service",
            },
            Self::Kea => Launch {
                file: "kea-dhcp4.conf",
                command: "mkdir /var/lib/kea /run/kea; mount --bind \"$config\" /etc/kea; \
                          exec kea-dhcp4 -c /etc/kea/kea-dhcp4.conf"
                    .to_owned(),
                ready: "DHCP4_STARTED",
            },
            Self::Networkd => Launch {
                file: "networkd.network",
                command: format!(
                    "ip address flush dev {bridge}; mkdir -p /run/systemd/network/volboot.network.d; \
                     cp \"$config/networkd.network\" /run/systemd/network/volboot.network; \
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

fn launch_dnsmasq(file: &'static str, ready: &'static str) -> Launch {
    let interface = bridge();
    Launch {
        file,
        command: format!(
            "exec dnsmasq --no-daemon --log-facility=- --conf-file=\"$config/{file}\" --pid-file= --port=0 \
             --bind-interfaces --interface={interface} --no-ping --dhcp-leasefile=/run/leases"
        ),
        ready,
    }
}

/// A running DHCP server with a packaged configuration file, and an IPv6 router.
pub(crate) struct PackagedDhcp {
    _server: Process,
    _router: Option<Process>,
    /// The server that gives the addresses, beside a proxyDHCP server.
    _address_server: Option<AddressServer>,
}

impl PackagedDhcp {
    /// Applies `changes` to the file, starts the server, and waits until it is ready.
    pub(crate) fn start(lab: &Lab, server: DhcpServer, changes: &[(&str, &str)]) -> Result<Self> {
        let has_router = matches!(server, DhcpServer::Networkd | DhcpServer::DnsmasqIpv6);
        let router = (!has_router).then(start_router).transpose()?;
        let address_server = (server == DhcpServer::DnsmasqProxy)
            .then(|| AddressServer::start(AddressServerKind::Dnsmasq))
            .transpose()?;
        let Launch { file, command, ready } = server.launch();
        let mut text = fs::read_to_string(Path::new(DIRECTORY).join(file))?;
        ensure!(NETWORKS.iter().any(|(from, _)| text.contains(from)), "{file} contains no known network");
        for (from, to) in NETWORKS {
            text = text.replace(from, to);
        }
        text = text.replace(INTERFACE, bridge());
        for (from, to) in changes {
            ensure!(text.contains(from), "{file} does not contain '{from}'");
            text = text.replace(from, to);
        }
        let config = lab.path().join("dhcp");
        fs::create_dir(&config)?;
        fs::write(config.join(file), text)?;

        let script = format!("mount -t tmpfs none /run; mount -t tmpfs none /var/lib; {command}");
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--mount-proc", "--pid", "--fork", "--kill-child", "sh", "-ec", &script]);
        unshare.env("config", &config);
        let mut process = Process::start(file, &mut unshare, None)?;
        process.wait_for(&[ready], START_LIMIT).with_context(|| format!("{server:?} does not start"))?;
        Ok(Self { _server: process, _router: router, _address_server: address_server })
    }
}

/// Starts a dnsmasq that sends IPv6 router advertisements, and does nothing else.
pub(crate) fn start_router() -> Result<Process> {
    let mut dnsmasq = Command::new("dnsmasq");
    dnsmasq
        .args(["--no-daemon", "--log-facility=-", "--conf-file=/dev/null", "--pid-file=", "--port=0"])
        .args(["--bind-interfaces", "--enable-ra", &format!("--dhcp-range={SITE_V6},ra-only")])
        .arg(format!("--interface={}", bridge()));
    let mut process = Process::start("the router", &mut dnsmasq, None)?;
    process.wait_for(&["router advertisement"], START_LIMIT)?;
    Ok(process)
}
