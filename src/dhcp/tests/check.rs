//! [`check_datagram`] and [`check_reply`]: the invariants of the engine for any bytes, for property tests and for the fuzz
//! target.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use crate::dhcp::engine::{Datagram, Disposition, Engine};
use crate::dhcp::ports::{BOOT_SERVER_PORT, SERVER_PORT};
use crate::dhcp::reply_watch::{REPLIES_PER_TRANSACTION, ReplyWatch};
use crate::dhcp::server_reply::ServerReply;
use crate::dhcp::{NamedFile, NetbootClient};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The relay that is named.
const RELAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// The first two bytes choose port, source and file; the others are the datagram, or the packet with a server's reply.
/// Returns whether an answer was sent, or a reply was observed.
pub(crate) fn check_input(input: &[u8]) -> bool {
    let [choice, length, bytes @ ..] = input else { return false };
    if choice & 32 != 0 {
        return check_reply(bytes);
    }
    let port = if choice & 1 == 0 { SERVER_PORT } else { BOOT_SERVER_PORT };
    let source_port = [68, 67, BOOT_SERVER_PORT, 53][usize::from(choice >> 1 & 3)];
    let source_ip = if choice & 8 == 0 { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::new(192, 0, 2, 57) };
    let destination = if choice & 16 == 0 { Ipv4Addr::BROADCAST } else { SERVER };
    let source = SocketAddrV4::new(source_ip, source_port);
    let datagram = Datagram { bytes, port, source, destination, local_ip: SERVER };
    check_datagram(&datagram, &"f".repeat(usize::from(*length)))
}

/// Checks the answer to a datagram, with a policy that names `name` for every client.
pub(super) fn check_datagram(datagram: &Datagram<'_>, name: &str) -> bool {
    let now = Instant::now();
    let step = Engine::new(false, now).receive(datagram, |relay| relay == RELAY, now);
    let Disposition::LookUp(pending) = step else { return false };
    let file = NamedFile { name: name.to_owned(), server: SERVER };
    let (_, transmission) = pending.complete(Some(file));
    let Some(transmission) = transmission else { return false };
    let (request, answer) = (datagram.bytes, transmission.bytes.as_slice());

    let has_class = ["PXEClient", "HTTPClient"].iter().any(|class| contains(request, class.as_bytes()));
    assert!(has_class && request[0] == 1, "an answer to no network-boot client");
    assert!(answer.len() >= 300 && answer.len() <= 2 * request.len(), "{} bytes", answer.len());
    assert_eq!(answer[0], 2);
    assert_eq!(answer[16..20], [0; 4], "an address was given");
    assert_eq!(answer[4..8], request[4..8], "the transaction");
    assert_eq!(answer[28..34], request[28..34], "the machine");
    let options = &answer[240..];
    for code in [1, 3, 6, 51, 58, 59] {
        assert!(!has_option(options, code), "option {code} belongs to a lease");
    }
    let to = transmission.destination;
    let goes_to_the_link = !transmission.is_routed
        && (*to.ip() == Ipv4Addr::BROADCAST && to.port() == 68 || to == datagram.source);
    let goes_to_the_relay = transmission.is_routed && to == SocketAddrV4::new(RELAY, 67);
    assert!(goes_to_the_link || goes_to_the_relay, "{to}");
    true
}

/// Checks what is read of a packet with the reply of a server: it is observed for an open transaction only.
pub(super) fn check_reply(packet: &[u8]) -> bool {
    let now = Instant::now();
    let Some(reply) = ServerReply::parse(packet) else { return false };
    assert!(contains(packet, &reply.mac) && contains(packet, &reply.xid.to_be_bytes()));
    if let Some(file) = &reply.file {
        assert!(
            (1..=254).contains(&file.len()) && file.bytes().all(|byte| byte.is_ascii_graphic()),
            "{file:?}"
        );
    }
    let client = NetbootClient {
        mac: reply.mac,
        architectures: vec![7],
        vendor_class: "PXEClient".to_owned(),
        ipxe: None,
        relay: None,
        local_ip: SERVER,
    };
    let mut watch = ReplyWatch::default();
    assert_eq!(watch.receive(packet, now), None, "a reply without a request");
    assert!(watch.add(&client, !reply.xid, now));
    assert_eq!(watch.receive(packet, now), None, "a reply to another transaction");
    assert!(watch.add(&client, reply.xid, now));
    for _ in 0..REPLIES_PER_TRANSACTION {
        assert!(watch.receive(packet, now).is_some_and(|observed| observed.kind == reply.kind));
    }
    assert_eq!(watch.receive(packet, now), None, "a flood of replies");
    true
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn has_option(mut options: &[u8], wanted: u8) -> bool {
    while let [code, length, rest @ ..] = options {
        match code {
            255 => return false,
            _ if *code == wanted => return true,
            _ => options = rest.get(usize::from(*length)..).unwrap_or_default(),
        }
    }
    false
}
