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

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode, UnknownOption};
use dhcproto::{Encodable, Encoder};

use super::request::DhcpRequest;
use super::{HTTP_CLIENT, NamedFile, NetbootClient, PXE_CLIENT};

/// The length of a BOOTP message (RFC 951), which some clients insist on.
const MIN_LENGTH: usize = 300;
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
    let zero = Ipv4Addr::UNSPECIFIED;
    let ciaddr = if is_offer { zero } else { request.ciaddr };
    let mut message =
        Message::new_with_id(request.xid, ciaddr, zero, file.server, request.giaddr, &request.mac);
    // A relay without the flag would send the answer to `yiaddr`, which is zero.
    let broadcast = if client.relay.is_some() { BROADCAST } else { 0 };
    message.set_opcode(Opcode::BootReply).set_secs(0).set_flags((request.flags | broadcast).into());

    let class = if client.is_http_boot() { HTTP_CLIENT } else { PXE_CLIENT };
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(if is_offer { MessageType::Offer } else { MessageType::Ack }));
    options.insert(DhcpOption::ServerIdentifier(client.local_ip));
    options.insert(DhcpOption::ClassIdentifier(class.into()));
    if has_complete_offer(client) {
        options.insert(DhcpOption::VendorExtensions(USE_THIS_FILE.into()));
    }
    if let Some(machine_id) = &request.machine_id {
        options.insert(DhcpOption::ClientMachineIdentifier(machine_id.clone()));
    }
    if let Some(information) = &request.relay_information {
        let code = OptionCode::RelayAgentInformation;
        options.insert(DhcpOption::Unknown(UnknownOption::new(code, information.clone())));
    }
    if file.name.len() <= MAX_FILE_FIELD {
        message.set_fname(file.name.as_bytes());
    } else if file.name.len() <= MAX_FILE_OPTION {
        let name = [file.name.as_bytes(), &[0]].concat();
        message.opts_mut().insert(DhcpOption::BootfileName(name));
    } else {
        return None;
    }
    let mut bytes = Vec::with_capacity(MIN_LENGTH);
    message.encode(&mut Encoder::new(&mut bytes)).ok()?;
    bytes.resize(bytes.len().max(MIN_LENGTH), 0);
    Some(bytes)
}

/// Whether the client boots by the offer alone.
fn has_complete_offer(client: &NetbootClient) -> bool {
    let is_uefi = client.architecture().is_some_and(|code| UEFI_PXE.contains(&code));
    !client.is_http_boot() && (client.ipxe.is_some() || client.relay.is_some() || !is_uefi)
}
