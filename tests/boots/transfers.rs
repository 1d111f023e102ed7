//! TFTP as only a network shows it: what fits through a link, and which of several addresses answers.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::lab::daemon::API;
use crate::lab::host::Host;
use crate::lab::network::{SECOND, SERVER, bridge, ip};
use crate::lab::process::Process;
use crate::lab::{self, Lab};
use crate::site::{BOOT_LIMIT, MAC};

/// Further addresses of the host's, of one family.
const MORE: [&str; 2] = ["fd00:99::2", "fd00:99::3"];

/// volboot, at all addresses of the host's.
fn open(lab: &Lab) -> Result<Process> {
    let config = lab.path().join("volboot.toml");
    let text = format!(
        "[store]\npath = \"{}\"\n[tftp]\nlisten = [\"0.0.0.0:69\", \"[::]:69\"]\n\
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

fn machine() -> Result<Host> {
    let machine = Host::plug("machine", MAC)?;
    machine.ip("address add 10.99.0.7/24 dev eth0")?;
    machine.ip("address add fd00:99::7/64 dev eth0 nodad")?;
    Ok(machine)
}

#[test]
fn a_block_fits_the_link_that_the_request_came_through() -> Result<()> {
    lab::run(|lab| {
        let _volboot = open(lab)?;
        ip(&["link", "set", "dev", bridge(), "mtu", "1400"])?;
        let machine = machine()?;
        let (server, asked) = (SocketAddr::new(SERVER.into(), 69), "blksize 1468 ");
        let (answer, _) = machine.begin_to_read(server, "boot.ipxe", asked)?;
        // 20 bytes are IP's, 8 are UDP's and 4 are TFTP's.
        let expected = b"\0\x06blksize\x001368\0";
        ensure!(answer == expected, "it was answered: {}", String::from_utf8_lossy(&answer));
        Ok(())
    })
}

#[test]
fn of_several_addresses_the_one_that_was_asked_answers() -> Result<()> {
    lab::run(|lab| {
        for address in MORE {
            ip(&["address", "add", &format!("{address}/64"), "dev", bridge(), "nodad"])?;
        }
        let _volboot = open(lab)?;
        let machine = machine()?;
        let [first, second] = MORE.map(str::parse::<Ipv6Addr>);
        for address in [SECOND.into(), SERVER.into(), first?.into(), second?.into()] {
            let server = SocketAddr::new(address, 69);
            let (answer, from) = machine.begin_to_read(server, "boot.ipxe", "")?;
            ensure!(from.ip() == server.ip(), "{address} was asked, and {from} answered");
            let script = String::from_utf8_lossy(&answer);
            let url = format!("http://{}/", SocketAddr::new(server.ip(), 8080));
            ensure!(script.contains(&url), "the script does not lead to {url}: {script}");
        }
        Ok(())
    })
}
