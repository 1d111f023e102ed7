//! Tests of the replies of other DHCP servers in the timeline, with `[dhcp] watch_answers`.

use std::net::Ipv4Addr;

use super::dhcp::{discover, request, sequence};
use super::*;
use crate::model::DhcpStep;
use crate::telemetry::DhcpEvent;

const SITE_SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const OTHER_PROXY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);

fn reply(step: DhcpStep, server: Ipv4Addr, file: Option<&str>) -> EventKind {
    EventKind::Dhcp(DhcpEvent {
        step,
        firmware: "UEFI x86_64".into(),
        ipxe: false,
        answer: None,
        file: file.map(ToOwned::to_owned),
        server: Some(server),
        relay: None,
        watched: false,
        node: None,
        name: None,
    })
}

/// The same request, whose replies are observed.
fn watched(kind: EventKind) -> EventKind {
    match kind {
        EventKind::Dhcp(dhcp) => EventKind::Dhcp(DhcpEvent { watched: true, ..dhcp }),
        other => other,
    }
}

fn offer() -> EventKind {
    reply(DhcpStep::Offer, SITE_SERVER, None)
}

#[test]
fn replies_explain_why_a_machine_reads_no_file() {
    for (kinds, expected) in [
        (vec![watched(discover())], "no offer of an address was seen after 1 request"),
        (vec![discover()], "the machine took no address after 1 request"),
        (
            vec![watched(discover()), offer(), watched(discover()), offer()],
            "the machine did not take the address 192.0.2.7 that 192.0.2.254 offered, after 2 requests",
        ),
        (
            vec![
                watched(discover()),
                reply(DhcpStep::Offer, SITE_SERVER, Some("pxelinux.0")),
                watched(request()),
            ],
            "192.0.2.254 named the boot file pxelinux.0, and our offer was not taken",
        ),
        (
            vec![watched(discover()), offer(), reply(DhcpStep::ProxyOffer, OTHER_PROXY, Some("ipxe.efi"))],
            "192.0.2.250 named the boot file ipxe.efi, and our offer was not taken",
        ),
        (
            vec![watched(discover()), offer(), watched(request())],
            "192.0.2.254 did not confirm the address 192.0.2.7",
        ),
        // A server whose replies reach the machine alone.
        (
            vec![watched(discover()), watched(request())],
            "the machine takes 192.0.2.7 of 192.0.2.254, and our offer was not taken",
        ),
        (
            vec![watched(discover()), offer(), watched(request()), reply(DhcpStep::Nak, OTHER_PROXY, None)],
            "192.0.2.250 refused the machine the address 192.0.2.7",
        ),
        (
            vec![watched(discover()), offer(), watched(request()), reply(DhcpStep::Ack, SITE_SERVER, None)],
            "the machine takes 192.0.2.7 of 192.0.2.254, and our offer was not taken",
        ),
    ] {
        let kinds = (0_i64..).zip(kinds);
        let (state, text) = verdict(sequence(kinds), 90);
        assert_eq!(state, BootState::Stopped);
        assert!(text.starts_with(&format!("stopped before TFTP, because {expected}")), "{text}");
    }
}

#[test]
fn offered_address_is_shown_while_the_machine_waits() {
    let (state, text) = verdict(sequence([(0, watched(discover())), (1, offer())]), 2);
    assert_eq!(state, BootState::Booting);
    assert_eq!(text, "asked for an address, and 192.0.2.254 offered 192.0.2.7 (UEFI x86_64)");
}

#[test]
fn offered_address_is_not_the_machines_yet() {
    let mut index = MachineIndex::new(Bounds::default());
    let record_address = |index: &MachineIndex| {
        let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
        record.address
    };
    let discovered = Event { address: None, ..Event::new(at(0), Some(CARD), None, watched(discover())) };
    index.insert(&discovered);
    index.insert(&Event::new(at(1), Some(CARD), address(), offer()));
    assert_eq!(record_address(&index), None);
    index.insert(&Event::new(at(2), Some(CARD), address(), reply(DhcpStep::Ack, SITE_SERVER, None)));
    assert_eq!(record_address(&index), address());
}

#[test]
fn offers_of_many_servers_are_bounded() {
    let mut index = MachineIndex::new(Bounds::default());
    index.insert(&Event::new(at(0), Some(CARD), None, watched(discover())));
    for number in 0..100 {
        let server = Ipv4Addr::new(192, 0, 2, number);
        index.insert(&Event::new(at(1), Some(CARD), address(), reply(DhcpStep::Offer, server, None)));
    }
    let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    assert_eq!(record.progress.dhcp.as_ref().map(|dhcp| dhcp.offers.len()), Some(4));
}

#[test]
fn replies_are_described() {
    let kinds = [
        offer(),
        reply(DhcpStep::Offer, SITE_SERVER, Some("pxelinux.0")),
        reply(DhcpStep::ProxyOffer, OTHER_PROXY, Some("ipxe.efi")),
        reply(DhcpStep::ProxyOffer, OTHER_PROXY, None),
        reply(DhcpStep::Ack, SITE_SERVER, None),
        reply(DhcpStep::Nak, SITE_SERVER, None),
    ];
    let events = kinds.into_iter().map(|kind| Event::new(at(0), Some(CARD), address(), kind));
    let texts: Vec<_> = describe(events).into_iter().map(|entry| entry.text).collect();
    assert_eq!(
        texts,
        [
            "192.0.2.254 offered 192.0.2.7",
            "192.0.2.254 offered 192.0.2.7 with the boot file pxelinux.0",
            "192.0.2.250, another ProxyDHCP server, answered with the boot file ipxe.efi",
            "192.0.2.250, another ProxyDHCP server, answered",
            "192.0.2.254 confirmed 192.0.2.7",
            "192.0.2.254 refused the requested address",
        ]
    );
}
