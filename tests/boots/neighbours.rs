//! Who asks in another's name: the network shows it, and it gets no secret.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::lab::api::Api;
use crate::lab::daemon::API;
use crate::lab::host::Host;
use crate::lab::network::{SERVER, bridge, ip};
use crate::lab::process::Process;
use crate::lab::target::Export;
use crate::lab::volume::Volume;
use crate::lab::{self, Lab};
use crate::site::{BOOT_LIMIT, INITIATOR, LOG_LIMIT, MAC};

/// How often the timeline is looked at.
const LOOK: Duration = Duration::from_millis(100);
const OTHER: &str = "52:54:00:12:34:99";
/// What the script for the node says and no other does: the secret is set.
const SECRET: &str = "set password:hex";
/// The bridge's own address, made of its MAC.
const LINK_LOCAL: &str = "fe80::ff:fe00:1";

/// volboot at all addresses, and a node with the card [`MAC`] and one volume.
fn open(lab: &Lab, boot: &str) -> Result<Process> {
    let volboot = start(lab, boot)?;
    let api = Api::new()?;
    let node = api.create_node("node-1")?;
    api.create_port(&node, MAC)?;
    api.create_connector(&node, INITIATOR)?;
    api.create_target(&node, 0, &Export::new(&Volume::data(lab, "alpha")?, INITIATOR), None)?;
    Ok(volboot)
}

