//! Tests of the timeline: sequences of events, and the resulting records, verdicts and descriptions.

mod boots;
mod cluster;
mod dhcp;
mod dhcp_after_boot;
mod dhcp_log;
mod dhcp_replies;
mod history;
mod index;
mod verdicts;

use std::net::IpAddr;

use uuid::Uuid;

use super::pending_writes::PendingWrites;
use super::*;
use crate::model::{BootOutcome, BootStep, Mac, Platform, SourceKind, TransferOutcome};
use crate::telemetry::{BootRequestEvent, ResolutionEvent, TftpTransfer};

const CARD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).expect("a time")
}

fn address() -> Option<IpAddr> {
    "192.0.2.7".parse().ok()
}

fn transfer(file: &str, outcome: TransferOutcome) -> EventKind {
    EventKind::TftpTransfer(TftpTransfer {
        file: file.into(),
        outcome,
        size: 100,
        block_size: 1468,
        window_size: 4,
        blocks: 1,
        retransmissions: 0,
        duration_ms: 5,
        client_message: None,
        refusal: None,
    })
}

/// A script that ends the boot, read instead of the file.
fn refused_transfer(file: &str, reason: &str) -> EventKind {
    match transfer(file, TransferOutcome::Complete) {
        EventKind::TftpTransfer(transfer) => {
            EventKind::TftpTransfer(TftpTransfer { refusal: Some(reason.to_owned()), ..transfer })
        }
        other => other,
    }
}

fn http_fetch(file: &str, size: Option<u64>) -> EventKind {
    EventKind::HttpFetch { file: file.into(), size }
}

fn boot_request(attempt: u32, outcome: BootOutcome, reason: Option<&str>) -> EventKind {
    let is_boot = outcome == BootOutcome::Boot;
    EventKind::BootRequest(Box::new(BootRequestEvent {
        attempt,
        tries: 3,
        macs: vec![CARD],
        platform: Some(Platform::Bios),
        arch: Some("i386".into()),
        uuid: None,
        host_name_bytes: None,
        node: is_boot.then(|| Uuid::from_u128(7)),
        resolutions: if is_boot {
            vec![ResolutionEvent {
                volume: "root".into(),
                source: SourceKind::Cinder,
                duration_ms: 40,
                error: None,
                server: None,
            }]
        } else {
            Vec::new()
        },
        hooks: if is_boot { vec!["root".into(), "data".into()] } else { Vec::new() },
        name: is_boot.then(|| "web-1".into()),
        journey: None,
        warnings: Vec::new(),
        outcome,
        reason: reason.map(str::to_owned),
        held: false,
        once: None,
        attached_card: None,
        claimed_mac: None,
        duration_us: 900,
    }))
}

fn boot_report(step: BootStep, rc: Option<&str>, attempt: u32) -> EventKind {
    EventKind::BootReport { step: Some(step), rc: rc.map(str::to_owned), attempt }
}

/// A delay by the loop detector, and the answer that it causes.
fn loop_delay(seconds: i64, journeys: u32) -> Sequence {
    let reason = format!("boot loop: {journeys} boot sessions in a row");
    let mut wait = boot_request(1, BootOutcome::Wait, Some(&reason));
    if let EventKind::BootRequest(request) = &mut wait {
        request.held = true;
    }
    vec![(seconds, true, EventKind::LoopDelay { journeys, seconds: 60 }), (seconds, true, wait)]
}

/// A sequence of events: seconds, whether the MAC address is known, kind.
type Sequence = Vec<(i64, bool, EventKind)>;

fn events(sequence: Sequence) -> Vec<Event> {
    let event = |(seconds, has_mac, kind): (i64, bool, EventKind)| {
        Event::new(at(seconds), has_mac.then_some(CARD), address(), kind)
    };
    sequence.into_iter().map(event).collect()
}

/// The verdict at a given time, after a sequence of events.
fn verdict(sequence: Sequence, now: i64) -> (BootState, String) {
    let mut index = MachineIndex::new(Bounds::default());
    for event in events(sequence) {
        index.insert(&event);
    }
    let id = if index.get(MachineId::Mac(CARD)).is_some() {
        MachineId::Mac(CARD)
    } else {
        MachineId::Address(address().expect("an address"))
    };
    let (_, record) = index.get(id).expect("a record");
    let verdict = Verdict::new(&record.progress, at(now));
    (verdict.state, verdict.text)
}

/// The start of a boot session: TFTP, `/boot.ipxe`, boot request.
fn session_start() -> Sequence {
    vec![
        (0, false, transfer("undionly.kpxe", TransferOutcome::Probe)),
        (0, false, transfer("undionly.kpxe", TransferOutcome::Complete)),
        (4, false, EventKind::SessionStarted),
        (5, true, boot_request(1, BootOutcome::Boot, None)),
    ]
}

fn session_start_then(rest: Sequence) -> Sequence {
    session_start().into_iter().chain(rest).collect()
}
