//! Tests of DHCP requests in the timeline: sessions, verdicts of machines that read no file, descriptions.

use super::*;
use crate::model::{DhcpAnswer, DhcpStep};
use crate::telemetry::DhcpEvent;

const SITE_SERVER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 254);

pub(super) fn dhcp(step: DhcpStep, ipxe: bool, answer: Option<DhcpAnswer>) -> EventKind {
    let is_sent = answer == Some(DhcpAnswer::Sent);
    EventKind::Dhcp(DhcpEvent {
        firmware: "UEFI x86_64".into(),
        ipxe,
        file: is_sent.then(|| "snponly.efi".into()),
        server: (step == DhcpStep::Request).then_some(SITE_SERVER),
        step,
        answer,
        relay: None,
        watched: false,
        node: None,
        name: None,
    })
}

pub(super) fn discover() -> EventKind {
    dhcp(DhcpStep::Discover, false, Some(DhcpAnswer::Sent))
}

pub(super) fn request() -> EventKind {
    dhcp(DhcpStep::Request, false, None)
}

pub(super) fn boot_server() -> EventKind {
    dhcp(DhcpStep::BootServer, false, Some(DhcpAnswer::Sent))
}

/// Each event at its second, with the MAC address.
pub(super) fn sequence(kinds: impl IntoIterator<Item = (i64, EventKind)>) -> Sequence {
    kinds.into_iter().map(|(seconds, kind)| (seconds, true, kind)).collect()
}

#[test]
fn machine_that_reads_no_file_gets_the_reason() {
    let ipxe = dhcp(DhcpStep::Discover, true, Some(DhcpAnswer::Sent));
    for (kinds, text) in [
        (vec![(0, discover()), (4, discover())], "the machine took no address after 2 requests"),
        (
            vec![(0, discover()), (4, request())],
            "the machine takes 192.0.2.7 of 192.0.2.254, and our offer was not taken",
        ),
        (
            vec![(0, discover()), (4, request()), (5, boot_server())],
            "the machine got the name snponly.efi at port 4011, and did not read the file",
        ),
        (
            vec![(0, discover()), (4, request()), (20, ipxe.clone())],
            "another boot server answered as well: the machine came back as iPXE without having read a file of volboot",
        ),
    ] {
        let last = kinds.last().map_or(0, |(seconds, _)| *seconds);
        let (state, early) = verdict(sequence(kinds.clone()), last + 59);
        assert_eq!(state, BootState::Booting, "{early}");
        let (state, late) = verdict(sequence(kinds), last + 60);
        assert_eq!(state, BootState::Stopped);
        assert!(late.starts_with(&format!("stopped before TFTP, because {text}")), "{late}");
    }
}

#[test]
fn machine_behind_a_relay_is_not_mistaken() {
    let relayed = |step, ipxe, answer| match dhcp(step, ipxe, answer) {
        EventKind::Dhcp(dhcp) => EventKind::Dhcp(DhcpEvent { relay: Some(SITE_SERVER), ..dhcp }),
        other => other,
    };
    let discover = |ipxe| relayed(DhcpStep::Discover, ipxe, Some(DhcpAnswer::Sent));
    let request = || relayed(DhcpStep::Request, false, None);
    let (_, text) = verdict(sequence([(0, discover(false)), (4, request()), (20, discover(true))]), 90);
    assert!(text.contains("no file is known") && text.contains("behind a relay"), "{text}");
}

#[test]
fn machine_with_an_ipxe_rom_is_not_mistaken() {
    let ipxe = || dhcp(DhcpStep::Discover, true, Some(DhcpAnswer::Sent));
    let (_, text) = verdict(sequence([(0, ipxe()), (4, ipxe()), (5, request())]), 90);
    assert!(text.contains("our offer was not taken"), "{text}");
    let loaded = transfer("snponly.efi", TransferOutcome::Complete);
    let (state, text) = verdict(sequence([(0, discover()), (5, loaded), (9, ipxe())]), 80);
    assert_eq!(state, BootState::Stopped);
    assert!(text.starts_with("stopped after reading snponly.efi"), "{text}");
}

