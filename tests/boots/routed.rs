//! Requesters behind a router, and requesters whose place in the network is unclear: they get no secret, their reports do
//! not count, and they spend nothing of a machine on an attached network.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::lab;
use crate::lab::api::Api;
use crate::lab::daemon::API;
use crate::lab::host::Host;
use crate::lab::network::{SERVER, bridge, find_route, ip, set_parameter};
use crate::neighbours::{OTHER, POLL_INTERVAL, SECRET, boot_listener, hyphenated, start, start_with_node};
use crate::site::{BOOT_LIMIT, LOG_LIMIT, MAC};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 9);
const ROUTER_MAC: &str = "52:54:00:12:34:09";
/// An address in the network behind the router.
const ROUTED: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
/// The time in which a change of an entry is found.
const SECOND_LOOK_LIMIT: Duration = Duration::from_secs(5);
const NAMED: &str = "routed_networks = [\"10.98.0.0/24\"]";

/// Connects a router. An address of its own stands for a machine in the network behind it.
fn connect_router() -> Result<Host> {
    let router = Host::connect("router", ROUTER_MAC)?;
    router.ip(&format!("address add {ROUTER}/24 dev eth0"))?;
    use_routed_address(&router)?;
    ip(&["route", "add", "10.98.0.0/24", "via", &ROUTER.to_string()])?;
    Ok(router)
}

/// Makes requests of the host to volboot come from [`ROUTED`].
fn use_routed_address(host: &Host) -> Result<()> {
    host.ip(&format!("address add {ROUTED}/32 dev lo"))?;
    host.ip(&format!("route add {SERVER}/32 dev eth0 src {ROUTED}"))
}

fn connect_machine() -> Result<Host> {
    let machine = Host::connect("machine", MAC)?;
    machine.ip("address add 10.99.0.7/24 dev eth0")?;
    Ok(machine)
}

fn server() -> SocketAddr {
    SocketAddr::new(SERVER.into(), 8080)
}

fn script_path() -> String {
    format!("/boot/{}?try=1", hyphenated(MAC))
}

fn report_path() -> String {
    format!("/boot/{}/event?step=up", hyphenated(MAC))
}

/// Checks that the script has the reason and no secret.
fn expect_reason(script: &str, reason: &str) -> Result<()> {
    ensure!(script.contains(reason), "no \"{reason}\" in: {script}");
    ensure!(!script.contains(SECRET) && !script.contains("sanhook"), "hooks a volume: {script}");
    Ok(())
}

#[test]
fn routed_requester_gets_no_volume_until_its_network_is_named() -> Result<()> {
    lab::run(|lab| {
        let router = connect_router()?;
        let reason = format!(
            "node node-1: {ROUTED} is behind a router, and no network in [boot] routed_networks contains it"
        );
        let mut volboot = start_with_node(lab, "")?;
        expect_reason(&router.get(server(), &script_path())?, &reason)?;
        volboot.wait_for(&["no network in [boot] routed_networks"], LOG_LIMIT)?;
        let report = router.request(server(), &report_path())?;
        ensure!(report.starts_with("HTTP/1.1 403 ") && report.contains("routed_networks"), "{report}");
        volboot.stop(BOOT_LIMIT)?;

        // The next start names the network that the history shows, and `verify_mac` makes no difference.
        let mut volboot = start(lab, "verify_mac = \"off\"")?;
        let warning = r#""networks":"\"10.98.0.0/24\"""#;
        let deadline = Instant::now() + LOG_LIMIT;
        while volboot.find_time(warning).is_none() {
            ensure!(Instant::now() < deadline, "no warning: {}", volboot.tail());
            std::thread::sleep(POLL_INTERVAL);
        }
        expect_reason(&router.get(server(), &script_path())?, &reason)?;
        volboot.stop(BOOT_LIMIT)?;

        let _volboot = start(lab, NAMED)?;
        let script = router.get(server(), &script_path())?;
        ensure!(script.contains(SECRET), "{script}");
        ensure!(router.get(server(), &report_path())? == "noted\n", "the report is rejected");
        Ok(())
    })
}

#[test]
fn link_without_arp_counts_as_routed() -> Result<()> {
    lab::run(|lab| {
        let _volboot = start_with_node(lab, "")?;
        // Without ARP, frames go to the sender's own MAC address, so both ends need the same.
        let host = Host::connect("tunnel", MAC)?;
        for arguments in
            ["link set tunnel nomaster", "link set tunnel arp off", "address add 10.97.0.1/24 dev tunnel"]
        {
            ip(&arguments.split(' ').collect::<Vec<_>>())?;
        }
        ip(&["link", "set", "tunnel", "address", MAC])?;
        host.ip("link set eth0 arp off")?;
        host.ip("address add 10.97.0.7/24 dev eth0")?;
        let script = host.get(boot_listener("10.97.0.1")?, &script_path())?;
        expect_reason(&script, "10.97.0.7 is behind a router, and no network in [boot] routed_networks")
    })
}

