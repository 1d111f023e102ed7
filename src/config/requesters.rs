//! `[boot]`: the requesters that get volumes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::read::Section;

/// `[boot]`: the requesters that get volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequesterPolicy {
    /// `verify_mac`: the neighbour check. With `neighbour`, a requester on an attached network must have a MAC
    /// address of its node; with `off`, its claim is trusted.
    pub verify_mac: bool,
    /// `routed_networks`: the networks behind routers whose machines get volumes.
    pub routed_networks: Vec<IpNet>,
}

impl Default for RequesterPolicy {
    fn default() -> Self {
        Self { verify_mac: true, routed_networks: Vec::new() }
    }
}

impl RequesterPolicy {
    pub(super) fn from_section(section: &mut Section) -> Self {
        let default = Self::default();
        Self {
            verify_mac: section.choice(
                "verify_mac",
                default.verify_mac,
                &[("neighbour", true), ("off", false)],
            ),
            routed_networks: section.list("routed_networks", default.routed_networks, parse_network),
        }
    }

    /// Whether `routed_networks` contains the address.
    pub fn names(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.routed_networks.iter().any(|network| network.contains(&address))
    }
}

/// Parses a network, or a single address.
pub(super) fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| "expected a network such as 10.0.0.0/8".to_owned())
}

/// The default of `[http] allow`: private, link-local and loopback networks (RFC 1918, 3927, 4193, 4291). A script
/// may hold a secret, so other networks need the operator's permission.
pub(super) fn default_networks() -> Vec<IpNet> {
    let networks = [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "fc00::/7",
        "fe80::/10",
        "::1/128",
    ];
    networks.into_iter().filter_map(|network| network.parse().ok()).collect()
}
