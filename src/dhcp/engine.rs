//! [`Engine`]: the decision on each datagram, without sockets and clocks.
//!
//! [`Engine::receive`] drops the datagram, observes it, or returns a [`PendingAnswer`]: a client for the policy to decide on.
//! [`PendingAnswer::complete`] takes the decision, and returns the [`Transmission`].

use std::mem::take;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use dhcproto::v4::MessageType;

use super::answer_limit::AnswerLimiter;
use super::offer::build_offer;
use super::ports::{BOOT_SERVER_PORT, CLIENT_PORT, SERVER_PORT};
use super::reply_watch::ReplyWatch;
use super::request::DhcpRequest;
use super::{ExchangeResult, NamedFile, NetbootClient, ObservedReply, RequestKind};

/// A received datagram with its metadata.
#[derive(Debug, Clone, Copy)]
pub(super) struct Datagram<'a> {
    pub(super) bytes: &'a [u8],
    /// The port of the server.
    pub(super) port: u16,
    pub(super) source: SocketAddrV4,
    /// The destination address in the packet: a broadcast, or one of the server's.
    pub(super) destination: Ipv4Addr,
    /// The server's address on the receiving interface.
    pub(super) local_ip: Ipv4Addr,
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transmission {
    pub(super) bytes: Vec<u8>,
    pub(super) destination: SocketAddrV4,
    pub(super) source_ip: Ipv4Addr,
    /// Whether a router may forward the datagram. Otherwise the destination is on the link.
    pub(super) is_routed: bool,
}

/// The next step for a datagram.
#[derive(Debug)]
pub(super) enum Disposition {
    /// Not a request of a network-boot client.
    Drop,
    /// A request without an answer.
    Observe(NetbootClient, RequestKind, ExchangeResult),
    /// A request for the policy to decide on.
    LookUp(Box<PendingAnswer>),
}

/// A request that waits for the policy's decision.
#[derive(Debug)]
pub(super) struct PendingAnswer {
    pub(super) client: NetbootClient,
    pub(super) kind: RequestKind,
    /// Without the fields that moved to `client`.
    request: DhcpRequest,
    request_length: usize,
    destination: SocketAddrV4,
}

/// Decides on datagrams.
#[derive(Debug)]
pub(super) struct Engine {
    limiter: AnswerLimiter,
    /// Present if replies of other servers are received.
    watch: Option<ReplyWatch>,
}

impl Engine {
    /// `watches_replies`: whether [`Engine::receive_reply`] gets the replies of other servers.
    pub(super) fn new(watches_replies: bool, now: Instant) -> Self {
        Self { limiter: AnswerLimiter::new(now), watch: watches_replies.then(ReplyWatch::default) }
    }

    /// Reads an IPv4 packet with the reply of another server; `None` unless it is for a machine that sent a request.
    pub(super) fn receive_reply(&mut self, packet: &[u8], now: Instant) -> Option<ObservedReply> {
        self.watch.as_mut()?.receive(packet, now)
    }

    /// Decides on a datagram. `serves_relay`: whether a relay is named.
    pub(super) fn receive(
        &mut self,
        datagram: &Datagram<'_>,
        serves_relay: impl Fn(Ipv4Addr) -> bool,
        now: Instant,
    ) -> Disposition {
        let Some(mut request) = DhcpRequest::parse(datagram.bytes) else { return Disposition::Drop };
        let Some(mut kind) = find_kind(&request, datagram) else { return Disposition::Drop };
        // The interface has no address yet.
        if datagram.local_ip.is_unspecified() {
            return Disposition::Drop;
        }
        let relay = request.relay();
        let client = NetbootClient {
            mac: request.mac,
            architectures: take(&mut request.architectures),
            vendor_class: take(&mut request.vendor_class),
            ipxe: request.ipxe.take(),
            relay,
            local_ip: datagram.local_ip,
        };
        if let (Some(watch), RequestKind::Discover { is_watched } | RequestKind::Request { is_watched, .. }) =
            (&mut self.watch, &mut kind)
        {
            *is_watched = watch.add(&client, request.xid, now);
        }
        if let RequestKind::Request { .. } = kind {
            return Disposition::Observe(client, kind, ExchangeResult::Observed);
        }
        if relay.is_some_and(|relay| !serves_relay(relay)) {
            return Disposition::Observe(client, kind, ExchangeResult::RelayNotNamed);
        }
        if !self.limiter.admit(request.mac, now) {
            return Disposition::Observe(client, kind, ExchangeResult::RateLimited);
        }
        let destination = match (kind, relay) {
            (RequestKind::BootServer { .. }, _) => datagram.source,
            (_, Some(relay)) => SocketAddrV4::new(relay, SERVER_PORT),
            (_, None) => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
        };
        let request_length = datagram.bytes.len();
        Disposition::LookUp(Box::new(PendingAnswer { client, kind, request, request_length, destination }))
    }
}

impl PendingAnswer {
    /// Builds the answer with the file of the policy's decision.
    pub(super) fn complete(&self, file: Option<NamedFile>) -> (ExchangeResult, Option<Transmission>) {
        let Some(file) = file else { return (ExchangeResult::Declined, None) };
        let offer = build_offer(&self.request, &self.client, &file);
        let Some(bytes) = offer.filter(|offer| offer.len() <= 2 * self.request_length) else {
            return (ExchangeResult::TooLong, None);
        };
        let is_routed = self.client.relay.is_some();
        let source_ip = self.client.local_ip;
        let transmission = Transmission { bytes, destination: self.destination, source_ip, is_routed };
        (ExchangeResult::Answered(file), Some(transmission))
    }
}

/// The kind of a request; `None` if a network-boot client does not send it in this way.
fn find_kind(request: &DhcpRequest, datagram: &Datagram<'_>) -> Option<RequestKind> {
    match (datagram.port, request.message_type) {
        (BOOT_SERVER_PORT, MessageType::Request | MessageType::Inform) => {
            let source = datagram.source;
            let is_client = [CLIENT_PORT, BOOT_SERVER_PORT].contains(&source.port());
            let is_host = !source.ip().is_unspecified() && !source.ip().is_broadcast();
            // A boot server is addressed directly.
            let is_direct = request.relay().is_none();
            (is_client && is_host && is_direct && !source.ip().is_multicast())
                .then_some(RequestKind::BootServer { address: *source.ip() })
        }
        // Without a relay, a client without an address can only broadcast. A unicast is from elsewhere.
        (SERVER_PORT, MessageType::Discover) => {
            let is_broadcast = datagram.destination != datagram.local_ip;
            (is_broadcast || request.relay().is_some()).then_some(RequestKind::Discover { is_watched: false })
        }
        (SERVER_PORT, MessageType::Request) => Some(RequestKind::Request {
            address: request
                .requested_ip
                .or(Some(request.ciaddr).filter(|address| !address.is_unspecified())),
            server: request.server,
            is_watched: false,
        }),
        _ => None,
    }
}
