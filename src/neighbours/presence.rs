//! Whether a machine still answers on an attached network, asked of the kernel.
//!
//! A datagram to the machine makes the kernel verify its neighbour entry, by ARP or neighbour discovery. A running system
//! answers both, even with a firewall of its own. The state of the entry tells the result within seconds
//! ([RFC 4861], section 7.3.3; Linux uses the same states for ARP).
//!
//! [RFC 4861]: https://www.rfc-editor.org/rfc/rfc4861

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rtnetlink::packet_route::neighbour::NeighbourState;
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::Neighbours;
use super::netlink::NetlinkError;
use super::route::Place;

/// The discard port (RFC 863), on which hardly any system listens.
const PORT: u16 = 9;
/// How long the kernel needs at most: 5 s until it verifies an old entry, and three attempts of a second each. An entry
/// that was verified just before is no older than 45 s.
const LIMIT: Duration = Duration::from_secs(12);
/// The pause between two looks at the entry.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Whether a machine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has answered within the last 45 s, by the kernel's default.
    Answers,
    /// It does not answer.
    Silent,
    /// It is beyond a router, or the tables were not read.
    Unknown,
}

impl Neighbours {
    /// Finds whether the machine with this address answers.
    pub async fn find_presence(&self, address: IpAddr) -> Presence {
        let address = address.to_canonical();
        match tokio::time::timeout(LIMIT, self.ask(address)).await {
            Ok(Ok(presence)) => presence,
            Ok(Err(error)) => {
                self.handle_fault(error);
                Presence::Unknown
            }
            Err(_) => Presence::Unknown,
        }
    }

    async fn ask(&self, address: IpAddr) -> Result<Presence, NetlinkError> {
        let Place::Attached(link) = self.find_place(address, unspecified(address)).await? else {
            return Ok(Presence::Unknown);
        };
        if !send_datagram(address).await {
            return Ok(Presence::Unknown);
        }
        loop {
            if let Some(presence) = judge(self.find_state(link, address).await?) {
                return Ok(presence);
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

/// What an entry says after a datagram was sent; `None`: the kernel is still verifying it.
fn judge(state: Option<NeighbourState>) -> Option<Presence> {
    match state {
        Some(NeighbourState::Reachable) => Some(Presence::Answers),
        Some(NeighbourState::Failed) => Some(Presence::Silent),
        // Never verified: entries that an administrator made, and links without addresses. No entry: the table is full.
        Some(NeighbourState::Permanent | NeighbourState::Noarp) | None => Some(Presence::Unknown),
        Some(_) => None,
    }
}

/// Sends an empty datagram. Returns whether it has left.
async fn send_datagram(address: IpAddr) -> bool {
    match UdpSocket::bind((unspecified(address), 0)).await {
        Ok(socket) => socket.send_to(&[], (address, PORT)).await.is_ok(),
        Err(error) => {
            tracing::debug!(%error, "cannot open a socket to ask a machine");
            false
        }
    }
}

fn unspecified(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_an_entry_has_a_meaning() {
        use NeighbourState::{Delay, Failed, Incomplete, Noarp, Permanent, Probe, Reachable, Stale};
        for (state, expected) in [
            (Some(Reachable), Some(Presence::Answers)),
            (Some(Failed), Some(Presence::Silent)),
            (None, Some(Presence::Unknown)),
            (Some(Permanent), Some(Presence::Unknown)),
            (Some(Noarp), Some(Presence::Unknown)),
            (Some(Incomplete), None),
            (Some(Stale), None),
            (Some(Delay), None),
            (Some(Probe), None),
        ] {
            assert_eq!(judge(state), expected, "{state:?}");
        }
    }

    /// This host itself, and an address without a route, are on no attached network.
    #[tokio::test]
    async fn without_an_attached_network_nothing_is_known() {
        let neighbours = Neighbours::default();
        for address in ["127.0.0.1", "::1"] {
            let presence = neighbours.find_presence(address.parse().expect("an address")).await;
            assert_eq!(presence, Presence::Unknown, "{address}");
        }
    }
}