#[test]
fn card_of_an_attached_network_gets_nothing_by_way_of_a_router() -> Result<()> {
    lab::run(|lab| {
        let mut volboot = start_with_node(lab, NAMED)?;
        let (router, machine) = (connect_router()?, connect_machine()?);
        ensure!(router.get(server(), &script_path())?.contains(SECRET), "the card was not shown yet");
        // The machine sends no boot request: the neighbour table shows it.
        machine.get(server(), "/healthz")?;
        let reason = format!("node node-1: the neighbour table showed card {MAC} on an attached network");
        // The table is read once a second at most.
        let deadline = Instant::now() + LOG_LIMIT;
        let mut script = router.get(server(), &script_path())?;
        while !script.contains(&reason) {
            ensure!(Instant::now() < deadline, "{script}");
            std::thread::sleep(POLL_INTERVAL);
            script = router.get(server(), &script_path())?;
        }
        expect_reason(&script, &reason)?;

        // The history remembers a machine that is switched off.
        ensure!(machine.get(server(), &script_path())?.contains(SECRET), "the machine gets no secret");
        volboot.stop(BOOT_LIMIT)?;
        drop(machine);
        ip(&["neighbour", "flush", "dev", bridge()])?;
        let _volboot = start(lab, NAMED)?;
        expect_reason(&router.get(server(), &script_path())?, &reason)
    })
}

