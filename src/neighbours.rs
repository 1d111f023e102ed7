//! The neighbour check: looks up the MAC address of a requester in the kernel's neighbour table ([rtnetlink(7)],
//! `RTM_GETNEIGH`).
//!
//! The MAC address in a URL is a claim. The one in the neighbour table has answered ARP or neighbour discovery
//! recently; without it, the connection would not exist. The check works on an attached network only. A requester
//! beyond a router, on this host, or on a link without MAC addresses has no entry, and stays unchecked.
//!
//! Two small netlink requests per machine suffice: the route, then the entry. The table is never dumped.
//!
//! [rtnetlink(7)]: https://man7.org/linux/man-pages/man7/rtnetlink.7.html

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, new_connection};

use crate::model::{Mac, NeighbourCheck};

/// Time-out for the netlink requests. The kernel needs microseconds, but a busy host schedules the reader late.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Client for the kernel's neighbour table. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Neighbours(Arc<Mutex<Option<Handle>>>);

impl Neighbours {
    /// Looks up the neighbour entry of `remote`, for responses from the address `local`.
    pub async fn check(&self, remote: SocketAddr, local: IpAddr) -> NeighbourCheck {
        let address = remote.ip().to_canonical();
        if address.is_loopback() {
            return NeighbourCheck::Unchecked;
        }
        match tokio::time::timeout(TIMEOUT, self.find_entry(remote, local.to_canonical())).await {
            Ok(Ok(check)) => check,
            Ok(Err(error)) => {
                tracing::error!(remote = %address, error, "cannot read the neighbour table");
                self.reset();
                NeighbourCheck::Inconclusive(format!("the neighbour table cannot be read: {error}"))
            }
            Err(_) => {
                tracing::error!(remote = %address, "cannot read the neighbour table: time-out");
                self.reset();
                NeighbourCheck::Inconclusive("reading the neighbour table timed out".into())
            }
        }
    }

    async fn find_entry(&self, remote: SocketAddr, local: IpAddr) -> Result<NeighbourCheck, String> {
        let address = remote.ip().to_canonical();
        let scope = match remote {
            // A link-local address belongs to a link, and has no route.
            SocketAddr::V6(remote) if remote.scope_id() != 0 => Some(remote.scope_id()),
            _ => None,
        };
        let link = match scope {
            Some(link) => link,
            None => match self.find_link(address, local).await? {
                Some(link) => link,
                None => return Ok(NeighbourCheck::Unchecked),
            },
        };
        match self.find_mac(link, address).await? {
            Some(mac) => Ok(NeighbourCheck::Entry { mac, address }),
            None if self.lacks_mac_addresses(link).await? => Ok(NeighbourCheck::Unchecked),
            None => Ok(NeighbourCheck::Inconclusive(format!(
                "the neighbour table has no entry for {address} yet"
            ))),
        }
    }

    /// Finds the link of an attached address. `None` if the address is behind a router, or a local one.
    async fn find_link(&self, address: IpAddr, local: IpAddr) -> Result<Option<u32>, String> {
        let mut request = RouteMessage::default();
        request.header.address_family = family(address);
        request.header.destination_prefix_length = full_prefix_length(address);
        request.header.source_prefix_length = full_prefix_length(address);
        request.attributes.push(RouteAttribute::Destination(address.into()));
        request.attributes.push(RouteAttribute::Source(local.into()));
        let response = self.send(RouteNetlinkMessage::GetRoute(request)).await?;
        let Some(RouteNetlinkMessage::NewRoute(route)) = response else {
            return Err(format!("no route to {address}"));
        };
        let routed = route.attributes.iter().any(|attribute| {
            matches!(
                attribute,
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_)
            )
        });
        if routed || route.header.kind != RouteType::Unicast {
            return Ok(None);
        }
        Ok(route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(link) => Some(*link),
            _ => None,
        }))
    }

    /// Reads the MAC address of one neighbour entry.
    async fn find_mac(&self, link: u32, address: IpAddr) -> Result<Option<Mac>, String> {
        let mut request = NeighbourMessage::default();
        request.header.family = family(address);
        request.header.ifindex = link;
        request.attributes.push(NeighbourAttribute::Destination(match address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        }));
        let response = self.send(RouteNetlinkMessage::GetNeighbour(request)).await?;
        let Some(RouteNetlinkMessage::NewNeighbour(entry)) = response else { return Ok(None) };
        Ok(mac_of_entry(&entry))
    }

    /// Whether hosts on the link have no MAC addresses, as on a tunnel.
    async fn lacks_mac_addresses(&self, link: u32) -> Result<bool, String> {
        let mut request = LinkMessage::default();
        request.header.index = link;
        match self.send(RouteNetlinkMessage::GetLink(request)).await? {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(link.header.flags.contains(LinkFlags::Noarp)),
            _ => Ok(false),
        }
    }

    /// Sends a netlink request, and returns the first response. `None` if the object does not exist.
    async fn send(&self, message: RouteNetlinkMessage) -> Result<Option<RouteNetlinkMessage>, String> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST;
        let mut responses = self.handle()?.request(request).map_err(|error| error.to_string())?;
        match responses.next().await.map(|response| response.payload) {
            Some(NetlinkPayload::InnerMessage(response)) => Ok(Some(response)),
            Some(NetlinkPayload::Error(error)) => {
                let error = error.to_io();
                if error.kind() == std::io::ErrorKind::NotFound { Ok(None) } else { Err(error.to_string()) }
            }
            _ => Err("the kernel sent no response".into()),
        }
    }

    /// Returns the open netlink handle, or opens one.
    fn handle(&self) -> Result<Handle, String> {
        let mut open = self.0.lock();
        if let Some(handle) = &*open {
            return Ok(handle.clone());
        }
        let (connection, handle, _) = new_connection().map_err(|error| error.to_string())?;
        // The task ends when the last handle is dropped.
        tokio::spawn(connection);
        Ok(open.insert(handle).clone())
    }

    /// Closes the socket; the next request opens a new one.
    fn reset(&self) {
        *self.0.lock() = None;
    }
}

/// The MAC address of a neighbour entry: for an InfiniBand card, the one derived from its GUID. An incomplete or failed
/// entry has none.
fn mac_of_entry(entry: &NeighbourMessage) -> Option<Mac> {
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
        assert_eq!(
            neighbours.find_entry("127.0.0.5:1".parse().expect("an address"), local).await,
            Ok(NeighbourCheck::Unchecked)
        );
        // Link 1 is loopback, which has no MAC addresses.
        assert_eq!(neighbours.find_mac(1, local).await, Ok(None));
        let unspecified = "0.0.0.0".parse().expect("an address");
        assert_eq!(neighbours.find_link(local, unspecified).await, Ok(None));
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
    }
}
