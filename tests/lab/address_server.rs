//! [`AddressServer`]: a DHCP server that gives addresses and knows nothing of network boot, on a host of its own.
//!
//! Traps:
//! * Two DHCP servers of one host share port 67, so the server has a network namespace with a cable to the bridge.
//! * The servers keep leases and pid files in directories of the host; they get empty ones in a mount namespace.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::gettid;

use super::network::{add_bare_other_network, bridge, other_bridge};
use super::process::Process;
use super::relay::UPLINK;

/// The server's address.
pub(super) const ADDRESS_SERVER: &str = "10.99.0.3";
const START_LIMIT: Duration = Duration::from_secs(60);

const SECOND_SERVER: &str = "10.99.0.5";
/// dnsmasq's range of the lab's pool.
const RANGE: &str = "--dhcp-range=10.99.0.50,10.99.0.99,1h";
const DNSMASQ_READY: &str = "sockets bound";

/// The program of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressServerKind {
    /// dnsmasq.
    Dnsmasq,
    /// ISC dhcpd.
    Dhcpd,
    /// Kea.
    Kea,
}

/// A running DHCP server.
pub(crate) struct AddressServer {
    process: Process,
}

impl AddressServer {
    /// Starts the server with the lab's pool.
    pub(crate) fn start(kind: AddressServerKind) -> Result<Self> {
        Self::start_with(kind, "")
    }

    /// Starts dnsmasq with further `arguments`.
    pub(crate) fn start_dnsmasq(arguments: &str) -> Result<Self> {
        Self::start_with(AddressServerKind::Dnsmasq, arguments)
    }

    /// Starts dnsmasq with further `arguments`, and `/run/on-lease`, a script that tags a machine as `chained` at its first
    /// lease.
    pub(crate) fn start_dnsmasq_with_lease_script(arguments: &str) -> Result<Self> {
        let prepare = "mkdir /run/hosts; printf '#!/bin/sh\\n[ \"$1\" != add ] || echo \"$2,set:chained\" > /run/hosts/\"$2\"\\n' \
                       > /run/on-lease; chmod 700 /run/on-lease; ";
        Self::launch(
            bridge(),
            "addresses",
            ADDRESS_SERVER,
            &format!("{prepare}{}", dnsmasq(RANGE, arguments)),
            DNSMASQ_READY,
        )
    }

    /// Starts dnsmasq in the network of the documents, 10.0.0.0/24.
    pub(crate) fn start_in_documented_network() -> Result<Self> {
        Self::launch(
            bridge(),
            "addresses",
            "10.0.0.3",
            &dnsmasq("--dhcp-range=10.0.0.50,10.0.0.99,1h", ""),
            DNSMASQ_READY,
        )
    }

    /// Creates the other network, and starts dnsmasq there.
    pub(crate) fn start_in_other_network() -> Result<Self> {
        add_bare_other_network()?;
        let dnsmasq = dnsmasq("--dhcp-range=10.98.0.50,10.98.0.99,1h", "");
        Self::launch(other_bridge(), "addresses2", "10.98.0.3", &dnsmasq, DNSMASQ_READY)
    }

    /// Starts a dnsmasq on a second host, with these `arguments` alone.
    pub(crate) fn start_second(arguments: &str) -> Result<Self> {
        Self::launch(bridge(), "addresses2", SECOND_SERVER, &dnsmasq("", arguments), DNSMASQ_READY)
    }

    fn start_with(kind: AddressServerKind, arguments: &str) -> Result<Self> {
        let (command, ready) = match kind {
            AddressServerKind::Dnsmasq => (
                dnsmasq(RANGE, arguments),
                DNSMASQ_READY,
            ),
            AddressServerKind::Dhcpd => (
                "mkdir /var/lib/dhcp /run/dhcp; touch /var/lib/dhcp/dhcpd.leases; mount --bind /run/dhcp /etc/dhcp; \
                 echo 'authoritative; subnet 10.99.0.0 netmask 255.255.255.0 { range 10.99.0.50 10.99.0.99; }' \
                 > /etc/dhcp/dhcpd.conf; exec dhcpd -4 -f -d --no-pid eth0"
                    .to_owned(),
                "Server starting service",
            ),
            AddressServerKind::Kea => (
                "mkdir /var/lib/kea /run/kea /run/kea-config; mount --bind /run/kea-config /etc/kea; \
                 echo '{\"Dhcp4\": {\"interfaces-config\": {\"interfaces\": [\"eth0\"]}, \
                 \"lease-database\": {\"type\": \"memfile\", \"persist\": false}, \
                 \"subnet4\": [{\"id\": 1, \"subnet\": \"10.99.0.0/24\", \
                 \"pools\": [{\"pool\": \"10.99.0.50-10.99.0.99\"}]}], \
                 \"loggers\": [{\"name\": \"kea-dhcp4\", \"severity\": \"INFO\", \
                 \"output_options\": [{\"output\": \"stdout\"}]}]}}' > /etc/kea/kea-dhcp4.conf; \
                 exec kea-dhcp4 -c /etc/kea/kea-dhcp4.conf"
                    .to_owned(),
                "DHCP4_STARTED",
            ),
        };
        Self::launch(bridge(), "addresses", ADDRESS_SERVER, &command, ready)
            .with_context(|| format!("{kind:?} does not start"))
    }

    /// Runs `command` on a host with a cable of this name to the bridge.
    fn launch(bridge: &str, cable: &str, address: &str, command: &str, ready: &str) -> Result<Self> {
        let lab_thread = gettid();
        let script = format!(
            "lab='nsenter --net=/proc/{lab_thread}/ns/net --'; \
             $lab ip link add {cable} type veth peer name eth0 netns $$; \
             $lab ip link set {cable} master {bridge} up; \
             ip address add {address}/24 dev eth0; ip link set lo up; ip link set eth0 up; \
             ip route add 10.98.0.0/24 via {UPLINK} dev eth0 onlink || true; \
             mount -t tmpfs none /run; mount -t tmpfs none /var/lib; {command}"
        );
        let mut unshare = Command::new("unshare");
        let mut process = Process::start(
            "the DHCP server",
            unshare.args(["--net", "--mount", "sh", "-ec", &script]),
            None,
        )?;
        process.wait_for(&[ready], START_LIMIT)?;
        Ok(Self { process })
    }

    /// Suspends the server, or resumes it.
    pub(crate) fn set_suspended(&self, suspended: bool) -> Result<()> {
        self.process.set_suspended(suspended)
    }
}

/// The command line of dnsmasq on the host.
fn dnsmasq(range: &str, arguments: &str) -> String {
    format!(
        "exec dnsmasq --no-daemon --log-facility=- --conf-file=/dev/null --pid-file= --port=0 --bind-interfaces \
         --interface=eth0 --no-ping --dhcp-leasefile=/run/leases --log-dhcp {range} {arguments}"
    )
}
