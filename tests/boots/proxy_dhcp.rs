//! The ProxyDHCP server beside a DHCP server that knows nothing of network boot: the offers to each kind of client.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use reqwest::Method;
use serde_json::{Value, json};

use crate::dhcp_configs::{choose, exact_client_kinds, url_or_name};
use crate::lab;
use crate::lab::Lab;
use crate::lab::address_server::{AddressServer, AddressServerKind};
use crate::lab::api::Api;
use crate::lab::daemon::Daemon;
use crate::lab::network::SERVER;
use crate::lab::probe::{ClientKind, Probe};
use crate::site::{LOG_LIMIT, newer_ipxe};

const BINARY: &str = env!("CARGO_BIN_EXE_volboot");

/// Starts volboot as a ProxyDHCP server with all binaries.
fn start_proxy(lab: &Lab, keys: &str) -> Result<Daemon> {
    Daemon::start_as_proxy(lab, Path::new(BINARY), Some(&newer_ipxe()?), keys)
}

#[test]
fn proxy_offers_by_client_kind_beside_each_server() -> Result<()> {
    for kind in [AddressServerKind::Dnsmasq, AddressServerKind::Dhcpd, AddressServerKind::Kea] {
        lab::run(move |lab| {
            let _addresses = AddressServer::start(kind)?;
            let _volboot = start_proxy(lab, "unknown = \"answer\"")?;
            let probe = Probe::start()?;
            let kinds = match kind {
                AddressServerKind::Dnsmasq => exact_client_kinds(),
                AddressServerKind::Dhcpd | AddressServerKind::Kea => {
                    vec![ClientKind::Pxe(0), ClientKind::Pxe(7), ClientKind::Http(16), ClientKind::Ipxe(0)]
                }
            };
            kinds.into_iter().try_for_each(|kind| check_offer(&probe, kind))
        })?;
    }
    Ok(())
}

/// Compares the offer with the table, and that of the other server with what it was.
fn check_offer(probe: &Probe, kind: ClientKind) -> Result<()> {
    let Some(expected) = choose(kind) else {
        return probe.expect_no_proxy_offer(kind);
    };
    // The vendor class names another transport than the table: such a client is inconsistent.
    let is_http_class = kind.vendor_class().is_some_and(|class| class.starts_with("HTTPClient"));
    let is_http_file = expected.transport() == volboot::images::Transport::Http;
    if kind.features().is_none() && is_http_class != is_http_file {
        return probe.expect_no_proxy_offer(kind);
    }
    let offer = probe.proxy_offer(kind)?;
    let class = if is_http_class { "HTTPClient" } else { "PXEClient" };
    let is_expected = !offer.has_address
        && offer.file == url_or_name(Some(expected))
        && offer.server == SERVER
        && offer.class.as_deref() == Some(class);
    ensure!(is_expected, "{kind:?}: {offer:?}");
    let untouched = probe.offer(kind)?;
    ensure!(untouched.has_address && untouched.file.is_empty(), "{kind:?}: {untouched:?}");
    Ok(())
}

