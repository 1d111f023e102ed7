//! [`build_offer`]: the answer to a request, in the form that the client's firmware needs.
//!
//! Each form is what real firmware takes:
//!
//! | client | option 60 | option 43 | boot file |
//! |---|---|---|---|
//! | BIOS, iPXE, U-Boot; any client behind a relay | `PXEClient` | 6 = 8: boot this file | in the offer |
//! | UEFI | `PXEClient` | none | in the offer, and again from port 4011 |
//! | HTTP boot | `HTTPClient` | none | a URL, in the offer |
//!
//! Without option 43, EDK2 ignores the file in the offer and asks port 4011. All known firmware for UEFI takes that form; some
//! ignores the other. Behind a relay, port 4011 would have to answer addresses beyond the link, so the offer is complete
//! there. EDK2 takes this form too.
//!
//! The name stands in the `file` field: old clients append the byte after option 67 to the name. Option 54 is mandatory:
//! EDK2 dereferences it, and iPXE identifies the server by it.

use std::net::Ipv4Addr;

use dhcproto::v4::{HType, MAGIC, MessageType, Opcode, OptionCode};

use super::request::DhcpRequest;
use super::{HTTP_CLIENT, NamedFile, NetbootClient, PXE_CLIENT};

/// The length of a BOOTP message (RFC 951), which some clients insist on.
const MIN_LENGTH: usize = 300;
/// The length of all fields, with the magic cookie.
const HEADER_LENGTH: usize = 240;
/// The offset of the `file` field.
const FILE_FIELD: usize = 108;
/// The flag of a message that the relay broadcasts (RFC 1542, §3.1.1).
const BROADCAST: u16 = 0x8000;
/// The longest name in the `file` field, which ends with a zero.
const MAX_FILE_FIELD: usize = 127;
/// The longest name in option 67, with a zero.
const MAX_FILE_OPTION: usize = 254;
/// PXE's encapsulated option 6 (discovery control) with bit 3: use the file of this offer, without discovery or menu.
const USE_THIS_FILE: [u8; 4] = [6, 1, 8, 255];
/// Architectures of firmware for UEFI with PXE.
const UEFI_PXE: [u16; 5] = [6, 7, 9, 10, 11];

/// Builds the answer; `None` if the name does not fit.
pub(super) fn build_offer(
    request: &DhcpRequest,
    client: &NetbootClient,
    file: &NamedFile,
) -> Option<Vec<u8>> {
    let is_offer = request.message_type == MessageType::Discover;
    let class = if client.is_http_boot() { HTTP_CLIENT } else { PXE_CLIENT };
    let (in_field, in_option) = place_name(&file.name)?;
    let message_type = if is_offer { MessageType::Offer } else { MessageType::Ack };
    let mut bytes = build_header(request, client, file.server, in_field);
    // By code, and that of the relay at the end (RFC 3046, §2.1).
    let options = [
        (OptionCode::VendorExtensions, has_complete_offer(client).then_some(&USE_THIS_FILE[..])),
        (OptionCode::MessageType, Some(&[u8::from(message_type)])),
        (OptionCode::ServerIdentifier, Some(&client.local_ip.octets())),
        (OptionCode::ClassIdentifier, Some(class.as_bytes())),
        (OptionCode::BootfileName, in_option.as_deref()),
        (OptionCode::ClientMachineIdentifier, request.machine_id.as_deref()),
        (OptionCode::RelayAgentInformation, request.relay_information.as_deref()),
    ];
    for (code, data) in options {
        let Some(data) = data else { continue };
        bytes.extend([u8::from(code), u8::try_from(data.len()).ok()?]);
        bytes.extend(data);
    }
    bytes.push(OptionCode::End.into());
    bytes.resize(bytes.len().max(MIN_LENGTH), 0);
    Some(bytes)
}

/// The name for the `file` field, and that for option 67; `None` if the name is too long for both.
fn place_name(name: &str) -> Option<(&[u8], Option<Vec<u8>>)> {
    if name.len() <= MAX_FILE_FIELD {
        return Some((name.as_bytes(), None));
    }
    (name.len() <= MAX_FILE_OPTION).then(|| (&[][..], Some([name.as_bytes(), &[0]].concat())))
}

/// The fields before the options (RFC 2131, §2).
fn build_header(
    request: &DhcpRequest,
    client: &NetbootClient,
    next_server: Ipv4Addr,
    name: &[u8],
) -> Vec<u8> {
    let is_offer = request.message_type == MessageType::Discover;
    let ciaddr = if is_offer { Ipv4Addr::UNSPECIFIED } else { request.ciaddr };
    // A relay without the flag would send the answer to `yiaddr`, which is zero.
    let broadcast = if client.relay.is_some() { BROADCAST } else { 0 };
    let mut bytes = Vec::with_capacity(MIN_LENGTH);
    bytes.extend([u8::from(Opcode::BootReply), u8::from(HType::Eth), 6, 0]);
    bytes.extend(request.xid.to_be_bytes());
    // `secs`
    bytes.extend([0; 2]);
    bytes.extend((request.flags | broadcast).to_be_bytes());
    bytes.extend(ciaddr.octets());
    // `yiaddr`
    bytes.extend([0; 4]);
    bytes.extend(next_server.octets());
    bytes.extend(request.giaddr.octets());
    bytes.extend(request.mac);
    // `sname` is empty.
    bytes.resize(FILE_FIELD, 0);
    bytes.extend(name);
    bytes.resize(HEADER_LENGTH - MAGIC.len(), 0);
    bytes.extend(MAGIC);
    bytes
}

/// Whether the client boots by the offer alone.
fn has_complete_offer(client: &NetbootClient) -> bool {
    let is_uefi = client.architecture().is_some_and(|code| UEFI_PXE.contains(&code));
    !client.is_http_boot() && (client.ipxe.is_some() || client.relay.is_some() || !is_uefi)
}