/// With the records that are there.
fn start(lab: &Lab, boot: &str) -> Result<Process> {
    let config = lab.path().join("volboot.toml");
    let store = lab.path().join("volboot.redb");
    let text = format!(
        "[store]\npath = \"{}\"\n[tftp]\nlisten = \"{SERVER}:69\"\n[http]\nlisten = \"[::]:8080\"\n\
         [api]\nlisten = \"{API}\"\n[boot]\n{boot}\n",
        store.display()
    );
    fs::write(&config, text)?;
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_volboot")));
    command.arg("serve").arg("--config").arg(&config);
    let mut volboot = Process::start("volboot", &mut command, None)?;
    volboot.wait_for(&[r#""message":"ready""#], BOOT_LIMIT)?;
    Ok(volboot)
}

fn at(address: &str) -> Result<SocketAddr> {
    Ok(SocketAddr::new(address.parse::<IpAddr>()?, 8080))
}

/// The card's address as iPXE writes it into a URL.
fn hyphenated(mac: &str) -> String {
    mac.replace(':', "-")
}

#[test]
fn a_secret_is_for_the_card_that_the_network_shows() -> Result<()> {
    lab::run(|lab| {
        let mut volboot = open(lab, "")?;
        let question = format!("/boot/{}?macs={}&try=1", hyphenated(MAC), hyphenated(MAC));

        let machine = Host::plug("machine", MAC)?;
        machine.ip("address add 10.99.0.7/24 dev eth0")?;
        machine.ip("address add fd00:99::7/64 dev eth0 nodad")?;
        for server in [SERVER.to_string(), "fd00:99::1".to_owned()] {
            let script = machine.get(at(&server)?, &question)?;
            ensure!(script.contains(SECRET), "the machine itself is told by {server}: {script}");
        }

        let stranger = Host::plug("stranger", OTHER)?;
        stranger.ip("address add 10.99.0.8/24 dev eth0")?;
        stranger.ip("address add fd00:99::8/64 dev eth0 nodad")?;
        let own_first = format!("/boot/{}?macs={}&try=1", hyphenated(OTHER), hyphenated(MAC));
        for (server, shown) in [(SERVER.to_string(), "10.99.0.8"), ("fd00:99::1".to_owned(), "fd00:99::8")] {
            for question in [&question, &own_first] {
                let script = stranger.get(at(&server)?, question)?;
                let reason = format!(
                    "volboot: node node-1 has no port with the address {OTHER}, which the network shows for {shown}"
                );
                ensure!(script.contains(&reason), "somebody else is told by {server}: {script}");
                ensure!(!script.contains(SECRET), "somebody else is told the secret by {server}");
            }
        }
        volboot.wait_for(&[r#""outcome":"refuse""#], LOG_LIMIT)?;

        // Nor is it believed what another says of itself.
        let event = format!("/boot/{}/event?step=up", hyphenated(MAC));
        let answer = stranger.ask(at(&SERVER.to_string())?, &event)?;
        ensure!(answer.starts_with("HTTP/1.1 403 "), "somebody else's word: {answer}");
        ensure!(machine.get(at(&SERVER.to_string())?, &event)? == "noted\n", "its own word");
        Ok(())
    })
}

#[test]
fn what_was_read_over_tftp_is_of_the_card_that_the_network_shows() -> Result<()> {
    lab::run(|lab| {
        let _volboot = open(lab, "")?;
        let machine = Host::plug("machine", OTHER)?;
        machine.ip("address add 10.99.0.7/24 dev eth0")?;
        machine.begin_to_read(SocketAddr::new(SERVER.into(), 69), "boot.ipxe", "")?;
        // It never asks for a script, so that there is nothing else by which it could be known.
        let api = Api::new()?;
        let deadline = Instant::now() + LOG_LIMIT;
        while api.show(&format!("machines/{OTHER}")).is_err() {
            ensure!(Instant::now() < deadline, "nothing is known of it");
            // Nothing is waited for by this: it only spares the host.
            std::thread::sleep(LOOK);
        }
        Ok(())
    })
}

#[test]
fn a_transfer_that_a_stop_cuts_off_is_in_the_timeline() -> Result<()> {
    lab::run(|lab| {
        let mut volboot = start(lab, "")?;
        let machine = Host::plug("machine", OTHER)?;
        machine.ip("address add 10.99.0.7/24 dev eth0")?;
        let _unread = machine.leave_unread(SocketAddr::new(SERVER.into(), 69), "boot.ipxe")?;
        let status = volboot.stop(BOOT_LIMIT)?;
        ensure!(status.success(), "it ended with {status}");
        let _volboot = start(lab, "")?;
        let machine = Api::new()?.show(&format!("machines/{OTHER}"))?.to_string();
        ensure!(machine.contains(r#""outcome":"stopped""#), "{machine}");
        Ok(())
    })
}

#[test]
fn a_link_local_address_is_one_of_the_link_it_came_through() -> Result<()> {
    lab::run(|lab| {
        let _volboot = open(lab, "")?;
        ip(&["address", "replace", &format!("{LINK_LOCAL}/64"), "dev", bridge(), "nodad"])?;
        let question = format!("/boot/{}?macs=&try=1", hyphenated(MAC));
        for (cable, mac, address, welcome) in
            [("machine", MAC, "fe80::7", true), ("stranger", OTHER, "fe80::8", false)]
        {
            let host = Host::plug(cable, mac)?;
            host.ip(&format!("address add {address}/64 dev eth0 nodad"))?;
            let SocketAddr::V6(mut server) = at(LINK_LOCAL)? else { unreachable!("it is IPv6") };
            server.set_scope_id(host.card()?);
            let script = host.get(server.into(), &question)?;
            ensure!(script.contains(SECRET) == welcome, "{cable} is told: {script}");
        }
        Ok(())
    })
}

#[test]
fn what_is_beyond_a_router_cannot_be_seen_and_is_believed() -> Result<()> {
    lab::run(|lab| {
        let _volboot = open(lab, "")?;
        // The other side of the router is an address of its own.
        let router = Host::plug("router", OTHER)?;
        router.ip("address add 10.99.0.9/24 dev eth0")?;
        router.ip("address add 10.98.0.1/32 dev lo")?;
        router.ip(&format!("route add {SERVER}/32 dev eth0 src 10.98.0.1"))?;
        ip(&["route", "add", "10.98.0.0/24", "via", "10.99.0.9"])?;
        let script = router.get(at(&SERVER.to_string())?, &format!("/boot/{}?try=1", hyphenated(MAC)))?;
        ensure!(script.contains(SECRET), "{script}");
        Ok(())
    })
}

#[test]
fn where_nobody_is_to_look_everybody_is_believed() -> Result<()> {
    lab::run(|lab| {
        let _volboot = open(lab, "verify_mac = \"off\"")?;
        let stranger = Host::plug("stranger", OTHER)?;
        stranger.ip("address add 10.99.0.8/24 dev eth0")?;
        let script = stranger.get(at(&SERVER.to_string())?, &format!("/boot/{}?try=1", hyphenated(MAC)))?;
        ensure!(script.contains(SECRET), "{script}");
        Ok(())
    })
}

#[test]
fn who_asks_without_end_is_told_to_wait() -> Result<()> {
    lab::run(|lab| {
        let _volboot = open(lab, "")?;
        let machine = Host::plug("machine", MAC)?;
        machine.ip("address add 10.99.0.7/24 dev eth0")?;
        let stranger = Host::plug("stranger", OTHER)?;
        stranger.ip("address add 10.99.0.8/24 dev eth0")?;
        let server = at(&SERVER.to_string())?;
        let question = format!("/boot/{}?try=1", hyphenated(MAC));
        // In another's name one uses up one's own.
        let own_reason = format!("volboot: {MAC} or 10.99.0.8 asks too often\n");
        let mut asked = 0;
        while !stranger.get(server, &question)?.contains(&own_reason) {
            asked += 1;
            ensure!(asked < 10_000, "a stranger may ask as often as it likes");
        }
        let reason = format!("volboot: {MAC} or 10.99.0.7 asks too often\n");
        let mut asked = 0;
        let script = loop {
            asked += 1;
            let script = machine.get(server, &question)?;
            if !script.contains(SECRET) {
                break script;
            }
            ensure!(asked < 10_000, "it may ask as often as it likes");
        };
        ensure!(asked > 30, "it may ask {} times only", asked - 1);
        ensure!(script.contains(&reason), "it is told: {script}");
        ensure!(script.contains("chain --replace"), "it is not told to ask again: {script}");
        Ok(())
    })
}
