//! [`NeighbourCheck`]: where a requester is, by the kernel's tables; and [`RequesterFault`]: why it gets nothing.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Mac;

/// The place of a requester, by the kernel's routing table and neighbour table. The requester cannot forge it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NeighbourCheck {
    /// The requester is on this host, or the answer is previewed.
    #[default]
    Unchecked,
    /// The requester is on an attached network, and the neighbour table has an entry.
    Entry {
        /// The requester's MAC address.
        mac: Mac,
        /// The requester's IP address.
        address: IpAddr,
    },
    /// The requester is on an attached network, and the neighbour table has no valid entry.
    NoEntry {
        /// The requester's IP address.
        address: IpAddr,
    },
    /// The requester is behind a router, or on a link without MAC addresses, such as a tunnel.
    Routed {
        /// The requester's IP address.
        address: IpAddr,
    },
    /// The requester is behind a router that no configured route names: an ICMP redirect changed the route.
    Redirected {
        /// The requester's IP address.
        address: IpAddr,
        /// The router that the redirect named.
        gateway: Option<IpAddr>,
    },
    /// A proxy on this host that `[http] trusted_proxies` does not name sent the request.
    Proxied {
        /// The proxy's IP address.
        address: IpAddr,
    },
    /// The tables were not read; with the reason.
    Inconclusive(String),
}

impl NeighbourCheck {
    /// The MAC address of the neighbour table's entry.
    pub fn mac(&self) -> Option<Mac> {
        match self {
            Self::Entry { mac, .. } => Some(*mac),
            Self::Unchecked
            | Self::NoEntry { .. }
            | Self::Routed { .. }
            | Self::Redirected { .. }
            | Self::Proxied { .. }
            | Self::Inconclusive(_) => None,
        }
    }
}

/// The reason why a requester gets no volume, and why its report does not count. The text is a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequesterFault {
    /// The neighbour table shows a network card that is not the node's.
    OtherCard {
        /// The card.
        mac: Mac,
        /// The requester's IP address.
        address: IpAddr,
    },
    /// The neighbour table shows no card.
    NoEntry {
        /// The requester's IP address.
        address: IpAddr,
    },
    /// The requester is behind a router, in a network that `[boot] routed_networks` does not name.
    Routed {
        /// The requester's IP address.
        address: IpAddr,
    },
    /// The requester is behind a router, and the neighbour table shows or showed the node's card on an attached network.
    AttachedCard(CardSighting),
    /// An ICMP redirect changed the route to the requester.
    Redirected {
        /// The requester's IP address.
        address: IpAddr,
    },
    /// An unknown proxy sent the request.
    Proxied {
        /// The proxy's IP address.
        address: IpAddr,
    },
    /// The kernel's tables were not read; with the reason.
    Inconclusive(String),
}

/// A network card that the neighbour table showed on an attached network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardSighting {
    /// The card.
    pub mac: Mac,
    /// When the table last showed it.
    pub at: Timestamp,
}

impl RequesterFault {
    /// Whether the place of the requester is unclear. A later request may succeed.
    pub fn is_unclear(&self) -> bool {
        match self {
            Self::NoEntry { .. } | Self::Redirected { .. } | Self::Inconclusive(_) => true,
            Self::OtherCard { .. } | Self::Routed { .. } | Self::AttachedCard(_) | Self::Proxied { .. } => {
                false
            }
        }
    }

    /// The label in metrics.
    pub fn as_label(&self) -> &'static str {
        match self {
            Self::OtherCard { .. } => "other_card",
            Self::NoEntry { .. } => "no_entry",
            Self::Routed { .. } => "routed",
            Self::AttachedCard(_) => "attached_card",
            Self::Redirected { .. } => "redirected",
            Self::Proxied { .. } => "proxied",
            Self::Inconclusive(_) => "inconclusive",
        }
    }
}

impl fmt::Display for RequesterFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherCard { mac, address } => write!(
                f,
                "no port has the address {mac}, which the neighbour table shows for {address} ([boot] verify_mac)"
            ),
            Self::NoEntry { address } => write!(f, "the neighbour table has no entry for {address} yet"),
            Self::Routed { address } => write!(
                f,
                "{address} is behind a router, and no network in [boot] routed_networks contains it"
            ),
            Self::AttachedCard(CardSighting { mac, at }) => write!(
                f,
                "the neighbour table showed card {mac} on an attached network, last at {at:.0}; \
                 requests by way of a router are refused; if the machine has moved, change its port"
            ),
            Self::Redirected { address } => write!(
                f,
                "an ICMP redirect changed the route to {address}; set accept_redirects to 0 on volboot's host"
            ),
            Self::Proxied { address } => write!(
                f,
                "the request came through a proxy at {address}, which [http] trusted_proxies does not name"
            ),
            Self::Inconclusive(reason) => f.write_str(reason),
        }
    }
}
