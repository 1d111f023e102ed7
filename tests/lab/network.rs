//! The lab's network: an unnamed namespace, a bridge with the site's addresses, and a cable for each machine.
//!
//! Traps:
//! * A named namespace outlives a killed test. An unnamed one, entered by `unshare`, ends with its last process.
//!   `unshare` moves the calling *thread* only, so processes, sockets and further threads must start from that thread.
//! * By default a bridge has the lowest MAC address of its ports. Each new machine could change the server's MAC
//!   address, so the bridge has a fixed one.
//! * A bridge without cables has no carrier, and Kea does not listen on such an interface. So one cable is
//!   always present, even without a machine.
//! * An IPv6 address is unusable for one or two seconds during duplicate address detection (`nodad` skips it).

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};

/// The address of the site's server: DHCP, volboot and the iSCSI portal.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// The server's second address, for storage with two paths.
pub(crate) const SECOND_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// The site's IPv6 network, present for its router only ([`super::dhcp`]).
pub(crate) const SITE_V6: &str = "fd00:99::";

/// The server's address in the other network ([`super::other_network`]).
pub(crate) const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);

/// The IPv6 network of the other network.
pub(crate) const OTHER_V6: &str = "fd00:98::";

const BRIDGE: &str = "br0";
const OTHER_BRIDGE: &str = "br1";
const BRIDGE_MAC: &str = "02:00:00:00:00:01";

/// Whether this process may create namespaces and interfaces.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Moves the calling thread into a new network namespace that contains only the bridge.
pub(super) fn enter_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot create a network namespace")?;
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "add", BRIDGE, "address", BRIDGE_MAC, "type", "bridge"])?;
    for address in [SERVER, SECOND_ADDRESS] {
        ip(&["address", "add", &format!("{address}/24"), "dev", BRIDGE])?;
    }
    ip(&["address", "add", &format!("{SITE_V6}1/64"), "dev", BRIDGE, "nodad"])?;
    ip(&["link", "set", BRIDGE, "up"])?;
    let [cable, end] = ["uplink", "uplink-end"];
    ip(&["link", "add", cable, "type", "veth", "peer", "name", end])?;
    ip(&["link", "set", cable, "master", BRIDGE, "up"])?;
    ip(&["link", "set", end, "up"])
}

/// Connects the network of another thread to the bridge; the cable's end there is called `name`.
pub(crate) fn plug_thread(name: &str, thread: nix::unistd::Pid) -> Result<()> {
    let bridge_end = format!("{name}-br");
    ip(&["link", "add", &bridge_end, "type", "veth", "peer", "name", name, "netns", &thread.to_string()])?;
    ip(&["link", "set", &bridge_end, "master", BRIDGE, "up"])
}

/// The interface for the DHCP server.
pub(crate) fn bridge() -> &'static str {
    BRIDGE
}

/// The bridge of the other network, created by [`add_other_network`].
pub(crate) fn other_bridge() -> &'static str {
    OTHER_BRIDGE
}

/// Creates a second bridge, with the server's addresses in the other network.
pub(super) fn add_other_network() -> Result<()> {
    ip(&["link", "add", OTHER_BRIDGE, "type", "bridge"])?;
    ip(&["address", "add", &format!("{OTHER_SERVER}/24"), "dev", OTHER_BRIDGE])?;
    ip(&["address", "add", &format!("{OTHER_V6}1/64"), "dev", OTHER_BRIDGE, "nodad"])?;
    ip(&["link", "set", OTHER_BRIDGE, "up"])
}

/// Creates a second bridge, without an address of the server.
pub(super) fn add_bare_other_network() -> Result<()> {
    ip(&["link", "add", OTHER_BRIDGE, "type", "bridge"])?;
    ip(&["link", "set", OTHER_BRIDGE, "up"])
}

/// Creates a machine's cable to the bridge: a tap device called `name`. It survives the machine.
pub(crate) fn plug(name: &str) -> Result<()> {
    plug_into(name, BRIDGE)
}

/// Creates a machine's cable to this bridge.
pub(crate) fn plug_into(name: &str, bridge: &str) -> Result<()> {
    if ip(&["link", "show", "dev", name]).is_ok() {
        return Ok(());
    }
    ip(&["tuntap", "add", "dev", name, "mode", "tap"])?;
    ip(&["link", "set", name, "master", bridge, "up"])
}

/// Runs `ip` in the network of the calling thread.
pub(crate) fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("cannot run `ip` (package iproute2)")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip {}` failed: {}", arguments.join(" "), stderr.trim());
    Ok(())
}

/// Sets a parameter of the network of the calling thread, such as `ipv4/conf/all/accept_redirects`.
pub(crate) fn set_parameter(parameter: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{parameter}");
    std::fs::write(&path, value).with_context(|| format!("cannot write {path}"))
}

/// The route of the calling thread's network to `address`, as `ip route get` prints it.
pub(crate) fn find_route(address: Ipv4Addr) -> Result<String> {
    let output = Command::new("ip").args(["route", "get", &address.to_string()]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
