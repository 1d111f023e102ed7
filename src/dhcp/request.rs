//! [`DhcpRequest`]: a request of a network-boot client, read from a datagram.
//!
//! A datagram that is no request of such a client reads as `None`: the kind of its fault interests nobody. A malformed
//! option hides none of the others, since firmware sends a few.
//!
//! Options in `sname` and `file` (option 52) are not read: clients use neither field.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use dhcproto::v4::borrowed::Message;
use dhcproto::v4::{HType, MessageType, Opcode, OptionCode};

use super::{HTTP_CLIENT, PXE_CLIENT};

/// The longest machine identifier (option 97) that is returned: type and UUID have 17 bytes.
const MAX_MACHINE_ID: usize = 17;
/// The longest relay information (option 82): what fits one option.
const MAX_RELAY_INFORMATION: usize = 255;
/// Most architectures of a list.
const MAX_ARCHITECTURES: usize = 16;
/// Most codes within option 175.
const MAX_IPXE_CODES: usize = 64;
/// The bytes of a vendor class that are kept: `PXEClient:Arch:xxxxx:UNDI:yyyzzz` has 32.
const MAX_VENDOR_CLASS: usize = 64;

/// The fields and options of a request that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DhcpRequest {
    pub(super) message_type: MessageType,
    pub(super) xid: u32,
    pub(super) flags: u16,
    pub(super) ciaddr: Ipv4Addr,
    pub(super) giaddr: Ipv4Addr,
    pub(super) mac: [u8; 6],
    /// Option 60, cut.
    pub(super) vendor_class: String,
    /// Option 93.
    pub(super) architectures: Vec<u16>,
    /// The codes within option 175.
    pub(super) ipxe: Option<Vec<u8>>,
    /// Option 97.
    pub(super) machine_id: Option<Vec<u8>>,
    /// Option 82.
    pub(super) relay_information: Option<Vec<u8>>,
    /// Option 50.
    pub(super) requested_ip: Option<Ipv4Addr>,
    /// Option 54.
    pub(super) server: Option<Ipv4Addr>,
}

impl DhcpRequest {
    /// Reads the request of a network-boot client with an Ethernet address.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let message = Message::new(bytes).ok()?;
        let is_ethernet = message.htype() == HType::Eth && message.hlen() == 6;
        if message.opcode() != Opcode::BootRequest || !is_ethernet {
            return None;
        }
        let mac: [u8; 6] = message.chaddr().try_into().ok()?;
        let is_unicast = mac[0] & 1 == 0 && mac != [0; 6];
        let mut message_type = None;
        let mut request = Self {
            message_type: MessageType::Unknown(0),
            xid: message.xid(),
            flags: message.flags().into(),
            ciaddr: message.ciaddr(),
            giaddr: message.giaddr(),
            mac,
            vendor_class: String::new(),
            architectures: Vec::new(),
            ipxe: None,
            machine_id: None,
            relay_information: None,
            requested_ip: None,
            server: None,
        };
        for option in message.opts() {
            let data = option.data();
            match option.code() {
                OptionCode::MessageType => message_type = read_message_type(data).or(message_type),
                OptionCode::ClassIdentifier => request.vendor_class = read_vendor_class(data),
                OptionCode::ClientSystemArchitecture => request.architectures = read_architectures(data),
                OptionCode::ClientMachineIdentifier if data.len() <= MAX_MACHINE_ID => {
                    request.machine_id = Some(data.to_vec());
                }
                OptionCode::RelayAgentInformation if data.len() <= MAX_RELAY_INFORMATION => {
                    request.relay_information = Some(data.to_vec());
                }
                OptionCode::RequestedIpAddress => request.requested_ip = read_address(data),
                OptionCode::ServerIdentifier => request.server = read_address(data),
                OptionCode::Unknown(175) => request.ipxe = Some(read_codes(data)),
                _ => {}
            }
        }
        request.message_type = message_type?;
        let class = &request.vendor_class;
        let is_netboot = class.starts_with(PXE_CLIENT) || class.starts_with(HTTP_CLIENT);
        (is_netboot && is_unicast).then_some(request)
    }

    /// The relay that forwarded the request.
    pub(super) fn relay(&self) -> Option<Ipv4Addr> {
        Some(self.giaddr).filter(|address| !address.is_unspecified())
    }
}

fn read_message_type(data: &[u8]) -> Option<MessageType> {
    let [code] = data else { return None };
    Some(MessageType::from(*code))
}

fn read_vendor_class(data: &[u8]) -> String {
    let end = data.len().min(MAX_VENDOR_CLASS);
    match String::from_utf8_lossy(data.get(..end).unwrap_or_default()) {
        Cow::Borrowed(text) => text.trim_end_matches('\0').to_owned(),
        // Firmware appends bytes that are no text.
        Cow::Owned(text) => text.split('\u{fffd}').next().unwrap_or_default().to_owned(),
    }
}

/// A list of 16-bit codes; an odd last byte is dropped.
fn read_architectures(data: &[u8]) -> Vec<u16> {
    let codes = data.as_chunks().0.iter().map(|code| u16::from_be_bytes(*code));
    codes.take(MAX_ARCHITECTURES).collect()
}

fn read_address(data: &[u8]) -> Option<Ipv4Addr> {
    let address: [u8; 4] = data.try_into().ok()?;
    Some(address.into()).filter(|address: &Ipv4Addr| !address.is_unspecified())
}

/// The codes of encapsulated options, up to the first malformed one.
fn read_codes(mut data: &[u8]) -> Vec<u8> {
    let mut codes = Vec::new();
    while codes.len() < MAX_IPXE_CODES {
        match data {
            [0, rest @ ..] => data = rest,
            [255, ..] | [] | [_] => break,
            [code, length, rest @ ..] => {
                let Some(rest) = rest.get(usize::from(*length)..) else { break };
                codes.push(*code);
                data = rest;
            }
        }
    }
    codes
}
