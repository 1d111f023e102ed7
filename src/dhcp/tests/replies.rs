//! The replies of other servers: which are read, and which are observed.

use std::time::Duration;

use proptest::prelude::*;

use super::check::{check_input, check_reply};
use super::*;
use crate::dhcp::reply_watch::{REPLIES_PER_TRANSACTION, ReplyWatch};
use crate::dhcp::server_reply::ServerReply;
use crate::dhcp::{NetbootClient, ReplyKind, RequestKind};

const SITE_SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// The transaction of [`Packet::new`].
const XID: u32 = 0xdead_beef;

/// The reply of a server, of this type and with this address.
fn reply(message_type: u8, address: Ipv4Addr) -> Packet {
    let packet = Packet { options: vec![53, 1, message_type], ..Packet::discover("", 0) };
    packet.with_head(0, &[2]).with_head(16, &address.octets()).with(54, &SITE_SERVER.octets())
}

/// The reply in an IPv4 packet, as a packet socket receives it.
fn to_packet(reply: &Packet) -> Vec<u8> {
    let payload = reply.bytes();
    let udp_length = payload.len() as u16 + 8;
    let mut packet = vec![0x45, 0xc0];
    packet.extend((udp_length + 20).to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    packet.extend(SITE_SERVER.octets());
    packet.extend([255; 4]);
    packet.extend([0, 67, 0, 68]);
    packet.extend(udp_length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

fn parse(reply: &Packet) -> Option<(ReplyKind, Option<String>)> {
    let parsed = ServerReply::parse(&to_packet(reply))?;
    assert_eq!((parsed.mac, parsed.xid, parsed.server), (MAC, XID, SITE_SERVER));
    Some((parsed.kind, parsed.file))
}

#[test]
fn replies_are_read() {
    let none = Ipv4Addr::UNSPECIFIED;
    let file = || Some("pxelinux.0".to_owned());
    for (reply, expected) in [
        (reply(2, CLIENT), Some((ReplyKind::Offer(CLIENT), None))),
        (reply(2, CLIENT).with(67, b"pxelinux.0\0"), Some((ReplyKind::Offer(CLIENT), file()))),
        (reply(2, CLIENT).with_head(108, b"pxelinux.0"), Some((ReplyKind::Offer(CLIENT), file()))),
        // The field has options (option 52).
        (
            reply(2, CLIENT).with(52, &[1]).with_head(108, b"\x42\x02no"),
            Some((ReplyKind::Offer(CLIENT), None)),
        ),
        (
            reply(2, none).with(60, b"PXEClient").with(67, b"pxelinux.0"),
            Some((ReplyKind::ProxyOffer, file())),
        ),
        (reply(2, none), None),
        (reply(5, CLIENT), Some((ReplyKind::Ack(CLIENT), None))),
        // The answer to a DHCPINFORM.
        (reply(5, none), None),
        (reply(6, none), Some((ReplyKind::Nak, None))),
        (reply(1, CLIENT), None),
        (reply(2, CLIENT).with_head(0, &[1]), None),
        (reply(2, CLIENT).with_head(2, &[16]), None),
    ] {
        assert_eq!(parse(&reply), expected, "{reply:?}");
    }
}

#[test]
fn packets_that_are_no_replies_are_not_read() {
    let packet = to_packet(&reply(2, CLIENT));
    assert!(ServerReply::parse(&packet).is_some());
    let padded = [packet.as_slice(), &[0; 9]].concat();
    assert_eq!(ServerReply::parse(&padded), ServerReply::parse(&packet), "the padding of a frame");
    for (at, byte, what) in [
        (0, 0x65, "IPv6"),
        (0, 0x44, "a header without addresses"),
        (6, 0x20, "the first fragment"),
        (7, 9, "another fragment"),
        (9, 6, "TCP"),
        (3, packet[3].wrapping_add(1), "a cut packet"),
        (21, 69, "from another port"),
        (23, 67, "to a relay"),
        (24, 0, "a cut payload"),
    ] {
        let mut packet = packet.clone();
        packet[at] = byte;
        assert_eq!(ServerReply::parse(&packet), None, "{what}");
    }
    for length in 0..packet.len() {
        assert_eq!(ServerReply::parse(&packet[..length]), None);
    }
}

/// An engine that watches replies, after a request.
fn engine_after(request: &Packet, now: Instant) -> (Engine, Disposition) {
    let mut engine = Engine::new(true, now);
    let disposition = engine.receive(&broadcast(&request.bytes()), |_| true, now);
    (engine, disposition)
}

#[test]
fn replies_to_network_boot_clients_are_observed() {
    let now = Instant::now();
    let packet = to_packet(&reply(2, CLIENT));
    assert!(Engine::new(true, now).receive_reply(&packet, now).is_none(), "no request");
    let (mut engine, disposition) = engine_after(&Packet::discover("PXEClient", 7), now);
    let Disposition::LookUp(pending) = disposition else { panic!("{disposition:?}") };
    assert_eq!(pending.kind, RequestKind::Discover { is_watched: true });
    let observed = engine.receive_reply(&packet, now).expect("an observed reply");
    assert_eq!((observed.mac, observed.architecture, observed.is_ipxe), (MAC, Some(7), false));
    assert_eq!((observed.kind, observed.server), (ReplyKind::Offer(CLIENT), SITE_SERVER));
    let late = now + Duration::from_secs(60);
    assert!(engine.receive_reply(&packet, late).is_none(), "the client does not wait so long");
    let other = to_packet(&reply(2, CLIENT).with_head(4, &[1]));
    assert!(engine.receive_reply(&other, now).is_none(), "another transaction");

    let (mut engine, _) = engine_after(&Packet::discover("MSFT 5.0", 0), now);
    assert!(engine.receive_reply(&packet, now).is_none(), "no network-boot client");
    let (mut engine, disposition) = engine_after(&Packet::discover("PXEClient", 7).forwarded_by(RELAY), now);
    let Disposition::LookUp(pending) = disposition else { panic!("{disposition:?}") };
    assert_eq!(pending.kind, RequestKind::Discover { is_watched: false }, "replies go to the relay");
    assert!(engine.receive_reply(&packet, now).is_none());
}

#[test]
fn replies_and_machines_are_bounded() {
    let (now, mut watch) = (Instant::now(), ReplyWatch::default());
    let client = |number: u32| NetbootClient {
        mac: [[2, 0].as_slice(), &number.to_be_bytes()].concat().try_into().expect("six bytes"),
        architectures: Vec::new(),
        vendor_class: "PXEClient".to_owned(),
        ipxe: None,
        relay: None,
        local_ip: SERVER,
    };
    let (mut watched, mut number) = (0, 0);
    while watched == number {
        watched += u32::from(watch.add(&client(number), XID, now));
        number += 1;
    }
    assert_eq!(watch.machine_count(), watched as usize);
    assert!(watch.add(&client(0), XID + 1, now), "a machine of the table");
    // Expired transactions give way.
    assert!(watch.add(&client(number), XID, now + Duration::from_secs(61)));
    assert_eq!(watch.machine_count(), 1);
    let packet = to_packet(&reply(2, CLIENT).with_head(28, &client(number).mac));
    let later = now + Duration::from_secs(62);
    let observed = (0..20).filter(|_| watch.receive(&packet, later).is_some()).count();
    assert_eq!(observed, REPLIES_PER_TRANSACTION as usize);
}

#[test]
fn any_packet_is_harmless() {
    let packet = to_packet(&reply(2, CLIENT).with(60, b"PXEClient").with(67, b"pxelinux.0"));
    assert!(check_reply(&packet));
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    proptest!(|(changes in changes, bytes in prop::collection::vec(any::<u8>(), 0..400))| {
        let mut packet = packet.clone();
        for (index, byte) in changes {
            *index.get_mut(&mut packet) = byte;
        }
        check_reply(&packet);
        check_input(&[&[32, 0], bytes.as_slice()].concat());
    });
}
