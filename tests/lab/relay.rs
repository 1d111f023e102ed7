//! [`Relay`]: a router between the other network and the lab's, with a DHCP relay (dnsmasq). volboot and the DHCP server are
//! behind it.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use nix::unistd::gettid;

use super::address_server::ADDRESS_SERVER;
use super::network::{SERVER, add_bare_other_network, bridge, ip, other_bridge};
use super::process::Process;

/// The relay's address in the machines' network (giaddr), and their gateway.
pub(crate) const RELAY: &str = "10.98.0.254";
/// The relay's address in the lab's network, the way to the machines behind it.
pub(super) const UPLINK: &str = "10.99.0.4";
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running relay.
pub(crate) struct Relay {
    _process: Process,
}

impl Relay {
    /// Creates the other network, the router, and the routes of the servers to it.
    pub(crate) fn start() -> Result<Self> {
        add_bare_other_network()?;
        let (bridge, other, lab_thread) = (bridge(), other_bridge(), gettid());
        let script = format!(
            "lab='nsenter --net=/proc/{lab_thread}/ns/net --'; \
             $lab ip link add relay-up type veth peer name eth0 netns $$; $lab ip link set relay-up master {bridge} up; \
             $lab ip link add relay-down type veth peer name eth1 netns $$; $lab ip link set relay-down master {other} up; \
             ip link set lo up; ip address add {UPLINK}/24 dev eth0; ip address add {RELAY}/24 dev eth1; \
             ip link set eth0 up; ip link set eth1 up; echo 1 > /proc/sys/net/ipv4/ip_forward; \
             exec dnsmasq --no-daemon --log-facility=- --conf-file=/dev/null --pid-file= --port=0 --log-dhcp \
             --dhcp-relay={RELAY},{ADDRESS_SERVER} --dhcp-relay={RELAY},{SERVER}"
        );
        let mut unshare = Command::new("unshare");
        let mut process = Process::start("the relay", unshare.args(["--net", "sh", "-ec", &script]), None)?;
        process.wait_for(&["DHCP relay"], START_LIMIT)?;
        ip(&["route", "add", "10.98.0.0/24", "via", UPLINK])?;
        Ok(Self { _process: process })
    }
}
