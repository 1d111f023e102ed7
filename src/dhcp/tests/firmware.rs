//! The forms of the answers to firmware and iPXE, read with the owned parser of `dhcproto`.

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder};

use super::*;

/// An answer as the client reads it.
struct Answer {
    message: Message,
    transmission: Transmission,
}

impl Answer {
    fn to(datagram: &Datagram<'_>, name: &str) -> Self {
        let transmission = answer(datagram, name);
        let message = Message::decode(&mut Decoder::new(&transmission.bytes)).expect("a message");
        Self { message, transmission }
    }

    fn option(&self, code: OptionCode) -> Option<&DhcpOption> {
        self.message.opts().get(code)
    }

    /// The `file` field up to its zero.
    fn file(&self) -> &[u8] {
        self.message.fname().unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn class(&self) -> &[u8] {
        match self.option(OptionCode::ClassIdentifier) {
            Some(DhcpOption::ClassIdentifier(class)) => class,
            other => panic!("{other:?}"),
        }
    }

    fn is_complete(&self) -> bool {
        match self.option(OptionCode::VendorExtensions) {
            Some(DhcpOption::VendorExtensions(value)) => value == &[6, 1, 8, 255],
            _ => false,
        }
    }

    /// Checks all that does not depend on the client.
    fn check(&self, message_type: MessageType, name: &str) {
        let message = &self.message;
        assert_eq!(message.opts().msg_type(), Some(message_type));
        assert_eq!((message.xid(), message.chaddr()), (0xdead_beef, &MAC[..]));
        assert_eq!((message.yiaddr(), message.siaddr()), (Ipv4Addr::UNSPECIFIED, SERVER));
        assert_eq!(u16::from(message.flags()), 0x8000);
        assert_eq!(self.file(), name.as_bytes());
        assert_eq!(self.option(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(SERVER)));
        assert_eq!(self.transmission.source_ip, SERVER);
        assert!(self.transmission.bytes.len() >= 300);
    }
}

#[test]
fn bios_and_ipxe_boot_by_the_offer_alone() {
    let bios = Packet::discover("PXEClient", 0);
    for (packet, name) in [
        (bios.clone(), "undionly.kpxe"),
        (bios.with_ipxe(&[17, 19]), "http://192.0.2.1:8080/boot.ipxe"),
        (Packet::discover("PXEClient", 7).with_ipxe(&[17, 19]), "http://192.0.2.1:8080/boot.ipxe"),
        (Packet::discover("PXEClient", 22), "ipxe-arm64.efi"),
    ] {
        let bytes = packet.with(97, &GUID).bytes();
        let answer = Answer::to(&broadcast(&bytes), name);
        answer.check(MessageType::Offer, name);
        assert!(answer.is_complete() && answer.class() == b"PXEClient", "{name}");
        assert_eq!(answer.transmission.destination, "255.255.255.255:68".parse().expect("an address"));
        let guid = DhcpOption::ClientMachineIdentifier(GUID.into());
        assert_eq!(answer.option(OptionCode::ClientMachineIdentifier), Some(&guid));
    }
}

#[test]
fn uefi_asks_the_boot_server_again() {
    for (architecture, name) in [(7, "snponly.efi"), (9, "snponly.efi"), (11, "ipxe-arm64.efi")] {
        let offer = Answer::to(&broadcast(&Packet::discover("PXEClient", architecture).bytes()), name);
        offer.check(MessageType::Offer, name);
        assert!(offer.option(OptionCode::VendorExtensions).is_none() && offer.class() == b"PXEClient");

        // EDK2 names no server (option 54), and an impossible size (option 57). Its own port is 4011.
        let request = Packet::new(3, "PXEClient", architecture).with(57, &[0xff, 0]);
        let request = request.with_head(12, &CLIENT.octets());
        for (source_port, message_type) in [(4011, 3), (68, 3), (68, 8)] {
            let request = Packet {
                options: [&[53, 1, message_type], &request.options[3..]].concat(),
                ..request.clone()
            };
            let ack = Answer::to(&to_boot_server(&request.bytes(), source_port), name);
            ack.check(MessageType::Ack, name);
            assert_eq!(ack.message.ciaddr(), CLIENT);
            assert_eq!(ack.transmission.destination, SocketAddrV4::new(CLIENT, source_port));
            assert!(!ack.transmission.is_routed);
        }
    }
}

#[test]
fn http_boot_needs_its_own_vendor_class() {
    for architecture in [16, 19, 20] {
        let url = "http://192.0.2.1:8080/images/snponly.efi";
        let answer = Answer::to(&broadcast(&Packet::discover("HTTPClient", architecture).bytes()), url);
        answer.check(MessageType::Offer, url);
        assert!(answer.option(OptionCode::VendorExtensions).is_none() && answer.class() == b"HTTPClient");
    }
}

#[test]
fn relay_gets_a_complete_offer_with_its_information() {
    let information = [1, 4, 1, 2, 3, 4, 2, 3, 9, 9, 9];
    for architecture in [0, 7] {
        let packet = Packet::discover("PXEClient", architecture).forwarded_by(RELAY).with(82, &information);
        // iPXE asks for no broadcast; the relay cannot send the answer to an address of zero.
        let packet = packet.with_head(10, &[0, 0]);
        let bytes = packet.bytes();
        let unicast =
            Datagram { source: SocketAddrV4::new(RELAY, 67), destination: SERVER, ..broadcast(&bytes) };
        let answer = Answer::to(&unicast, "snponly.efi");
        answer.check(MessageType::Offer, "snponly.efi");
        assert!(answer.is_complete());
        assert_eq!(answer.message.giaddr(), RELAY);
        assert_eq!(answer.transmission.destination, SocketAddrV4::new(RELAY, 67));
        assert!(answer.transmission.is_routed);
        // The relay expects its option unchanged, and last (RFC 3046 §2.1).
        let bytes = &answer.transmission.bytes;
        let last = [&[82, 11], &information[..], &[255]].concat();
        assert!(bytes.windows(last.len()).any(|window| window == last), "{bytes:?}");
    }
}

#[test]
fn long_names_move_to_their_option() {
    let bytes = Packet { padding: 600, ..Packet::discover("HTTPClient", 16) }.bytes();
    for length in [0, 1, 127, 128, 254] {
        let name = "n".repeat(length);
        let answer = Answer::to(&broadcast(&bytes), &name);
        let in_option = match answer.option(OptionCode::BootfileName) {
            Some(DhcpOption::BootfileName(value)) => value.strip_suffix(&[0]).map(<[u8]>::to_vec),
            _ => None,
        };
        let field = answer.file();
        assert_eq!(in_option.as_deref().unwrap_or(field), name.as_bytes());
        assert_eq!(in_option.is_some(), length > 127);
    }
    let (result, _) = exchange(&broadcast(&bytes), &"n".repeat(255)).expect("a request");
    assert_eq!(result, ExchangeResult::TooLong);
}
