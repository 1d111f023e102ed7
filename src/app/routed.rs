//! Finds machines behind routers that get no volumes, because `[boot] routed_networks` does not name their networks.
//!
//! Before that key existed, such machines booted. After an upgrade, the log names their networks at the start.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use crate::config::{Config, Diagnostic, RequesterPolicy};
use crate::model::NeighbourCheck;
use crate::neighbours::Neighbours;
use crate::timeline::{Machine, Timeline};

/// The most networks that are looked up; those of the machines seen last.
const MAX_NETWORKS: usize = 256;

/// Logs the networks of known nodes that are behind a router and not named.
pub(super) async fn log_unnamed_networks(
    timeline: Timeline,
    policy: RequesterPolicy,
    neighbours: Neighbours,
) {
    // The timeline has rejected requesters under their own addresses, without a node.
    let is_candidate =
        |machine: &Machine| (machine.node.is_some() || machine.is_rejected) && !machine.is_attached;
    let machines = timeline.machines(is_candidate);
    let mut routed = BTreeSet::new();
    for address in sample_addresses(&machines, &policy) {
        if is_routed(&neighbours, address).await {
            routed.insert(network_of(address));
        }
    }
    if !routed.is_empty() {
        let networks = quote(&routed);
        tracing::warn!(
            key = "boot.routed_networks",
            networks,
            "machines with a node are behind a router and get no volumes; name their networks in [boot] routed_networks"
        );
    }
}

/// One address of each network with machines, the network of the machine seen last first.
fn sample_addresses(machines: &[Machine], policy: &RequesterPolicy) -> Vec<IpAddr> {
    let mut networks = BTreeSet::new();
    let addresses = machines.iter().filter_map(|machine| machine.address);
    addresses
        .filter(|address| !address.is_loopback() && !policy.names(*address))
        .filter(|address| networks.insert(network_of(*address)))
        .take(MAX_NETWORKS)
        .collect()
}

/// Finds the networks of `[http] allow` that are behind a router and not named. The default networks do not count.
pub(crate) async fn find_unnamed_networks(config: &Config) -> Vec<Diagnostic> {
    let (neighbours, defaults) = (Neighbours::default(), Config::default().http.allow);
    let mut routed = BTreeSet::new();
    for network in config.http.allow.iter().filter(|network| !defaults.contains(network)) {
        let is_named = config
            .requesters
            .routed_networks
            .iter()
            .any(|named| named.contains(&network.network()) || network.contains(&named.network()));
        let first = network.hosts().next().unwrap_or(network.addr());
        if !is_named && network.prefix_len() > 0 && is_routed(&neighbours, first).await {
            routed.insert(*network);
        }
    }
    let message = |networks| {
        format!(
            "machines of {networks} that are behind a router get no volumes, because no network here contains them"
        )
    };
    let key = || Some("boot.routed_networks".to_owned());
    let diagnostic =
        (!routed.is_empty()).then(|| Diagnostic { key: key(), message: message(quote(&routed)) });
    diagnostic.into_iter().collect()
}

async fn is_routed(neighbours: &Neighbours, address: IpAddr) -> bool {
    let check = neighbours.check(SocketAddr::new(address, 0), Ipv4Addr::UNSPECIFIED.into()).await;
    matches!(check, NeighbourCheck::Routed { .. } | NeighbourCheck::Redirected { .. })
}

/// The network to suggest for a machine: the usual size of a link.
fn network_of(address: IpAddr) -> IpNet {
    let prefix = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new(address, prefix).map_or_else(|_| address.into(), |network| network.trunc())
}

/// The networks as in the configuration file.
fn quote(networks: &BTreeSet<IpNet>) -> String {
    let quoted: Vec<_> = networks.iter().map(|network| format!("\"{network}\"")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn suggested_network_is_the_link() {
        for (address, network) in [("10.98.0.7", "10.98.0.0/24"), ("fd00:98::7", "fd00:98::/64")] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(network_of(address).to_string(), network);
        }
    }

    #[tokio::test]
    async fn default_networks_and_named_ones_cause_no_warning() {
        for text in [
            "",
            "[http]\nallow = [\"10.0.0.0/8\", \"127.0.0.0/16\", \"0.0.0.0/0\"]",
            "[http]\nallow = [\"198.51.100.0/24\"]\n[boot]\nrouted_networks = [\"198.51.100.0/25\"]",
        ] {
            let config = Config::parse(text).expect("is valid");
            assert_eq!(find_unnamed_networks(&config).await, [], "{text}");
        }
    }
}
