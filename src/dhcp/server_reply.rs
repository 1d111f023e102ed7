//! [`ServerReply`]: the reply of another DHCP server to a client, read from an IPv4 packet.
//!
//! The packet comes from a packet socket, with the headers of IP and UDP and with any content. A packet that is no such reply
//! reads as `None`. Checksums are not verified: a network card may leave them to the receiver.

use std::net::Ipv4Addr;

use dhcproto::v4::borrowed::Message;
use dhcproto::v4::{HType, MessageType, Opcode, OptionCode};

use super::ports::{CLIENT_PORT, SERVER_PORT};
use super::{HTTP_CLIENT, PXE_CLIENT, ReplyKind};

/// The length of an IPv4 header without options (RFC 791, §3.1).
const MIN_IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// The protocol number of UDP.
const UDP: u8 = 17;
/// The bits of flags and fragment offset that a fragment has.
const FRAGMENT: u16 = 0x3fff;
/// Option 52: the `file` field has options.
const OVERLOADED_FILE: u8 = 1;
/// Most bytes of a file name.
const MAX_FILE: usize = 254;

/// The fields and options of a reply that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerReply {
    pub(super) xid: u32,
    pub(super) mac: [u8; 6],
    pub(super) kind: ReplyKind,
    /// Option 54; without it, the sender.
    pub(super) server: Ipv4Addr,
    /// The boot file, of option 67 or the `file` field.
    pub(super) file: Option<String>,
}

impl ServerReply {
    /// Reads a reply to a client with an Ethernet address.
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let (sender, payload) = read_udp(packet)?;
        let message = Message::new(payload).ok()?;
        let is_ethernet = message.htype() == HType::Eth && message.hlen() == 6;
        if message.opcode() != Opcode::BootReply || !is_ethernet {
            return None;
        }
        let (mut message_type, mut is_boot_server, mut is_overloaded) = (None, false, false);
        let (mut server, mut file) = (sender, None);
        for option in message.opts() {
            match (option.code(), option.data()) {
                (OptionCode::MessageType, [code]) => message_type = Some(MessageType::from(*code)),
                (OptionCode::ClassIdentifier, class) => {
                    is_boot_server =
                        [PXE_CLIENT, HTTP_CLIENT].iter().any(|name| class.starts_with(name.as_bytes()));
                }
                (OptionCode::ServerIdentifier, [a, b, c, d]) => server = Ipv4Addr::new(*a, *b, *c, *d),
                (OptionCode::BootfileName, name) => file = read_name(name),
                (OptionCode::OptionOverload, [bits]) => is_overloaded = bits & OVERLOADED_FILE != 0,
                _ => {}
            }
        }
        let address = Some(message.yiaddr()).filter(|address| !address.is_unspecified());
        let kind = match (message_type?, address) {
            (MessageType::Offer, Some(address)) => ReplyKind::Offer(address),
            (MessageType::Offer, None) if is_boot_server => ReplyKind::ProxyOffer,
            (MessageType::Ack, Some(address)) => ReplyKind::Ack(address),
            (MessageType::Nak, _) => ReplyKind::Nak,
            _ => return None,
        };
        let in_field = || if is_overloaded { None } else { read_name(message.fname()) };
        let mac = message.chaddr().try_into().ok()?;
        Some(Self { xid: message.xid(), mac, kind, server, file: file.or_else(in_field) })
    }
}

/// The sender and the payload of a datagram from a DHCP server to a client.
fn read_udp(packet: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let header: &[u8; MIN_IP_HEADER] = packet.first_chunk()?;
    let header_length = usize::from(header[0] & 0xf) * 4;
    let total_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT != 0;
    if header[0] >> 4 != 4 || header_length < MIN_IP_HEADER || header[9] != UDP || is_fragment {
        return None;
    }
    // Short frames are padded.
    let datagram = packet.get(..total_length)?.get(header_length..)?;
    let (udp, payload) = datagram.split_first_chunk::<UDP_HEADER>()?;
    let [from, to, length] = [0, 2, 4].map(|at| u16::from_be_bytes([udp[at], udp[at + 1]]));
    let payload = payload.get(..usize::from(length).checked_sub(UDP_HEADER)?)?;
    let sender = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    ((from, to) == (SERVER_PORT, CLIENT_PORT)).then_some((sender, payload))
}

/// A name up to its first byte that is no printable ASCII character.
fn read_name(bytes: &[u8]) -> Option<String> {
    let name: String = bytes
        .iter()
        .take(MAX_FILE)
        .take_while(|byte| byte.is_ascii_graphic())
        .map(|byte| char::from(*byte))
        .collect();
    (!name.is_empty()).then_some(name)
}
