//! TFTP properties that need a real network: block size by MTU, and the source address of responses.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::lab::daemon::API;
use crate::lab::host::Host;
use crate::lab::network::{SECOND_ADDRESS, SERVER, bridge, ip};
use crate::lab::process::Process;
use crate::lab::{self, Lab};
use crate::neighbours::LINK_LOCAL;
use crate::site::{BOOT_LIMIT, MAC};

/// Additional addresses of the server, of one family.
const MORE_ADDRESSES: [&str; 2] = ["fd00:99::2", "fd00:99::3"];

/// Starts volboot on all addresses of the server.
fn start_volboot(lab: &Lab) -> Result<Process> {
    start_with_ports(lab, "ephemeral")
}

fn start_with_ports(lab: &Lab, ports: &str) -> Result<Process> {
    let config = lab.path().join("volboot.toml");
    let text = format!(
        "[store]\npath = \"{}\"\n[tftp]\nports = \"{ports}\"\nlisten = [\"0.0.0.0:69\", \"[::]:69\"]\n\
         [http]\nlisten = \"[::]:8080\"\n[api]\nlisten = \"{API}\"\n",
        lab.path().join("volboot.redb").display()
    );
    fs::write(&config, text)?;
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_volboot")));
    command.arg("serve").arg("--config").arg(&config);
    let mut volboot = Process::start("volboot", &mut command, None)?;
    volboot.wait_for(&[r#""message":"ready""#], BOOT_LIMIT)?;
    Ok(volboot)
}

fn connect_machine() -> Result<Host> {
    let machine = Host::connect("machine", MAC)?;
    machine.ip("address add 10.99.0.7/24 dev eth0")?;
    machine.ip("address add fd00:99::7/64 dev eth0 nodad")?;
    Ok(machine)
}

#[test]
fn block_size_fits_the_mtu() -> Result<()> {
    lab::run(|lab| {
        let _volboot = start_volboot(lab)?;
        ip(&["link", "set", "dev", bridge(), "mtu", "1400"])?;
        let machine = connect_machine()?;
        let (server, options) = (SocketAddr::new(SERVER.into(), 69), "blksize 1468 ");
        let (packet, _) = machine.start_transfer(server, "boot.ipxe", options)?;
        // Headers: 20 bytes of IP, 8 of UDP, 4 of TFTP.
        let expected = b"\0\x06blksize\x001368\0";
        ensure!(packet == expected, "unexpected packet: {}", String::from_utf8_lossy(&packet));
        Ok(())
    })
}

#[test]
fn response_comes_from_the_requested_address() -> Result<()> {
    lab::run(|lab| {
        for address in MORE_ADDRESSES {
            ip(&["address", "add", &format!("{address}/64"), "dev", bridge(), "nodad"])?;
        }
        let _volboot = start_volboot(lab)?;
        let machine = connect_machine()?;
        let [first, second] = MORE_ADDRESSES.map(str::parse::<Ipv6Addr>);
        for address in [SECOND_ADDRESS.into(), SERVER.into(), first?.into(), second?.into()] {
            let server = SocketAddr::new(address, 69);
            let (script, source) = machine.read_over_tftp(server, "boot.ipxe")?;
            ensure!(source.ip() == server.ip(), "request to {address}, response from {source}");
            let script = String::from_utf8_lossy(&script);
            let url = format!("http://{}/", SocketAddr::new(server.ip(), 8080));
            ensure!(script.contains(&url), "the script does not contain {url}: {script}");
        }
        Ok(())
    })
}

#[test]
fn link_local_client_gets_rejections_from_another_port_than_its_transfer() -> Result<()> {
    lab::run(|lab| {
        ip(&["address", "replace", &format!("{LINK_LOCAL}/64"), "dev", bridge(), "nodad"])?;
        let machine = Host::connect("machine", MAC)?;
        machine.ip("address add fe80::7/64 dev eth0 nodad")?;
        for ports in ["ephemeral", "single"] {
            let volboot = start_with_ports(lab, ports)?;
            let address = SocketAddrV6::new(LINK_LOCAL.parse()?, 69, 0, machine.interface_index()?);
            let (packet, peer, transfer) = machine.request_during_transfer(address.into(), "boot.ipxe")?;
            ensure!(packet.starts_with(&[0, 5, 0, 1]), "{ports}: unexpected packet: {packet:?}");
            ensure!(peer.ip() == transfer.ip() && peer.port() != transfer.port(), "{ports}: {peer}");
            drop(volboot);
        }
        Ok(())
    })
}
