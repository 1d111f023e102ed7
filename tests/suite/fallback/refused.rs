//! Refused connections: the boots of the machines behind them do not count, and those of others do.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use volboot::listen::RefusedClients;

use super::{Machine, Site, advance};

/// Boots a machine that never comes up until the next boot would be from the fallback.
async fn fail_three_boots(site: &mut Site, machine: Machine) {
    for _ in 0..3 {
        assert_eq!(site.boot_and_hook(0, machine).await, "own-1");
        advance(400).await;
    }
}

/// The volume of the next boot after refused connections of this client in the third failed one.
async fn boot_after_refusal(site: &mut Site, client: &str) -> String {
    let machine = site.add_node(1, true).await;
    fail_three_boots(site, machine).await;
    site.refuse_connections(0, client.parse().expect("an address")).await;
    site.boot_and_hook(0, machine).await
}

#[tokio::test(start_paused = true)]
async fn a_stranger_whose_connections_are_refused_makes_no_boot_doubtful() {
    assert_eq!(boot_after_refusal(&mut Site::open(1).await, "192.0.2.250").await, "spare-1");
}

#[tokio::test(start_paused = true)]
async fn the_boot_of_a_machine_whose_connections_are_refused_is_doubtful() {
    assert_eq!(boot_after_refusal(&mut Site::open(1).await, "192.0.2.1").await, "own-1");
}

#[tokio::test(start_paused = true)]
async fn every_boot_is_doubtful_behind_a_router_or_a_proxy_with_refused_connections() {
    assert_eq!(boot_after_refusal(&mut Site::open(1).await, "203.0.113.1").await, "own-1");
    let mut site = Site::open(1).await;
    site.instances[0].boot.fallback_watch().set_proxies(vec!["192.0.2.240/28".parse().expect("a network")]);
    assert_eq!(boot_after_refusal(&mut site, "192.0.2.250").await, "own-1");
}

#[tokio::test(start_paused = true)]
async fn every_boot_is_doubtful_if_more_clients_are_refused_than_are_kept() {
    let mut site = Site::open(1).await;
    let machine = site.add_node(1, true).await;
    fail_three_boots(&mut site, machine).await;
    let stranger: IpAddr = "192.0.2.250".parse().expect("an address");
    let clients = BTreeSet::from([SocketAddr::new(stranger, 0)]);
    let watch = site.instances[0].boot.fallback_watch();
    watch.note_refused_connections(RefusedClients { clients, are_all: false }).await;
    assert_eq!(site.boot_and_hook(0, machine).await, "own-1");
}
