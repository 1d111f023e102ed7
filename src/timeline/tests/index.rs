//! Tests of the index: assignment of events to machines, merging, and eviction.

use super::*;
use crate::timeline::recent::RECENT_CAPACITY;
use crate::timeline::record::EvictionClass;

#[test]
fn events_of_an_address_move_to_the_machine_that_requests_from_it() {
    let mut index = MachineIndex::new(Bounds::default());
    for event in events(session_start()) {
        index.insert(&event);
    }
    assert_eq!(index.len(), 1, "the address has no record of its own any more");
    let (id, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    let progress = &record.progress;
    assert_eq!(
        (record.event_count, progress.journey_started_at, progress.journeys_without_hook),
        (4, at(0), 1)
    );
    let events = index.uncommitted.events.range((id, 0)..=(id, 9));
    assert_eq!(events.filter(|(_, event)| event.is_some()).count(), 4);
}

#[test]
fn events_older_than_the_session_gap_stay_with_the_address() {
    let mut index = MachineIndex::new(Bounds::default());
    for event in events(vec![
        (0, false, transfer("undionly.kpxe", TransferOutcome::Complete)),
        (301, true, boot_request(1, BootOutcome::Boot, None)),
    ]) {
        index.insert(&event);
    }
    assert_eq!(index.len(), 2);
    let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    assert_eq!(record.event_count, 1);
}

/// A boot request for [`CARD`] that the requester's place contradicts; from the card or the address with this number.
fn rejected_claim(seconds: i64, mac: Option<Mac>, number: u32) -> Event {
    let mut kind = boot_request(1, BootOutcome::Refused, Some("node web-1: no port has the address"));
    if let EventKind::BootRequest(request) = &mut kind {
        request.claimed_mac = Some(CARD);
    }
    let address = IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number));
    Event::new(at(seconds), mac, Some(address), kind)
}

#[test]
fn rejected_claim_stays_with_the_requester_and_shows_nothing_of_the_machine() {
    let mut index = MachineIndex::new(Bounds::default());
    for event in events(session_start()) {
        index.insert(&event);
    }
    let hooked = boot_report(BootStep::Hooked, None, 1);
    index.insert(&Event::new(at(9), Some(CARD), address(), hooked));
    let other = Mac::new([0x52, 0x54, 0, 0, 0, 9]);
    for n in 0..10 {
        index.insert(&rejected_claim(20 + n, None, 1));
        index.insert(&rejected_claim(20 + n, Some(other), 2));
    }
    let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    let verdict = Verdict::new(&record.progress, at(31));
    assert_eq!(
        (record.event_count, record.address, verdict.state, record.last_seen),
        (5, address(), BootState::Hooked, at(9))
    );
    let id = MachineId::Address("10.0.0.1".parse().expect("an address"));
    for id in [id, MachineId::Mac(other)] {
        let (_, record) = index.get(id).expect("the requester has a record");
        let verdict = Verdict::new(&record.progress, at(31));
        assert_eq!(verdict.text, "refused: node web-1: no port has the address");
        assert_eq!((record.event_count, record.node, record.macs.len()), (10, None, 0), "{id}");
        assert!(record.is_rejected && record.class() < EvictionClass::Node);
    }

    // Behind the same address as the requester, a machine does not take over its claims to be another one.
    let third = Mac::new([0x52, 0x54, 0, 0, 0, 3]);
    let request = boot_request(1, BootOutcome::Boot, None);
    index.insert(&Event::new(at(32), Some(third), "10.0.0.1".parse().ok(), request));
    assert_eq!(index.get(MachineId::Mac(third)).expect("a record").1.event_count, 1);
    assert_eq!(index.get(id).expect("a record").1.event_count, 10);
}

#[test]
fn request_before_the_neighbour_table_had_an_entry_moves_to_the_machine() {
    let mut index = MachineIndex::new(Bounds::default());
    let mut wait = rejected_claim(0, None, 1);
    if let EventKind::BootRequest(request) = &mut wait.kind {
        request.outcome = BootOutcome::Wait;
    }
    index.insert(&wait);
    index.insert(&Event::new(at(5), Some(CARD), wait.address, boot_request(1, BootOutcome::Boot, None)));
    let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    assert_eq!((index.len(), record.event_count, record.is_rejected), (1, 2, false));
}

