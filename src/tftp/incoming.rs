//! A request on its way into the table, and the port that sends its response.

use std::net::{IpAddr, SocketAddr};

use super::transfer_id::TransferId;

/// A request packet and the route by which it arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct IncomingRequest<'a> {
    pub(super) client: SocketAddr,
    /// The server's address that the client used.
    pub(super) local_ip: Option<IpAddr>,
    /// The kernel uses `local_ip` as source address by default; setting the source address costs time.
    pub(super) is_default_source: bool,
    /// MTU of the interface on which it arrived.
    pub(super) mtu: Option<u32>,
    pub(super) packet: &'a [u8],
}

impl IncomingRequest<'_> {
    /// Port 0 is unreachable, and RFC 1123 §4.2.3.5 forbids responses to broadcasts.
    pub(super) fn may_be_answered(&self) -> bool {
        self.client.port() != 0 && !self.local_ip.is_some_and(is_broadcast_or_multicast)
    }
}

/// The port that sends the response to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponsePort {
    /// The port of a transfer.
    Transfer(TransferId),
    /// The port that received the request: a rejection, or no response.
    Request,
    /// Any other port: a rejection that must not look like a packet of the client's transfer.
    Other,
}

fn is_broadcast_or_multicast(local_ip: IpAddr) -> bool {
    match local_ip {
        IpAddr::V4(local_ip) => local_ip.is_broadcast() || local_ip.is_multicast(),
        IpAddr::V6(local_ip) => local_ip.is_multicast(),
    }
}