#[test]
fn requests_without_an_answer_have_a_verdict_at_once() {
    for (answer, state, text) in [
        (DhcpAnswer::UnknownMachine, BootState::Unknown, "unknown machine: no node has a port"),
        (DhcpAnswer::NetbootOff, BootState::LocalDisk, "left to its next boot device"),
        (
            DhcpAnswer::PortDisabled,
            BootState::Stopped,
            "stopped before TFTP, because the port has pxe_enabled false",
        ),
        (
            DhcpAnswer::NoFile,
            BootState::Stopped,
            "stopped before TFTP, because volboot has no boot file for UEFI x86_64",
        ),
        (DhcpAnswer::MissingImage, BootState::Stopped, "stopped before TFTP, because volboot's host lacks"),
        (
            DhcpAnswer::RelayNotNamed,
            BootState::Stopped,
            "stopped before TFTP, because the request came from a relay",
        ),
        (DhcpAnswer::RateLimited, BootState::Stopped, "stopped before TFTP, because too many DHCP requests"),
        (DhcpAnswer::StoreUnavailable, BootState::Stopped, "stopped before TFTP, because the store"),
        (DhcpAnswer::Failed, BootState::Stopped, "stopped before TFTP, because the answer could not be sent"),
        (
            DhcpAnswer::Other("new".into()),
            BootState::Stopped,
            "stopped before TFTP, because its DHCP request got no answer: new",
        ),
    ] {
        let events = sequence([(0, dhcp(DhcpStep::Discover, false, Some(answer)))]);
        let (found, verdict) = verdict(events, 1);
        assert_eq!(found, state, "{verdict}");
        assert!(verdict.starts_with(text), "{verdict}");
    }
}

#[test]
fn dhcp_and_tftp_are_one_session() {
    let mut index = MachineIndex::new(Bounds::default());
    let ipxe = dhcp(DhcpStep::Discover, true, Some(DhcpAnswer::Sent));
    let first = sequence([
        (0, discover()),
        (4, discover()),
        (5, request()),
        (6, transfer("snponly.efi", TransferOutcome::Complete)),
        (9, ipxe.clone()),
        (10, EventKind::SessionStarted),
        (11, boot_request(1, BootOutcome::Boot, None)),
    ]);
    // Between two tries, the script may run iPXE's DHCP again.
    let retry = sequence([
        (20, boot_report(BootStep::Hook(0), Some("4c0a6092"), 1)),
        (21, ipxe),
        (22, boot_request(2, BootOutcome::Boot, None)),
    ]);
    let insert = |index: &mut MachineIndex, sequence| {
        for event in events(sequence) {
            index.insert(&event);
        }
    };
    insert(&mut index, first);
    insert(&mut index, retry);
    let progress = |index: &MachineIndex| {
        let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
        record.progress.clone()
    };
    let session = progress(&index);
    assert_eq!((session.journey_started_at, session.journeys_without_hook), (at(0), 1));
    assert_eq!(session.dhcp.expect("DHCP").discovers, 4);

    insert(&mut index, sequence([(60, discover())]));
    let session = progress(&index);
    assert_eq!((session.journey_started_at, session.journeys_without_hook), (at(60), 2));
    assert_eq!((session.stage, session.dhcp.expect("DHCP").discovers), (BootStage::DhcpRequested, 1));
}

#[test]
fn loop_of_ipxe_that_loads_itself_is_found_despite_its_dhcp_requests() {
    let ipxe = || dhcp(DhcpStep::Discover, true, Some(DhcpAnswer::Sent));
    let loads = (0..3).flat_map(|turn| {
        let at = turn * 10;
        [(at, ipxe()), (at + 5, transfer("undionly.kpxe", TransferOutcome::Complete))]
    });
    let (state, text) = verdict(sequence(loads), 40);
    assert_eq!(state, BootState::Looping, "{text}");
}

#[test]
fn requests_are_described() {
    let kinds = [
        discover(),
        dhcp(DhcpStep::Discover, true, Some(DhcpAnswer::Sent)),
        request(),
        boot_server(),
        dhcp(DhcpStep::Discover, false, Some(DhcpAnswer::UnknownMachine)),
    ];
    let texts: Vec<_> = kinds
        .into_iter()
        .map(|kind| Event::new(at(0), Some(CARD), address(), kind))
        .flat_map(|event| describe([event]))
        .map(|entry| entry.text)
        .collect();
    assert_eq!(
        texts,
        [
            "asked for an address (UEFI x86_64); answered with snponly.efi",
            "asked for an address (UEFI x86_64, iPXE); answered with snponly.efi",
            "asks for 192.0.2.7 of 192.0.2.254 (UEFI x86_64)",
            "asked for the boot file at port 4011 (UEFI x86_64); answered with snponly.efi",
            "asked for an address (UEFI x86_64); no answer: no node has a port with this address",
        ]
    );
}

#[test]
fn node_is_known_before_the_first_boot_request() {
    let mut kind = discover();
    if let EventKind::Dhcp(dhcp) = &mut kind {
        (dhcp.node, dhcp.name) = (Some(Uuid::from_u128(7)), Some("web-1".into()));
    }
    let mut index = MachineIndex::new(Bounds::default());
    for event in events(sequence([(0, kind)])) {
        index.insert(&event);
    }
    let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    assert_eq!((record.node, record.name.as_deref()), (Some(Uuid::from_u128(7)), Some("web-1")));
}
