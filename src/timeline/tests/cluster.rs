//! Tests of events of other instances: joined once, in the order of time.

use std::path::Path;
use std::time::Instant;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn name(number: u8) -> InstanceName {
    format!("boot-{number}").parse().expect("a name")
}

fn open(history: Option<&Path>) -> Timeline {
    Timeline::open_instance_blocking(history, Metrics::new(), name(1))
}

/// An event this long before the first one of the process.
fn event(seconds_ago: i64, mac: Option<Mac>, kind: EventKind) -> Event {
    static START: std::sync::LazyLock<Timestamp> = std::sync::LazyLock::new(Timestamp::now);
    Event::new(*START - jiff::SignedDuration::from_secs(seconds_ago), mac, address(), kind)
}

/// A batch of boot-2 whose last event has this number.
fn batch(last: u64, events: Vec<Event>) -> PeerBatch {
    let first = last + 1 - events.len() as u64;
    PeerBatch {
        instance: name(2),
        end: Some(EventPosition { stream: 5, number: last }),
        has_gap: false,
        is_complete: false,
        events: (first..).zip(events).collect(),
    }
}

fn wait_for_queue(timeline: &Timeline) {
    let deadline = Instant::now() + LIMIT;
    while timeline.queued_events() > 0 {
        assert!(Instant::now() < deadline, "the timeline has not processed the event");
        std::thread::yield_now();
    }
}

fn texts(timeline: &Timeline) -> Vec<String> {
    describe(timeline.events_blocking(MachineId::Mac(CARD))).into_iter().map(|entry| entry.text).collect()
}

fn verdict_text(timeline: &Timeline) -> String {
    timeline.machine(MachineId::Mac(CARD)).expect("a machine").verdict.text
}

#[tokio::test]
async fn each_event_is_joined_once_even_over_restarts() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    let timeline = open(Some(&path));
    let request = |seconds| event(seconds, Some(CARD), boot_request(1, BootOutcome::Boot, None));
    let hooked = event(5, Some(CARD), boot_report(BootStep::Hooked, None, 1));
    timeline.join(batch(1, vec![request(9)])).await;
    timeline.join(batch(2, vec![request(9), hooked.clone()])).await;
    assert_eq!(texts(&timeline).len(), 2);
    timeline.close_blocking();
    let timeline = open(Some(&path));
    let progress = timeline.peer_progress();
    let position = progress.get("boot-2").and_then(PeerProgress::position);
    assert_eq!(position, Some(EventPosition { stream: 5, number: 2 }));
    timeline.join(batch(2, vec![request(9), hooked])).await;
    assert_eq!(texts(&timeline).len(), 2);
    let instances: Vec<_> = timeline.events_blocking(MachineId::Mac(CARD));
    assert!(instances.iter().all(|event| event.instance == Some(name(2))));
    assert!(timeline.outbox_page(None).events.is_empty(), "joined events are not for third instances");
}

#[tokio::test]
async fn late_events_take_their_place_in_time() {
    let timeline = open(None);
    let card = Some(CARD);
    // The machine reports to this instance before the events of the other arrive.
    timeline.record(event(2, card, boot_report(BootStep::Hooked, None, 2)));
    wait_for_queue(&timeline);
    assert_eq!(verdict_text(&timeline), "volume hooked after 0 s");
    let failed = boot_report(BootStep::Hook(0), Some("0x410d6139"), 1);
    timeline
        .join(batch(
            4,
            vec![
                event(19, card, EventKind::SessionStarted),
                event(18, card, boot_request(1, BootOutcome::Boot, None)),
                event(10, card, failed),
                event(8, card, boot_request(2, BootOutcome::Boot, None)),
            ],
        ))
        .await;
    assert_eq!(verdict_text(&timeline), "volume hooked after 17 s");
    assert_eq!(texts(&timeline).len(), 5);
    assert!(texts(&timeline)[4].starts_with("volumes hooked"));
    let machine = timeline.machine(MachineId::Mac(CARD)).expect("a machine");
    assert_eq!(machine.name.as_deref(), Some("web-1"));
}

