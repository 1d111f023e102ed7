//! Tests of DHCP requests for a machine that is up. Anyone on the link can forge them, with any MAC address.

use super::dhcp::{boot_server, dhcp, discover, request, sequence};
use super::*;
use crate::model::{DhcpAnswer, DhcpStep};
use crate::telemetry::DhcpEvent;

/// A boot of [`CARD`] from 0 s to the last step at 30 s.
fn boot_until(step: BootStep) -> Sequence {
    let hooked = (12, true, boot_report(BootStep::Hooked, None, 1));
    let last = (step == BootStep::Up).then(|| (30, true, boot_report(BootStep::Up, None, 1)));
    session_start_then([hooked].into_iter().chain(last).collect())
}

fn booted_then(rest: impl IntoIterator<Item = (i64, EventKind)>) -> Sequence {
    boot_until(BootStep::Up).into_iter().chain(sequence(rest)).collect()
}

fn record_of(sequence: Sequence) -> record::MachineRecord {
    let mut index = MachineIndex::new(Bounds::default());
    for event in events(sequence) {
        index.insert(&event);
    }
    index.get(MachineId::Mac(CARD)).expect("a record").1.clone()
}

#[test]
fn forged_request_does_not_replace_the_verdict_of_a_machine_that_is_up() {
    for kind in [discover(), request(), boot_server(), dhcp(DhcpStep::Discover, true, None)] {
        let shown_beside = matches!(&kind, EventKind::Dhcp(dhcp) if dhcp.step == DhcpStep::Discover);
        for now in [1001, 2000] {
            let (state, text) = verdict(booted_then([(1000, kind.clone())]), now);
            assert_eq!(state, BootState::Booted, "{text}");
            assert!(text.starts_with("booted after 30 s"), "{text}");
            assert_eq!(
                text.contains("asked for an address again at 2023-11-14T22:30:00Z"),
                shown_beside,
                "{text}"
            );
            assert_eq!(text.contains("nothing followed"), shown_beside && now == 2000, "{text}");
        }
        let record = record_of(booted_then([(1000, kind)]));
        assert_eq!(record.progress.stage, BootStage::Up);
        assert_eq!((record.progress.journey_started_at, record.progress.updated_at), (at(0), at(30)));
        assert_eq!(record.progress.journeys_without_hook, 1);
    }
}

#[test]
fn forged_requests_in_a_burst_or_far_apart_are_no_boot() {
    let burst = (0..50).map(|number| (1000 + number / 10, discover()));
    let (state, text) = verdict(booted_then(burst), 2000);
    assert_eq!(state, BootState::Booted, "{text}");
    let far_apart = (1..20).map(|number| (number * 600, discover()));
    let (state, text) = verdict(booted_then(far_apart), 100_000);
    assert_eq!(state, BootState::Booted, "{text}");
}

#[test]
fn forged_request_does_not_hand_over_again_or_move_the_address() {
    let forged = || {
        let [(_, _, kind)] = <[_; 1]>::try_from(sequence([(0, request())])).expect("one event");
        Event::new(at(1000), Some(CARD), "203.0.113.66".parse().ok(), kind)
    };
    for (step, state) in [(BootStep::Hooked, BootState::HandedOver), (BootStep::Up, BootState::Booted)] {
        let mut index = MachineIndex::new(Bounds::default());
        for event in events(boot_until(step)).into_iter().chain([forged()]) {
            index.insert(&event);
        }
        let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
        assert_eq!(Verdict::new(&record.progress, at(1001)).state, state);
        assert_eq!(record.address, address());
    }
}

#[test]
fn machine_on_its_local_disk_stays_there() {
    let mut sequence_ = session_start();
    sequence_.push((6, true, boot_request(1, BootOutcome::LocalDisk, Some("the node has no volume"))));
    let (state, text) = verdict(sequence_.into_iter().chain(sequence([(1000, discover())])).collect(), 2000);
    assert_eq!(state, BootState::LocalDisk, "{text}");
    assert!(text.contains("asked for an address again"), "{text}");
}

