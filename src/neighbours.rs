//! Whose network card has an address, as the kernel's neighbour table says ([rtnetlink(7)], `RTM_GETNEIGH`).
//!
//! A MAC address in a URL is a claim; the one in the neighbour table answered ARP or neighbour discovery a moment ago,
//! or the connection would not be. That holds on an attached network only: what is beyond a router, on this host, or
//! on a link without such addresses has none, and nothing can be said of it.
//!
//! Two small questions for each machine: the route to it, then the one entry. The table is never read as a whole.
//!
//! [rtnetlink(7)]: https://man7.org/linux/man-pages/man7/rtnetlink.7.html

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, new_connection};

use crate::model::{Mac, Seen};

/// How long the kernel may take. It needs microseconds; a busy host is slower to hand out what it said.
const DEADLINE: Duration = Duration::from_secs(2);

/// Asks the kernel. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Neighbours(Arc<Mutex<Option<Handle>>>);

impl Neighbours {
    /// Which card has the address `remote`, to which the answer goes from `local`.
    pub async fn seen(&self, remote: SocketAddr, local: IpAddr) -> Seen {
        let at = remote.ip().to_canonical();
        if at.is_loopback() {
            return Seen::Nothing;
        }
        match tokio::time::timeout(DEADLINE, self.look(remote, local.to_canonical())).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => {
                tracing::error!(remote = %at, error, "the neighbour table cannot be read");
                self.forget();
                Seen::Unclear(format!("the network cards of this network cannot be seen: {error}"))
            }
            Err(_) => {
                tracing::error!(remote = %at, "the neighbour table was not read in time");
                self.forget();
                Seen::Unclear("the network cards of this network were not seen in time".into())
            }
        }
    }

    async fn look(&self, remote: SocketAddr, local: IpAddr) -> Result<Seen, String> {
        let at = remote.ip().to_canonical();
        let scope = match remote {
            // A link-local address is one of a link, and needs no route.
            SocketAddr::V6(remote) if remote.scope_id() != 0 => Some(remote.scope_id()),
            _ => None,
        };
        let link = match scope {
            Some(link) => link,
            None => match self.link_to(at, local).await? {
                Some(link) => link,
                None => return Ok(Seen::Nothing),
            },
        };
        match self.card(link, at).await? {
            Some(mac) => Ok(Seen::Card { mac, at }),
            None if self.has_no_cards(link).await? => Ok(Seen::Nothing),
            None => Ok(Seen::Unclear(format!("the network shows no card for the address {at} yet"))),
        }
    }

    /// The link that an attached address is on; none if there is a router in between, or it is our own.
    async fn link_to(&self, at: IpAddr, local: IpAddr) -> Result<Option<u32>, String> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(at);
        question.header.destination_prefix_length = whole(at);
        question.header.source_prefix_length = whole(at);
        question.attributes.push(RouteAttribute::Destination(at.into()));
        question.attributes.push(RouteAttribute::Source(local.into()));
        let answer = self.ask(RouteNetlinkMessage::GetRoute(question)).await?;
        let Some(RouteNetlinkMessage::NewRoute(route)) = answer else {
            return Err(format!("no route to {at}"));
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

    async fn card(&self, link: u32, at: IpAddr) -> Result<Option<Mac>, String> {
        let mut question = NeighbourMessage::default();
        question.header.family = family(at);
        question.header.ifindex = link;
        question.attributes.push(NeighbourAttribute::Destination(match at {
            IpAddr::V4(at) => NeighbourAddress::Inet(at),
            IpAddr::V6(at) => NeighbourAddress::Inet6(at),
        }));
        let answer = self.ask(RouteNetlinkMessage::GetNeighbour(question)).await?;
        let Some(RouteNetlinkMessage::NewNeighbour(entry)) = answer else { return Ok(None) };
        // An entry that is incomplete or has failed has no address.
        Ok(entry.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac::new)
            }
            _ => None,
        }))
    }

    /// Whether a link is of a kind on which hosts have no such addresses: a tunnel, say.
    async fn has_no_cards(&self, link: u32) -> Result<bool, String> {
        let mut question = LinkMessage::default();
        question.header.index = link;
        match self.ask(RouteNetlinkMessage::GetLink(question)).await? {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(link.header.flags.contains(LinkFlags::Noarp)),
            _ => Ok(false),
        }
    }

    /// The kernel's answer; none if there is no such thing.
    async fn ask(&self, question: RouteNetlinkMessage) -> Result<Option<RouteNetlinkMessage>, String> {
        let mut question = NetlinkMessage::from(question);
        question.header.flags = NLM_F_REQUEST;
        let mut answers = self.handle()?.request(question).map_err(|error| error.to_string())?;
        match answers.next().await.map(|answer| answer.payload) {
            Some(NetlinkPayload::InnerMessage(answer)) => Ok(Some(answer)),
            Some(NetlinkPayload::Error(error)) => {
                let error = error.to_io();
                if error.kind() == std::io::ErrorKind::NotFound { Ok(None) } else { Err(error.to_string()) }
            }
            _ => Err("the kernel gave no answer".into()),
        }
    }

    fn handle(&self) -> Result<Handle, String> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = &*open {
            return Ok(handle.clone());
        }
        let (connection, handle, _) = new_connection().map_err(|error| error.to_string())?;
        // It ends when the last handle is dropped.
        tokio::spawn(connection);
        Ok(open.insert(handle).clone())
    }

    /// The next question is asked on a new socket.
    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The length of a prefix that is a whole address.
fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn on_this_host_there_is_nothing_to_see() {
        let neighbours = Neighbours::default();
        for (remote, local) in
            [("127.0.0.1:1", "127.0.0.1"), ("[::1]:1", "::1"), ("[::ffff:127.0.0.9]:1", "::1")]
        {
            let (remote, local) = (remote.parse().expect("an address"), local.parse().expect("an address"));
            assert_eq!(neighbours.seen(remote, local).await, Seen::Nothing, "{remote}");
        }
    }

    /// Loopback's own addresses are asked about as if they were others': the kernel knows better.
    #[tokio::test]
    async fn the_kernel_is_asked() {
        let neighbours = Neighbours::default();
        let local = "127.0.0.1".parse().expect("an address");
        assert_eq!(
            neighbours.look("127.0.0.5:1".parse().expect("an address"), local).await,
            Ok(Seen::Nothing)
        );
        // Link 1 is loopback, which has no cards.
        assert_eq!(neighbours.card(1, local).await, Ok(None));
        let unspecified = "0.0.0.0".parse().expect("an address");
        assert_eq!(neighbours.link_to(local, unspecified).await, Ok(None));
    }
}
