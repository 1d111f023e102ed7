//! Tests of the neighbour check: a requester that claims the MAC address of another machine gets no secret.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use volboot::neighbours::{Neighbours, Presence};

use crate::lab::api::Api;
use crate::lab::daemon::API;
use crate::lab::host::Host;
use crate::lab::network::{SERVER, bridge, ip, set_parameter};
use crate::lab::process::Process;
use crate::lab::target::Export;
use crate::lab::volume::Volume;
use crate::lab::{self, Lab};
use crate::site::{BOOT_LIMIT, INITIATOR, LOG_LIMIT, MAC};

/// The interval of polling the timeline.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(100);
pub(crate) const OTHER: &str = "52:54:00:12:34:99";
/// A line that only the script with the CHAP secret has.
pub(crate) const SECRET: &str = "set password:hex";
/// The link-local address of the bridge.
pub(crate) const LINK_LOCAL: &str = "fe80::ff:fe00:1";

/// Starts volboot, and creates a node with the card [`MAC`] and one volume.
pub(crate) fn start_with_node(lab: &Lab, boot: &str) -> Result<Process> {
    let volboot = start(lab, boot)?;
    let api = Api::new()?;
    let node = api.create_node("node-1")?;
    api.create_port(&node, MAC)?;
    api.create_connector(&node, INITIATOR)?;
    api.create_target(&node, 0, &Export::new(&Volume::data(lab, "alpha")?, INITIATOR), None)?;
    Ok(volboot)
}