#[test]
fn machines_are_answered_as_their_node_says() -> Result<()> {
    lab::run(|lab| {
        let _addresses = AddressServer::start(AddressServerKind::Dnsmasq)?;
        let mut volboot = start_proxy(lab, "unknown = \"ignore\"")?;
        let (probe, api) = (Probe::start()?, Api::new()?);
        probe.expect_no_proxy_offer(ClientKind::Pxe(0))?;
        volboot.wait_for_log(r#""answer":"unknown_machine""#, LOG_LIMIT)?;
        // Only the number differs in the probe's addresses.
        let node = api.create_node("node-1")?;
        for number in 0..3 {
            api.create_port(&node, &Probe::mac(number))?;
        }
        ensure!(probe.proxy_offer(ClientKind::Pxe(0))?.file == "undionly.kpxe");
        volboot.wait_for_log(r#""answer":"sent""#, LOG_LIMIT)?;
        let patch = json!([{"op": "add", "path": "/properties/netboot", "value": false}]);
        api.send(&Method::PATCH, &format!("nodes/{node}"), &patch)?;
        probe.expect_no_proxy_offer(ClientKind::Pxe(0))?;
        volboot.wait_for_log(r#""answer":"netboot_off""#, LOG_LIMIT)?;
        // The next request is that of a machine without a node. A reload changes the answer.
        let config = lab.path().join("volboot.toml");
        let text = fs::read_to_string(&config)?.replace("unknown = \"ignore\"", "unknown = \"answer\"");
        fs::write(&config, text)?;
        kill(volboot.pid(), Signal::SIGHUP)?;
        volboot.wait_for_log("configuration reloaded", LOG_LIMIT)?;
        ensure!(probe.proxy_offer(ClientKind::Pxe(7))?.file == "snponly.efi");
        volboot.stop()
    })
}

#[test]
fn clients_that_do_not_boot_over_the_network_get_addresses_only() -> Result<()> {
    lab::run(|lab| {
        let _addresses = AddressServer::start(AddressServerKind::Dnsmasq)?;
        let _volboot = start_proxy(lab, "unknown = \"answer\"")?;
        let probe = Probe::start()?;
        let offer = probe.offer(ClientKind::Other)?;
        ensure!(offer.has_address && offer.file.is_empty(), "{offer:?}");
        probe.expect_no_proxy_offer(ClientKind::Other)
    })
}

/// A DHCP server of volboot's own host holds port 67. It sends option 60, so that UEFI asks volboot at port 4011.
#[test]
fn port_4011_is_served_alone_beside_a_server_of_the_same_host() -> Result<()> {
    lab::run(|lab| {
        let arguments = ["--dhcp-vendorclass=set:pxe,PXEClient", "--dhcp-option-force=tag:pxe,60,PXEClient"];
        let _dhcp = lab::dhcp::Dhcp::start_plain(lab, &arguments)?;
        let mut volboot = start_proxy(lab, "unknown = \"answer\"")?;
        ensure!(
            volboot.find_log_time("port 67 is taken").is_some()
                && volboot.find_log_time("dnsmasq (process").is_some()
        );
        let probe = Probe::start()?;
        for (kind, file) in [(ClientKind::Pxe(7), "snponly.efi"), (ClientKind::Pxe(0), "undionly.kpxe")] {
            let offer = probe.offer(kind)?;
            ensure!(
                offer.class.as_deref() == Some("PXEClient") && offer.file.is_empty(),
                "{kind:?}: {offer:?}"
            );
            let answer = probe.ask_boot_server(kind, SERVER)?;
            ensure!(answer.file == file && answer.server == SERVER, "{kind:?}: {answer:?}");
        }
        volboot.stop()
    })
}

/// The timeline of the probe's machine, once it has an entry with this text.
fn wait_for_entry(api: &Api, text: &str) -> Result<Value> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        for machine in api.get("machines")?["machines"].as_array().into_iter().flatten() {
            let machine = api.get(&format!("machines/{}", machine["id"].as_str().unwrap_or_default()))?;
            let mut entries = machine["timeline"].as_array().into_iter().flatten();
            if entries.any(|entry| entry["text"].as_str().is_some_and(|entry| entry.contains(text))) {
                return Ok(machine);
            }
        }
        ensure!(Instant::now() < deadline, "no entry with \"{text}\": {}", api.get("machines")?);
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn answers_of_other_servers_are_observed() -> Result<()> {
    for kind in [AddressServerKind::Dnsmasq, AddressServerKind::Dhcpd, AddressServerKind::Kea] {
        lab::run(move |lab| {
            let _addresses = AddressServer::start(kind)?;
            let service = "--dhcp-range=10.99.0.0,proxy --pxe-service=7,other,other.efi,10.99.0.5";
            let _other_proxy = AddressServer::start_second(service)?;
            let _volboot = start_proxy(lab, "unknown = \"answer\"\nwatch_answers = true")?;
            let (probe, api) = (Probe::start()?, Api::new()?);
            ensure!(probe.offer(ClientKind::Pxe(7))?.has_address);
            let machine = wait_for_entry(&api, "10.99.0.5, another ProxyDHCP server, answered")?;
            ensure!(machine["address"].is_null(), "an offered address is not the machine's: {machine}");
            // Kea's frames have the machine's address even if their packets are broadcasts: no other host gets them.
            if kind != AddressServerKind::Kea {
                wait_for_entry(&api, "10.99.0.3 offered 10.99.0.")?;
            }
            // A client that does not boot from the network is none of volboot's machines.
            ensure!(probe.offer(ClientKind::Other)?.has_address);
            ensure!(api.get("machines")?["machines"].as_array().map(Vec::len) == Some(1));
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn answers_are_observed_only_with_the_key() -> Result<()> {
    lab::run(|lab| {
        let _addresses = AddressServer::start(AddressServerKind::Dnsmasq)?;
        let _volboot = start_proxy(lab, "unknown = \"answer\"")?;
        let (probe, api) = (Probe::start()?, Api::new()?);
        ensure!(probe.offer(ClientKind::Pxe(7))?.has_address);
        probe.proxy_offer(ClientKind::Pxe(7))?;
        let machine = wait_for_entry(&api, "asked for an address")?;
        ensure!(!machine["timeline"].to_string().contains("offered"), "{machine}");
        Ok(())
    })
}
