//! The lab's network: a namespace without a name, a bridge with the site's address, and a cable for each
//! machine.
//!
//! Traps it copes with:
//! * A namespace with a name outlives a killed test. This one has none: it is entered with `unshare`, and is
//!   gone with the last process in it. `unshare` moves the calling *thread* only, so whatever must be inside
//!   (processes, sockets, further threads) has to be started from that thread.
//! * A bridge takes the lowest MAC of its ports unless it was given one, so every machine switched on would
//!   change the server's MAC under the others.
//! * A bridge with nothing plugged in has no carrier, and Kea does not listen on an interface without: so there
//!   is always one cable, which leads nowhere.
//! * An IPv6 address is unusable for a second or two while its uniqueness is checked (`nodad` skips that).

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};

/// The site's server: DHCP, volboot and the iSCSI portal are all here.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// A second address of it, for storage that can be reached by two ways.
pub(crate) const SECOND: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// The site's IPv6 network, which only a router is needed for ([`super::dhcp`]).
pub(crate) const SITE_V6: &str = "fd00:99::";

const BRIDGE: &str = "br0";
const BRIDGE_MAC: &str = "02:00:00:00:00:01";

/// Whether namespaces and interfaces may be made at all.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Moves the calling thread into a new network in which there is only the bridge.
pub(super) fn leave_the_host() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "add", BRIDGE, "address", BRIDGE_MAC, "type", "bridge"])?;
    for address in [SERVER, SECOND] {
        ip(&["address", "add", &format!("{address}/24"), "dev", BRIDGE])?;
    }
    ip(&["address", "add", &format!("{SITE_V6}1/64"), "dev", BRIDGE, "nodad"])?;
    ip(&["link", "set", BRIDGE, "up"])?;
    let [cable, end] = ["nowhere", "nowhere-end"];
    ip(&["link", "add", cable, "type", "veth", "peer", "name", end])?;
    ip(&["link", "set", cable, "master", BRIDGE, "up"])?;
    ip(&["link", "set", end, "up"])
}

/// Lays a cable from the bridge to the network of another thread of this process, where its end is called `name`.
pub(super) fn plug_thread(name: &str, thread: nix::unistd::Pid) -> Result<()> {
    let here = format!("{name}-br");
    ip(&["link", "add", &here, "type", "veth", "peer", "name", name, "netns", &thread.to_string()])?;
    ip(&["link", "set", &here, "master", BRIDGE, "up"])
}

/// The interface DHCP is to listen on.
pub(crate) fn bridge() -> &'static str {
    BRIDGE
}

/// Lays a cable from the bridge to a machine: a tap device called `name`. It stays when the machine is switched off.
pub(crate) fn plug(name: &str) -> Result<()> {
    if ip(&["link", "show", "dev", name]).is_ok() {
        return Ok(());
    }
    ip(&["tuntap", "add", "dev", name, "mode", "tap"])?;
    ip(&["link", "set", name, "master", BRIDGE, "up"])
}

/// Runs `ip` in the network of the calling thread.
pub(crate) fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("cannot run `ip` (package iproute2)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip {}` failed: {}", arguments.join(" "), said.trim());
    Ok(())
}