/// Starts volboot on all addresses, with the existing records.
pub(crate) fn start(lab: &Lab, boot: &str) -> Result<Process> {
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

pub(crate) fn boot_listener(address: &str) -> Result<SocketAddr> {
    Ok(SocketAddr::new(address.parse::<IpAddr>()?, 8080))
}

/// The MAC address as iPXE writes it into a URL.
pub(crate) fn hyphenated(mac: &str) -> String {
    mac.replace(':', "-")
}

#[test]
fn secret_is_only_for_a_card_of_the_node() -> Result<()> {
    lab::run(|lab| {
        let mut volboot = start_with_node(lab, "")?;
        let path = format!("/boot/{}?macs={}&try=1", hyphenated(MAC), hyphenated(MAC));

        let machine = Host::connect("machine", MAC)?;
        machine.ip("address add 10.99.0.7/24 dev eth0")?;
        machine.ip("address add fd00:99::7/64 dev eth0 nodad")?;
        for server in [SERVER.to_string(), "fd00:99::1".to_owned()] {
            let script = machine.get(boot_listener(&server)?, &path)?;
            ensure!(script.contains(SECRET), "the machine gets no secret from {server}: {script}");
        }

        let other = Host::connect("other", OTHER)?;
        other.ip("address add 10.99.0.8/24 dev eth0")?;
        other.ip("address add fd00:99::8/64 dev eth0 nodad")?;
        let path_with_own_mac = format!("/boot/{}?macs={}&try=1", hyphenated(OTHER), hyphenated(MAC));
        for (server, address) in [(SERVER.to_string(), "10.99.0.8"), ("fd00:99::1".to_owned(), "fd00:99::8")]
        {
            for path in [&path, &path_with_own_mac] {
                let script = other.get(boot_listener(&server)?, path)?;
                let reason = format!(
                    "volboot: node node-1: no port has the address {OTHER}, which the neighbour table shows for {address}"
                );
                ensure!(script.contains(&reason), "the other machine gets no reason from {server}: {script}");
                ensure!(!script.contains(SECRET), "the other machine gets the secret from {server}");
            }
        }
        volboot.wait_for(&[r#""outcome":"refused""#], LOG_LIMIT)?;

        // A boot report from another card is rejected.
        let event = format!("/boot/{}/event?step=up", hyphenated(MAC));
        let answer = other.request(boot_listener(&SERVER.to_string())?, &event)?;
        ensure!(answer.starts_with("HTTP/1.1 403 "), "the report of the other machine: {answer}");
        ensure!(
            machine.get(boot_listener(&SERVER.to_string())?, &event)? == "noted\n",
            "the report of the machine is rejected"
        );
        Ok(())
    })
}

#[test]
fn tftp_transfer_belongs_to_the_card_in_the_neighbour_table() -> Result<()> {
    lab::run(|lab| {
        let _volboot = start_with_node(lab, "")?;
        let machine = Host::connect("machine", OTHER)?;
        machine.ip("address add 10.99.0.7/24 dev eth0")?;
        machine.start_transfer(SocketAddr::new(SERVER.into(), 69), "boot.ipxe", "")?;
        // The machine sends no boot request, so the transfer is the only trace of it.
        let api = Api::new()?;
        let deadline = Instant::now() + LOG_LIMIT;
        while api.get(&format!("machines/{OTHER}")).is_err() {
            ensure!(Instant::now() < deadline, "the machine is not in the timeline");
            // The delay only reduces the load of the host.
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    })
}

#[test]
fn transfer_aborted_by_a_stop_is_in_the_timeline() -> Result<()> {
    lab::run(|lab| {
        let mut volboot = start(lab, "")?;
        let machine = Host::connect("machine", OTHER)?;
        machine.ip("address add 10.99.0.7/24 dev eth0")?;
        // A request without any answer may be forged: it belongs to the address, not to the machine with it.
        let _unread = machine.abandon_transfer(SocketAddr::new(SERVER.into(), 69), "boot.ipxe")?;
        let status = volboot.stop(BOOT_LIMIT)?;
        ensure!(status.success(), "volboot exited with {status}");
        let _volboot = start(lab, "")?;
        let api = Api::new()?;
        let machine = api.get("machines/10.99.0.7")?.to_string();
        ensure!(machine.contains(r#""outcome":"stopped""#), "{machine}");
        ensure!(api.get(&format!("machines/{OTHER}")).is_err(), "the request counts for the machine");
        Ok(())
    })
}

#[test]
fn link_local_address_is_looked_up_on_its_link() -> Result<()> {
    lab::run(|lab| {
        let _volboot = start_with_node(lab, "")?;
        ip(&["address", "replace", &format!("{LINK_LOCAL}/64"), "dev", bridge(), "nodad"])?;
        let path = format!("/boot/{}?macs=&try=1", hyphenated(MAC));
        for (cable, mac, address, passes) in
            [("machine", MAC, "fe80::7", true), ("other", OTHER, "fe80::8", false)]
        {
            let host = Host::connect(cable, mac)?;
            host.ip(&format!("address add {address}/64 dev eth0 nodad"))?;
            let SocketAddr::V6(mut server) = boot_listener(LINK_LOCAL)? else { unreachable!("it is IPv6") };
            server.set_scope_id(host.interface_index()?);
            let script = host.get(server.into(), &path)?;
            ensure!(script.contains(SECRET) == passes, "{cable} gets: {script}");
        }
        Ok(())
    })
}

#[test]
fn requester_is_unchecked_with_verify_mac_off() -> Result<()> {
    lab::run(|lab| {
        let _volboot = start_with_node(lab, "verify_mac = \"off\"")?;
        let other = Host::connect("other", OTHER)?;
        other.ip("address add 10.99.0.8/24 dev eth0")?;
        let script =
            other.get(boot_listener(&SERVER.to_string())?, &format!("/boot/{}?try=1", hyphenated(MAC)))?;
        ensure!(script.contains(SECRET), "{script}");
        Ok(())
    })
}

#[test]
fn rate_limit_makes_a_requester_wait() -> Result<()> {
    lab::run(|lab| {
        let _volboot = start_with_node(lab, "")?;
        let machine = Host::connect("machine", MAC)?;
        machine.ip("address add 10.99.0.7/24 dev eth0")?;
        let other = Host::connect("other", OTHER)?;
        other.ip("address add 10.99.0.8/24 dev eth0")?;
        let server = boot_listener(&SERVER.to_string())?;
        let path = format!("/boot/{}?try=1", hyphenated(MAC));
        // Requests with the MAC address of another machine count for the sender only.
        let reason_for_other = format!("volboot: requests from {MAC} or 10.99.0.8 exceed the rate limit");
        let mut requests = 0;
        while !other.get(server, &path)?.contains(&reason_for_other) {
            requests += 1;
            ensure!(requests < 10_000, "the other machine is not limited");
        }
        let reason = format!("volboot: requests from {MAC} or 10.99.0.7 exceed the rate limit");
        let mut requests = 0;
        let script = loop {
            requests += 1;
            let script = machine.get(server, &path)?;
            if !script.contains(SECRET) {
                break script;
            }
            ensure!(requests < 10_000, "the machine is not limited");
        };
        ensure!(requests > 30, "the limit is {} requests", requests - 1);
        ensure!(script.contains(&reason), "no reason in: {script}");
        ensure!(script.contains("chain --replace"), "no retry in: {script}");
        Ok(())
    })
}

/// Shortens the times of the kernel's neighbour table, which are a minute together.
fn hasten_neighbour_table() -> Result<()> {
    for (parameter, value) in [("base_reachable_time_ms", "500"), ("delay_first_probe_time", "1")] {
        set_parameter(&format!("ipv4/neigh/{}/{parameter}", bridge()), value)?;
    }
    Ok(())
}

/// volboot asks a machine whose `up` is missing, before its boot would count as failed.
#[test]
fn a_host_that_runs_answers_and_one_that_stopped_is_silent() -> Result<()> {
    lab::run(|_: &Lab| {
        hasten_neighbour_table()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let find = |address: &str| -> Result<Presence> {
            let address = address.parse()?;
            Ok(runtime.block_on(async { Neighbours::default().find_presence(address).await }))
        };
        let host = Host::connect("machine", MAC)?;
        host.ip("address add 10.99.0.77/24 dev eth0")?;
        let presence = find("10.99.0.77")?;
        ensure!(presence == Presence::Answers, "{presence:?}");
        let never_there = find("10.99.0.78")?;
        ensure!(never_there == Presence::Silent, "{never_there:?}");
        // The entry of a host that stopped stays in the table.
        host.ip("link set eth0 down")?;
        let deadline = Instant::now() + LOG_LIMIT;
        while find("10.99.0.77")? != Presence::Silent {
            ensure!(Instant::now() < deadline, "a host that stopped answers");
        }
        let beyond = find("192.0.2.1")?;
        ensure!(beyond == Presence::Unknown, "{beyond:?}");
        Ok(())
    })
}