#[test]
fn moved_event_that_is_older_than_the_last_one_starts_no_session() {
    let mut index = MachineIndex::new(Bounds::default());
    for start in [0, 100] {
        for (seconds, has_mac, kind) in [
            (0, true, transfer("undionly.kpxe", TransferOutcome::Complete)),
            // No client acknowledges an error, so the request may be forged.
            (3, false, transfer("autoexec.ipxe", TransferOutcome::NotFound)),
            (4, true, EventKind::SessionStarted),
            (5, true, boot_request(1, BootOutcome::Boot, None)),
        ] {
            index.insert(&Event::new(at(start + seconds), has_mac.then_some(CARD), address(), kind));
        }
    }
    let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    let progress = &record.progress;
    assert_eq!((index.len(), record.event_count), (1, 8));
    assert_eq!((progress.journeys_without_hook, progress.journey_started_at), (2, at(100)));
}

#[test]
fn equal_events_within_a_second_are_merged() {
    let mut index = MachineIndex::new(Bounds::default());
    let sequence = vec![
        (0, true, boot_request(1, BootOutcome::Boot, None)),
        (0, true, boot_request(1, BootOutcome::Boot, None)),
        (0, true, boot_request(2, BootOutcome::Boot, None)),
        (0, true, boot_request(1, BootOutcome::Boot, None)),
        (1, true, boot_request(1, BootOutcome::Boot, None)),
    ];
    for event in events(sequence) {
        index.insert(&event);
    }
    let counts: Vec<_> = index.uncommitted.events.values().flatten().map(|event| event.count).collect();
    assert_eq!(counts, [3, 1, 1]);
}

#[test]
fn repeated_waits_are_merged_for_as_long_as_the_machine_waits() {
    let mut index = MachineIndex::new(Bounds::default());
    for n in 0..200 {
        let reason = format!("Cinder does not answer; {n} requests are ahead");
        let kind = boot_request(1, BootOutcome::Wait, Some(&reason));
        index.insert(&Event::new(at(n * 10), Some(CARD), address(), kind));
        index.expire_recent(at(n * 10));
    }
    let counts: Vec<_> = index.uncommitted.events.values().flatten().map(|event| event.count).collect();
    assert_eq!(counts, [200]);
    let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    let verdict = Verdict::new(&record.progress, at(1995));
    assert_eq!(
        (verdict.state, verdict.text.as_str()),
        (BootState::Waiting, "waiting: Cinder does not answer; 199 requests are ahead")
    );
}

#[test]
fn sessions_without_a_hooked_volume_are_counted_until_a_volume_is_hooked() {
    let mut index = MachineIndex::new(Bounds::default());
    let mut now = 0;
    let mut session = |index: &mut MachineIndex, hooks: bool| {
        for (seconds, has_mac, kind) in session_start() {
            index.insert(&Event::new(at(now + seconds), has_mac.then_some(CARD), address(), kind));
        }
        if hooks {
            let kind = boot_report(BootStep::Hooked, None, 1);
            index.insert(&Event::new(at(now + 9), Some(CARD), address(), kind));
        }
        now += 100;
        index.get(MachineId::Mac(CARD)).expect("a record").1.progress.journeys_without_hook
    };
    assert_eq!([1, 2, 3].map(|_| session(&mut index, false)), [1, 2, 3]);
    assert_eq!(session(&mut index, true), 1);
    assert_eq!([1, 2].map(|_| session(&mut index, false)), [1, 2]);
}

#[test]
fn a_delayed_machine_is_looping_until_it_hooks_its_volume() {
    let mut sequence = loop_delay(5, 6);
    sequence.push((65, true, boot_request(1, BootOutcome::Boot, None)));
    assert_eq!(
        verdict(sequence.clone(), 66),
        (
            BootState::Looping,
            "boot loop: 6 boot sessions without a hooked volume; now: boot script sent; no report from the machine yet"
                .to_owned()
        )
    );
    let hooked = (70, true, boot_report(BootStep::Hooked, None, 1));
    assert_eq!(verdict(sequence.into_iter().chain([hooked]).collect(), 71).0, BootState::Hooked);
}

#[test]
fn bounds_hold_and_forged_addresses_evict_only_each_other() {
    let bounds = Bounds { events_per_machine: 5, events: 40, machines: 6, ..Bounds::default() };
    let mut index = MachineIndex::new(bounds);
    for event in events(session_start()) {
        index.insert(&event);
    }
    for seconds in 10..30 {
        index.insert(&Event::new(
            at(seconds),
            Some(CARD),
            address(),
            boot_request(1, BootOutcome::Boot, None),
        ));
    }
    assert_eq!(index.get(MachineId::Mac(CARD)).expect("a record").1.event_count, 5);
    for last in 0..=255 {
        let forged = IpAddr::from([198, 51, 100, last]);
        index.insert(&Event::new(
            at(100),
            None,
            Some(forged),
            transfer("undionly.kpxe", TransferOutcome::Complete),
        ));
        assert!(index.len() <= bounds.machines);
    }
    let stored: usize = index.uncommitted.events.values().flatten().count();
    assert!(stored <= 40, "{stored}");
    assert!(index.get(MachineId::Mac(CARD)).is_some(), "a machine with a node was evicted");
    for _ in 0..2 * RECENT_CAPACITY {
        index.insert(&Event::new(at(200), None, address(), transfer("a", TransferOutcome::Complete)));
    }
}