#[test]
fn rom_that_asks_on_is_a_machine_that_stopped() {
    // EDK2 and ROMs by PXE 2.1 wait 4, 8, 16 and 32 s for an offer.
    let requests = [(1000, discover()), (1004, discover()), (1012, discover()), (1028, discover())];
    let (state, text) = verdict(booted_then(requests.clone()), 1030);
    assert_eq!(state, BootState::Booting, "{text}");
    let (state, text) = verdict(booted_then(requests), 2000);
    assert_eq!(state, BootState::Stopped, "{text}");
    assert!(
        text.starts_with("stopped before TFTP, because the machine took no address after 4 requests")
            && text.ends_with("; its last boot: booted after 30 s"),
        "{text}"
    );
}

#[test]
fn refused_rom_is_told_apart() {
    let unknown = || dhcp(DhcpStep::Discover, false, Some(DhcpAnswer::UnknownMachine));
    let requests = [(1000, unknown()), (1004, unknown()), (1012, unknown())];
    assert_eq!(verdict(booted_then(requests.clone().into_iter().take(2)), 2000).0, BootState::Booted);
    assert_eq!(verdict(booted_then(requests), 2000).0, BootState::Unknown);
}

#[test]
fn file_that_follows_makes_it_a_boot() {
    let loaded = transfer("snponly.efi", TransferOutcome::Complete);
    let boot = [(1000, discover()), (1003, request()), (1004, boot_server()), (1005, loaded)];
    let record = record_of(booted_then(boot));
    assert_eq!(record.progress.journey_started_at, at(1000));
    assert_eq!(record.progress.stage, BootStage::Loaded { file: "snponly.efi".into(), http: false });
    let session = record.progress.dhcp.expect("DHCP");
    assert_eq!((session.discovers, session.used_boot_server), (1, true));
    assert_eq!((record.progress.journeys_without_hook, record.progress.dhcp_after_boot), (1, None));
    // Requests of the day before are not of this boot.
    let late = [(1000, discover()), (90_000, EventKind::SessionStarted)];
    assert_eq!(record_of(booted_then(late)).progress.journey_started_at, at(90_000));
}

#[test]
fn boot_request_that_follows_makes_it_a_boot() {
    let boot =
        [(1000, dhcp(DhcpStep::Discover, true, None)), (1009, boot_request(1, BootOutcome::Boot, None))];
    let record = record_of(booted_then(boot));
    assert_eq!(record.progress.journey_started_at, at(1000));
    assert_eq!(record.progress.stage, BootStage::ScriptSent { attempt: 1 });
    assert_eq!(record.progress.hooked_at, None);
}

#[test]
fn report_ends_what_nothing_followed() {
    let sequence_ = boot_until(BootStep::Hooked)
        .into_iter()
        .chain(sequence([(20, discover()), (30, boot_report(BootStep::Up, None, 1))]));
    let (state, text) = verdict(sequence_.collect(), 2000);
    assert_eq!((state, text.as_str()), (BootState::Booted, "booted after 30 s"));
}

#[test]
fn forged_requests_do_not_push_out_the_timeline() {
    let forged = (0..2000).map(|number| {
        let kind = EventKind::Dhcp(DhcpEvent {
            firmware: format!("architecture {}", 100 + number % 7),
            step: if number % 2 == 0 { DhcpStep::Discover } else { DhcpStep::Request },
            ipxe: number % 3 == 0,
            answer: None,
            file: None,
            server: None,
            relay: None,
            watched: false,
            node: None,
            name: None,
        });
        (1000 + number * 100, kind)
    });
    let mut index = MachineIndex::new(Bounds::default());
    let boot = events(boot_until(BootStep::Up));
    let kept = boot.len();
    for event in boot.into_iter().chain(events(sequence(forged))) {
        index.insert(&event);
        index.expire_recent(event.at);
    }
    let found: Vec<_> = index.uncommitted.events.values().flatten().collect();
    let is_dhcp = |event: &&&Event| matches!(event.kind, EventKind::Dhcp(_));
    assert_eq!(found.iter().filter(|event| !is_dhcp(event)).count(), kept);
    let counts: Vec<u32> = found.iter().filter(is_dhcp).map(|event| event.count).collect();
    assert_eq!(counts.len(), 16);
    assert_eq!(counts.iter().sum::<u32>(), 2000);
}
