//! The neighbour check: finds the place of a requester in the network, and its MAC address there, in the kernel's tables
//! ([rtnetlink(7)], `RTM_GETROUTE` and `RTM_GETNEIGH`).
//!
//! The MAC address in a URL is a claim. The one in the neighbour table has answered ARP or neighbour discovery
//! recently; without it, the connection would not exist. The table covers attached networks only. A requester beyond a
//! router, or on a link without MAC addresses, has no entry: [`mod@route`] recognizes it.
//!
//! Two small netlink requests per machine suffice: the route, then the entry. The table is dumped only for requesters
//! beyond a router ([`mod@sightings`]), at most once a second.
//!
//! [rtnetlink(7)]: https://man7.org/linux/man-pages/man7/rtnetlink.7.html

mod faults;
mod netlink;
mod presence;
mod route;
mod sightings;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::model::{CardSighting, Mac, NeighbourCheck};
use faults::FaultPacer;
use netlink::{Netlink, NetlinkError};
pub use presence::Presence;
use route::{Place, RouteFacts, classify};
use sightings::Sightings;

/// Time-out for the netlink requests. The kernel needs microseconds, but a busy host schedules the reader late.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Client for the kernel's neighbour table. Cheap to clone: clones share the socket and the sightings.
#[derive(Debug, Clone, Default)]
pub struct Neighbours(Arc<Tables>);

#[derive(Debug, Default)]
struct Tables {
    netlink: Netlink,
    sightings: Sightings,
    faults: FaultPacer,
    /// The result of every check, for tests.
    fixed: Option<NeighbourCheck>,
}

impl Neighbours {
    /// A client whose every check has this result, for tests without a network.
    pub fn fixed(check: NeighbourCheck) -> Self {
        Self(Arc::new(Tables { fixed: Some(check), ..Tables::default() }))
    }

    /// Finds the place of `remote`, for responses from the address `local`.
    pub async fn check(&self, remote: SocketAddr, local: IpAddr) -> NeighbourCheck {
        if let Some(check) = &self.0.fixed {
            return check.clone();
        }
        let address = remote.ip().to_canonical();
        if address.is_loopback() {
            return NeighbourCheck::Unchecked;
        }
        match tokio::time::timeout(TIMEOUT, self.find_entry(remote, local.to_canonical())).await {
            Ok(Ok(check)) => check,
            Ok(Err(error)) => NeighbourCheck::Inconclusive(self.handle_fault(error)),
            Err(_) => NeighbourCheck::Inconclusive(self.handle_fault(time_out())),
        }
    }

    /// The latest sighting of one of these cards on an attached network: in the table now, or at an earlier request.
    pub async fn find_sighting(&self, cards: &[Mac]) -> Result<Option<CardSighting>, String> {
        match tokio::time::timeout(TIMEOUT, self.0.sightings.find(cards, &self.0.netlink)).await {
            Ok(Ok(sighting)) => Ok(sighting),
            Ok(Err(error)) => Err(self.handle_fault(error)),
            Err(_) => Err(self.handle_fault(time_out())),
        }
    }

    /// Logs an error of the tables, and reopens a failed socket; both at most once a second, as requests cause the
    /// checks. Returns the reason.
    fn handle_fault(&self, error: NetlinkError) -> String {
        let reason = format!("the neighbour table cannot be read: {error}");
        if let Some(suppressed) = self.0.faults.check(Instant::now()) {
            tracing::error!(%error, suppressed, "cannot read the neighbour table");
            if matches!(error, NetlinkError::Socket(_)) {
                self.0.netlink.reset();
            }
        }
        reason
    }

    /// Notes that the neighbour table showed a node's card on an attached network.
    pub fn note_sighting(&self, sighting: CardSighting) {
        self.0.sightings.note(sighting);
    }