/// Requests for a missing file from the address with this number, ten seconds apart.
fn missing_file(number: u32, seconds: i64, length: usize) -> Event {
    let file = format!("{number:x}-{seconds}-{}", "x".repeat(length));
    let address = IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number));
    Event::new(at(seconds), None, Some(address), http_fetch(&file, None))
}

#[test]
fn strangers_share_of_the_bytes_holds_whatever_the_names() {
    let bounds = Bounds { stranger_bytes: 200_000, recent_bytes: 50_000, ..Bounds::default() };
    let mut index = MachineIndex::new(bounds);
    for event in events(session_start()) {
        index.insert(&event);
    }
    for round in 0..20 {
        for number in 0..100 {
            index.insert(&missing_file(number, 1000 + round * 10, 15_000));
            assert!(index.recent_bytes() <= 51_000, "{}", index.recent_bytes());
        }
    }
    let bytes = |index: &MachineIndex| -> usize {
        index.uncommitted.events.values().flatten().map(Event::byte_size).sum()
    };
    assert!((100_000..200_000).contains(&bytes(&index)), "{}", bytes(&index));
    assert!(!index.evicted.is_empty() && index.evicted.iter().all(|class| class.as_label() == "address"));
    let id = MachineId::Mac(CARD);
    assert_eq!(index.get(id).expect("the machine with a node stays").1.event_count, 4);
    // One address alone cannot exceed the bound of a machine.
    for seconds in 0..1000 {
        index.insert(&missing_file(7, 10_000 + seconds, 15_000));
    }
    assert!(bytes(&index) < 200_000 + 100 * 1000, "{}", bytes(&index));
}

#[test]
fn recent_events_of_strangers_give_way_first() {
    let mut index = MachineIndex::new(Bounds { recent_bytes: 50_000, ..Bounds::default() });
    let unidentified = transfer("undionly.kpxe", TransferOutcome::Complete);
    for number in 0..500 {
        index.insert(&missing_file(number, 0, 1000));
    }
    index.insert(&Event::new(at(1), None, address(), unidentified));
    index.insert(&Event::new(at(2), Some(CARD), address(), boot_request(1, BootOutcome::Boot, None)));
    let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    assert_eq!(record.event_count, 2, "the latest transfer moves to its machine");
}

#[test]
fn times_follow_a_clock_that_is_set_back() {
    const TEN_YEARS: i64 = 10 * 365 * 24 * 3600;
    let mut index = MachineIndex::new(Bounds::default());
    let other = Mac::new([0x52, 0x54, 0, 0, 0, 2]);
    for card in [CARD, other] {
        for (seconds, _, kind) in session_start() {
            index.insert(&Event::new(at(TEN_YEARS + seconds), Some(card), address(), kind));
        }
    }
    // The same event by the right clock is another one.
    index.insert(&Event::new(at(5), Some(CARD), address(), boot_request(1, BootOutcome::Boot, None)));
    let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    assert_eq!((record.event_count, record.last_seen, record.first_seen), (5, at(5), at(5)));
    // A machine that stays away is not the last one seen, nor booting, for ten years.
    let (_, record) = index.get(MachineId::Mac(other)).expect("a record");
    assert_eq!((record.last_seen, record.progress.journey_started_at), (at(5), at(5)));
    assert_eq!(Verdict::new(&record.progress, at(1000)).state, BootState::Stopped);
    index.expire_recent(at(1000));
    assert_eq!(index.recent_bytes(), 0, "no event of the future stays in memory");
    // Slightly late events of other tasks correct nothing.
    index.insert(&Event::new(at(1000), Some(CARD), address(), boot_report(BootStep::Hooked, None, 1)));
    index.insert(&Event::new(at(999), Some(other), address(), boot_report(BootStep::Hooked, None, 1)));
    assert_eq!(index.get(MachineId::Mac(CARD)).expect("a record").1.last_seen, at(1000));
}