#[tokio::test]
async fn late_file_of_an_address_belongs_to_the_machine_that_requested_from_it() {
    let timeline = open(None);
    timeline.record(event(2, Some(CARD), boot_request(1, BootOutcome::Boot, None)));
    wait_for_queue(&timeline);
    let complete = || transfer("undionly.kpxe", TransferOutcome::Complete);
    timeline.join(batch(2, vec![event(9, None, complete()), event(400, None, complete())])).await;
    assert_eq!(texts(&timeline).len(), 2);
    assert!(texts(&timeline)[0].starts_with("read undionly.kpxe"));
    // The other file is older than the session.
    assert_eq!(timeline.len(), 2);
    let started_at = timeline.machine(MachineId::Mac(CARD)).expect("a machine").journey_started_at;
    assert!(Timestamp::now().duration_since(started_at).as_secs() >= 9);
}

#[tokio::test]
async fn sessions_before_the_stored_events_are_not_forgotten() {
    let mut index = MachineIndex::new(Bounds { events_per_machine: 4, ..Bounds::default() });
    index.join_cluster(name(1));
    for session in 0..5 {
        let start = session * 60;
        index.insert(&Event::new(at(start), Some(CARD), address(), EventKind::SessionStarted));
        let request = boot_request(1, BootOutcome::Boot, None);
        index.insert(&Event::new(at(start + 1), Some(CARD), address(), request));
    }
    let failed = boot_report(BootStep::Hook(0), Some("0x410d6139"), 1);
    let late = Event { instance: Some(name(2)), ..Event::new(at(190), Some(CARD), None, failed) };
    let inserted = index.join(&late).expect("is of a machine");
    assert!(inserted.is_late);
    let (record_id, _) = index.get(inserted.id).expect("a record");
    let events = index.uncommitted.events.range((record_id, 0)..=(record_id, u64::MAX));
    let mut events: Vec<_> = events.filter_map(|(_, event)| event.clone()).collect();
    events.sort_by_key(|event| event.at);
    index.replay(inserted.id, &events);
    let (_, record) = index.get(inserted.id).expect("a record");
    assert_eq!(record.progress.journeys_without_hook, 5);
    assert_eq!((record.progress.journey_started_at, record.last_seen), (at(240), at(241)));
}

#[tokio::test]
async fn a_machine_that_waits_at_two_instances_has_two_events() {
    let mut index = MachineIndex::new(Bounds::default());
    index.join_cluster(name(1));
    for round in 0..50 {
        let wait = || boot_request(1, BootOutcome::Wait, Some("Cinder is away"));
        let own = Event::new(at(round * 6), Some(CARD), address(), wait());
        index.insert(&Event { instance: Some(name(1)), ..own });
        let other = Event::new(at(round * 6 + 3), Some(CARD), address(), wait());
        index.join(&Event { instance: Some(name(2)), ..other });
    }
    let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    assert_eq!((record.event_count, record.progress.updated_at), (2, at(297)));
}

#[tokio::test]
async fn own_events_are_numbered_and_survive_restarts_and_compaction() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    let timeline = open(Some(&path));
    for _ in 0..3 {
        timeline.record(event(0, Some(CARD), boot_request(1, BootOutcome::Boot, None)));
    }
    timeline.close_blocking();
    let first = timeline.outbox_page(None);
    assert_eq!(first.events.len(), 3);
    let bounds = Bounds { small_file: 0, ..Bounds::default() };
    let timeline = Timeline::with_bounds(Some(&path), Metrics::new(), bounds, Some(name(1)));
    assert_eq!(timeline.outbox_page(None), first);
    timeline.record(event(0, Some(CARD), boot_report(BootStep::Hooked, None, 1)));
    timeline.close_blocking();
    let next = timeline.outbox_page(first.end);
    assert_eq!((next.events.len(), next.events[0].0, next.has_gap), (1, 4, false));
    assert!(next.events[0].1.contains("\"instance\":\"boot-1\""), "{:?}", next.events);
    let reopened = open(Some(&path));
    assert_eq!(reopened.outbox_page(first.end).events, next.events);
}