#[test]
fn icmp_redirect_makes_the_place_unclear() -> Result<()> {
    lab::run(|lab| {
        let mut volboot = start_with_node(lab, NAMED)?;
        let _router = connect_router()?;
        let attacker = Host::connect("other", OTHER)?;
        let own = Ipv4Addr::new(10, 99, 0, 8);
        attacker.ip(&format!("address add {own}/24 dev eth0"))?;
        for interface in ["all", bridge()] {
            set_parameter(&format!("ipv4/conf/{interface}/accept_redirects"), "1")?;
            set_parameter(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
        }
        // Linux looks the new router up before it uses it.
        attacker.get(server(), "/healthz")?;
        let deadline = Instant::now() + LOG_LIMIT;
        while !find_route(ROUTED)?.contains(&format!("via {own} ")) {
            ensure!(Instant::now() < deadline, "no redirect: {}", find_route(ROUTED)?);
            attacker.forge_redirect(ROUTER, SERVER, ROUTED, own)?;
            std::thread::sleep(POLL_INTERVAL);
        }
        use_routed_address(&attacker)?;
        let script = attacker.get(server(), &script_path())?;
        expect_reason(&script, &format!("node node-1: an ICMP redirect changed the route to {ROUTED}"))?;
        ensure!(script.contains("retrying in 5 s"), "{script}");
        volboot.wait_for(&[r#""gateway":"10.99.0.8""#], LOG_LIMIT)?;
        let report = attacker.request(server(), &report_path())?;
        ensure!(report.starts_with("HTTP/1.1 503 "), "{report}");
        Ok(())
    })
}

/// Sends a request on an open connection.
fn send(stream: &mut TcpStream, path: &str) -> Result<()> {
    Ok(write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server())?)
}

/// Reads the metrics of volboot.
fn read_metrics() -> Result<String> {
    let mut stream = TcpStream::connect(API)?;
    stream.set_read_timeout(Some(LOG_LIMIT))?;
    send(&mut stream, "/metrics")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}

#[test]
fn report_of_a_sender_that_answers_no_arp_is_not_believed() -> Result<()> {
    lab::run(|lab| {
        let mut volboot = start_with_node(lab, "")?;
        let other = Host::connect("other", OTHER)?;
        other.ip("address add 10.99.0.8/24 dev eth0")?;
        let mut stream = other.open(server())?;
        // The entry of a host that answers no ARP fails.
        other.set("ipv4/conf/all/arp_ignore", "8")?;
        ip(&["neighbour", "del", "10.99.0.8", "dev", bridge()])?;
        send(&mut stream, &report_path())?;
        volboot.wait_for(&["boot report rejected"], LOG_LIMIT)?;
        other.set("ipv4/conf/all/arp_ignore", "0")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        ensure!(response.starts_with("HTTP/1.1 503 "), "{response}");
        ensure!(!response.to_ascii_lowercase().contains("retry-after"), "{response}");
        ensure!(Api::new()?.get(&format!("machines/{MAC}")).is_err(), "the report is in the timeline");
        Ok(())
    })
}

#[test]
fn routed_stranger_spends_nothing_of_an_attached_machine() -> Result<()> {
    lab::run(|lab| {
        let _volboot = start_with_node(lab, NAMED)?;
        let (router, machine) = (connect_router()?, connect_machine()?);
        // Ten boot sessions are a boot loop, and more requests than a burst exceed the rate limit.
        for session in 0..60 {
            router.get(server(), &format!("{}&journey=stranger{session}", script_path()))?;
        }
        let script = router.get(server(), &format!("{}&journey=stranger", script_path()))?;
        ensure!(script.contains("exceed the rate limit"), "{script}");
        let script = machine.get(server(), &format!("{}&journey=own", script_path()))?;
        ensure!(script.contains(SECRET), "the machine is locked out: {script}");
        Ok(())
    })
}

/// Polls a machine of the timeline until its record passes `check`.
fn wait_for_machine(api: &Api, id: &str, check: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + LOG_LIMIT;
    loop {
        let machine = api.get(&format!("machines/{id}"));
        if let Ok(machine) = &machine
            && check(machine)
        {
            return Ok(machine.clone());
        }
        ensure!(Instant::now() < deadline, "machine {id}: {machine:?}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[test]
fn refused_strangers_leave_the_timeline_of_a_booted_machine_alone() -> Result<()> {
    lab::run(|lab| {
        let mut volboot = start_with_node(lab, NAMED)?;
        let (router, machine) = (connect_router()?, connect_machine()?);
        let other = Host::connect("other", OTHER)?;
        other.ip("address add 10.99.0.8/24 dev eth0")?;
        ensure!(machine.get(server(), &script_path())?.contains(SECRET), "the machine gets no secret");
        ensure!(machine.get(server(), &report_path())? == "noted\n", "the report is rejected");
        let api = Api::new()?;
        let before = wait_for_machine(&api, MAC, |machine| machine["verdict"]["state"] == "booted")?;
        for _ in 0..10 {
            expect_reason(&router.get(server(), &script_path())?, "the neighbour table showed card")?;
            expect_reason(&other.get(server(), &script_path())?, "no port has the address")?;
        }
        // The strangers' requests are under their own names, and in the log.
        for stranger in [&ROUTED.to_string(), OTHER] {
            let count = |machine: &Value| {
                let events = machine["timeline"].as_array().into_iter().flatten();
                events.map(|event| event["count"].as_u64().unwrap_or(1)).sum::<u64>()
            };
            let record = wait_for_machine(&api, stranger, |machine| count(machine) == 10)?;
            ensure!(record["node"].is_null() && record["macs"] == json!([]), "{record}");
            let text = record["timeline"][0]["text"].as_str().unwrap_or_default();
            ensure!(text.starts_with(&format!("boot request for {MAC}")), "{record}");
        }
        volboot.wait_for(&["request rejected"], LOG_LIMIT)?;
        let after = api.get(&format!("machines/{MAC}"))?;
        ensure!(after == before, "{after} instead of {before}");
        let history = api.get("nodes/node-1/boot-history")?;
        ensure!(history["verdict"]["state"] == "booted", "{history}");
        Ok(())
    })
}

#[test]
fn neighbour_entry_that_changes_after_the_answer_is_logged_and_counted() -> Result<()> {
    lab::run(|lab| {
        let volboot = start_with_node(lab, "")?;
        let machine = connect_machine()?;
        let message = "neighbour entry changed to another machine's card";
        // On a busy host the entry may change too late for the first look.
        for _ in 0..5 {
            ip(&["neighbour", "replace", "10.99.0.7", "lladdr", MAC, "dev", bridge()])?;
            ensure!(machine.get(server(), &script_path())?.contains(SECRET), "the machine gets no secret");
            ip(&["neighbour", "replace", "10.99.0.7", "lladdr", OTHER, "dev", bridge()])?;
            let deadline = Instant::now() + SECOND_LOOK_LIMIT;
            while Instant::now() < deadline && volboot.find_time(message).is_none() {
                std::thread::sleep(POLL_INTERVAL);
            }
            if volboot.find_time(message).is_some() {
                let metrics = read_metrics()?;
                ensure!(metrics.contains("volboot_boot_neighbour_changes_total 1"), "{metrics}");
                return Ok(());
            }
        }
        anyhow::bail!("the change was not logged: {}", volboot.tail())
    })
}