    async fn find_entry(&self, remote: SocketAddr, local: IpAddr) -> Result<NeighbourCheck, NetlinkError> {
        let address = remote.ip().to_canonical();
        let link = match remote {
            // A link-local address belongs to a link, and has no route.
            SocketAddr::V6(remote) if remote.scope_id() != 0 => remote.scope_id(),
            SocketAddr::V4(_) | SocketAddr::V6(_) => match self.find_place(address, local).await? {
                Place::Host => return Ok(NeighbourCheck::Unchecked),
                Place::Routed => return Ok(NeighbourCheck::Routed { address }),
                Place::Redirected(gateway) => return Ok(NeighbourCheck::Redirected { address, gateway }),
                Place::Unreachable => {
                    return Ok(NeighbourCheck::Inconclusive(format!("there is no route to {address}")));
                }
                Place::Attached(link) => link,
            },
        };
        match self.find_mac(link, address).await? {
            Some(mac) => Ok(NeighbourCheck::Entry { mac, address }),
            None if self.lacks_mac_addresses(link).await? => Ok(NeighbourCheck::Routed { address }),
            None => Ok(NeighbourCheck::NoEntry { address }),
        }
    }

    /// Finds the place of an address by its route.
    async fn find_place(&self, address: IpAddr, local: IpAddr) -> Result<Place, NetlinkError> {
        // The local address of a proxied request is this host's, not one that reaches the client.
        let source = (!local.is_unspecified() && !local.is_loopback()).then_some(local);
        let Some(taken) = self.find_route(address, source, RouteFlags::empty()).await? else {
            return Ok(Place::Unreachable);
        };
        let configured = if taken.has_gateway() {
            self.find_route(address, source, RouteFlags::FibMatch).await?
        } else {
            None
        };
        Ok(classify(&taken, &configured.unwrap_or_default()))
    }

    /// Finds the route to an address; `None` if no packet reaches the address, whoever claims to send from there.
    async fn find_route(
        &self,
        address: IpAddr,
        source: Option<IpAddr>,
        flags: RouteFlags,
    ) -> Result<Option<RouteFacts>, NetlinkError> {
        let mut request = RouteMessage::default();
        request.header.address_family = family(address);
        request.header.destination_prefix_length = full_prefix_length(address);
        request.header.flags = flags;
        request.attributes.push(RouteAttribute::Destination(address.into()));
        if let Some(source) = source {
            request.header.source_prefix_length = full_prefix_length(address);
            request.attributes.push(RouteAttribute::Source(source.into()));
        }
        match self.0.netlink.send(RouteNetlinkMessage::GetRoute(request)).await {
            Ok(Some(RouteNetlinkMessage::NewRoute(route))) => Ok(Some(RouteFacts::from(&route))),
            Ok(_) => Ok(None),
            Err(error) if error.is_no_route() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the MAC address of one neighbour entry.
    async fn find_mac(&self, link: u32, address: IpAddr) -> Result<Option<Mac>, NetlinkError> {
        Ok(self.read_entry(link, address).await?.as_ref().and_then(mac_of_entry))
    }

    /// Reads the state of one neighbour entry; `None`: there is none.
    async fn find_state(&self, link: u32, address: IpAddr) -> Result<Option<NeighbourState>, NetlinkError> {
        Ok(self.read_entry(link, address).await?.map(|entry| entry.header.state))
    }

    async fn read_entry(&self, link: u32, address: IpAddr) -> Result<Option<NeighbourMessage>, NetlinkError> {
        let mut request = NeighbourMessage::default();
        request.header.family = family(address);
        request.header.ifindex = link;
        request.attributes.push(NeighbourAttribute::Destination(match address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        }));
        let response = self.0.netlink.send(RouteNetlinkMessage::GetNeighbour(request)).await?;
        let Some(RouteNetlinkMessage::NewNeighbour(entry)) = response else { return Ok(None) };
        Ok(Some(entry))
    }

    /// Whether hosts on the link have no MAC addresses, as on a tunnel.
    async fn lacks_mac_addresses(&self, link: u32) -> Result<bool, NetlinkError> {
        let mut request = LinkMessage::default();
        request.header.index = link;
        match self.0.netlink.send(RouteNetlinkMessage::GetLink(request)).await? {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(link.header.flags.contains(LinkFlags::Noarp)),
            _ => Ok(false),
        }
    }
}

fn time_out() -> NetlinkError {
    NetlinkError::Socket("time-out".to_owned())
}

/// The MAC address of a neighbour entry: for an InfiniBand card, the one derived from its GUID. An incomplete or failed
/// entry has none. An entry of a link without ARP has the link's own (Linux, `arp_constructor`), which does not count.
fn mac_of_entry(entry: &NeighbourMessage) -> Option<Mac> {
    if entry.header.state == NeighbourState::Noarp {
        return None;
    }
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::from_hardware_address(bytes),
        _ => None,
    })
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The prefix length of a single address.
fn full_prefix_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_is_unchecked() {
        let neighbours = Neighbours::default();
        for (remote, local) in
            [("127.0.0.1:1", "127.0.0.1"), ("[::1]:1", "::1"), ("[::ffff:127.0.0.9]:1", "::1")]
        {
            let (remote, local) = (remote.parse().expect("an address"), local.parse().expect("an address"));
            assert_eq!(neighbours.check(remote, local).await, NeighbourCheck::Unchecked, "{remote}");
        }
    }

    /// Local addresses are looked up as if they were remote ones; the kernel identifies them as local.
    #[tokio::test]
    async fn kernel_reports_local_addresses_as_unchecked() {
        let neighbours = Neighbours::default();
        let local = "127.0.0.1".parse().expect("an address");
        let check = neighbours.find_entry("127.0.0.5:1".parse().expect("an address"), local).await;
        assert_eq!(check.expect("the table is readable"), NeighbourCheck::Unchecked);
        // Link 1 is loopback, which has no MAC addresses.
        assert_eq!(neighbours.find_mac(1, local).await.expect("the table is readable"), None);
        let lacks_mac_addresses = neighbours.lacks_mac_addresses(1).await.expect("the table is readable");
        assert!(!lacks_mac_addresses, "loopback has no flag NOARP");
        let unspecified = "0.0.0.0".parse().expect("an address");
        let place = neighbours.find_place(local, unspecified).await;
        assert_eq!(place.expect("the table is readable"), Place::Host);
    }

    /// The kernel has no route for packets from an address of another host.
    #[tokio::test]
    async fn missing_route_is_a_result_and_not_a_fault() {
        let neighbours = Neighbours::default();
        let (remote, foreign) = ("192.0.2.7:1", "192.0.2.1".parse().expect("an address"));
        let check = neighbours.check(remote.parse().expect("an address"), foreign).await;
        let reason = "there is no route to 192.0.2.7";
        assert_eq!(check, NeighbourCheck::Inconclusive(reason.into()));
        assert_eq!(neighbours.0.faults.check(Instant::now()), Some(0), "a fault was logged");
    }

    #[test]
    fn entry_of_an_infiniband_card_has_the_ethernet_form_of_its_guid() {
        let mac_of = |bytes: &[u8]| {
            let mut entry = NeighbourMessage::default();
            entry.attributes.push(NeighbourAttribute::LinkLayerAddress(bytes.to_vec()));
            mac_of_entry(&entry)
        };
        let infiniband = [
            0x80, 0, 2, 8, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, // flags, queue pair, subnet prefix
            0x7c, 0xfe, 0x90, 3, 0, 0x29, 0x26, 0x52,
        ];
        assert_eq!(mac_of(&infiniband), Some(Mac::new([0x7c, 0xfe, 0x90, 0x29, 0x26, 0x52])));
        assert_eq!(mac_of(&[0x52, 0x54, 0, 0, 0, 1]), Some(Mac::new([0x52, 0x54, 0, 0, 0, 1])));
        assert_eq!(mac_of(&[192, 0, 2, 1]), None, "a tunnel");
        let mut own = NeighbourMessage::default();
        own.header.state = NeighbourState::Noarp;
        own.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![0x52, 0x54, 0, 0, 0, 1]));
        assert_eq!(mac_of_entry(&own), None, "the link's own address");
    }
}
