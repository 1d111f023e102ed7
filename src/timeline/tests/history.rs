//! Tests of the history file: restarts, damaged and older files, and operation without a file.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redb::TableDefinition;
use serde_json::json;

use super::*;

/// Time limit for each wait.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn timelines_survive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    let recorded = events(session_start());
    let before = {
        let timeline = Timeline::open_blocking(Some(&path), Metrics::new());
        for event in &recorded {
            timeline.record(event.clone());
        }
        timeline.close_blocking();
        timeline.machine(MachineId::Mac(CARD)).expect("a machine")
    };
    let timeline = Timeline::open_blocking(Some(&path), Metrics::new());
    assert_eq!(timeline.machine(MachineId::Mac(CARD)).expect("a machine"), before);
    assert_eq!(timeline.events_blocking(MachineId::Mac(CARD)), recorded);
    assert_eq!((timeline.dropped_events(), timeline.len()), (0, 1));
    // New events continue the timeline.
    timeline.record(Event::new(at(12), Some(CARD), address(), boot_report(BootStep::Hooked, None, 1)));
    let deadline = Instant::now() + LIMIT;
    while timeline.events_blocking(MachineId::Mac(CARD)).len() < 5 {
        assert!(Instant::now() < deadline, "the event is not in the timeline");
        std::thread::yield_now();
    }
    timeline.close_blocking();
    let entries = describe(timeline.events_blocking(MachineId::Mac(CARD)));
    assert_eq!(entries.len(), 0, "a closed history has no events");
}

#[test]
fn a_history_with_words_of_another_version_is_readable() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    let recorded: Event = serde_json::from_value(json!({
        "at": at(0), "mac": CARD, "kind": "boot_request", "attempt": 1, "tries": 3, "platform": "riscv",
        "resolutions": [{"volume": "root", "source": "guessed", "duration_ms": 0}],
        "outcome": "frobnicated", "reason": "no reason", "duration_us": 0,
    }))
    .expect("deserializes");
    let timeline = Timeline::open_blocking(Some(&path), Metrics::new());
    timeline.record(recorded.clone());
    timeline.close_blocking();

    let id = MachineId::Mac(CARD);
    let timeline = Timeline::open_blocking(Some(&path), Metrics::new());
    let machine = timeline.machine(id).expect("a machine");
    assert_eq!(machine.verdict.text, "frobnicated: no reason");
    assert_eq!(timeline.events_blocking(id), [recorded]);
    let entries = serde_json::to_value(describe(timeline.events_blocking(id))).expect("serializes");
    let entry = &entries[0];
    assert_eq!(entry["text"], "boot request, try 1; volume root: guessed in 0 ms; frobnicated: no reason");
    assert_eq!(
        (&entry["outcome"], &entry["resolutions"][0]["source"]),
        (&json!("frobnicated"), &json!("guessed"))
    );
}

#[test]
fn a_damaged_file_is_set_aside_and_a_missing_file_is_tolerated() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    std::fs::write(&path, [7; 8192]).expect("writes");
    let timeline = Timeline::open_blocking(Some(&path), Metrics::new());
    assert!(timeline.is_recording());
    assert!(directory.path().join("history.redb.damaged").exists());
    let without_file =
        Timeline::open_blocking(Some(&directory.path().join("missing/history.redb")), Metrics::new());
    assert!(!without_file.is_recording());
    let mut updates = without_file.subscribe();
    without_file.record(events(session_start()).remove(3));
    let update = updates.blocking_recv().expect("an update");
    assert_eq!(update.machine.id, MachineId::Mac(CARD));
    without_file.close_blocking();
    assert_eq!(without_file.dropped_events(), 1);
    assert_eq!(without_file.events_blocking(MachineId::Mac(CARD)), []);
    assert!(without_file.machine(MachineId::Mac(CARD)).is_some());
}

#[test]
fn a_file_with_an_older_schema_is_set_aside() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    write_schema(&path, 1);
    let timeline = Timeline::open_blocking(Some(&path), Metrics::new());
    assert!(timeline.is_recording() && timeline.is_empty());
    assert!(directory.path().join("history.redb.schema-1").exists());
}

#[test]
fn a_file_with_a_newer_schema_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    write_schema(&path, u64::MAX);
    assert!(!Timeline::open_blocking(Some(&path), Metrics::new()).is_recording());
    assert!(path.exists());
}

/// An event as a version without limits wrote it: a request for a file with a long name.
fn unlimited_event(number: u32, name: &str) -> Event {
    let address = Some(IpAddr::from([10, 0, (number >> 8) as u8, number as u8]));
    let kind = http_fetch("", None);
    Event { kind: http_fetch(name, None), ..Event::new(at(i64::from(number) % 1000), None, address, kind) }
}

/// Writes events directly, with records that do not count their bytes.
fn write_unlimited(path: &Path, events: impl Iterator<Item = Event>) {
    let history = History::open(path).expect("opens");
    let mut index = MachineIndex::new(Bounds { stranger_bytes: u64::MAX, ..Bounds::default() });
    for event in events {
        index.insert(&event);
    }
    index.set_event_sizes(&HashMap::new());
    index.in_commit = std::mem::take(&mut index.uncommitted);
    history.write(&index).expect("writes");
}

#[test]
fn a_file_that_is_too_large_is_compacted_at_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    let size = || std::fs::metadata(&path).expect("the file exists").len();
    let long = "x".repeat(15_000);
    let bounds = Bounds { small_file: 4 << 20, ..Bounds::default() };
    let strangers = (0..1000).map(|number| unlimited_event(number, &format!("{number}-{long}")));
    write_unlimited(&path, strangers.chain(events(session_start())));
    assert!(size() > 12 << 20, "{}", size());
    std::fs::write(directory.path().join("history.redb.new"), "of an interrupted copy").expect("writes");

    let timeline = Timeline::with_bounds(Some(&path), Metrics::new(), bounds, None);
    timeline.record(Event::new(at(2000), Some(CARD), address(), boot_report(BootStep::Hooked, None, 1)));
    timeline.close_blocking();
    // On a busy host, the compaction outlasts the time-out of the close, and ends after it.
    let deadline = Instant::now() + LIMIT;
    while timeline.is_recording() {
        assert!(Instant::now() < deadline, "the file is not closed");
        std::thread::yield_now();
    }
    assert!(size() < 4 << 20, "{}", size());
    assert!(!directory.path().join("history.redb.new").exists());

    let timeline = Timeline::open_blocking(Some(&path), Metrics::new());
    assert_eq!(timeline.events_blocking(MachineId::Mac(CARD)).len(), 5);
    let id = MachineId::Address(IpAddr::from([10, 0, 3, 7]));
    let machine = timeline.machine(id).expect("a stranger within the bounds stays");
    assert!(machine.verdict.text.len() < 300, "{}", machine.verdict.text);
    let events = timeline.events_blocking(id);
    let EventKind::HttpFetch { file, .. } = &events[0].kind else { panic!("{events:?}") };
    assert_eq!((events.len(), file.len()), (1, 128));
}

#[test]
fn the_queue_is_bounded_in_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let timeline = Timeline::open_blocking(Some(&directory.path().join("history.redb")), Metrics::new());
    // Holds up the history thread.
    let index = timeline.shared.index.write();
    let reason = "x".repeat(2000);
    for number in 0..QUEUE_CAPACITY as u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let mac = Some(Mac::new([2, 0, 0, a, b, c]));
        timeline.record(Event::new(
            at(0),
            mac,
            address(),
            boot_request(1, BootOutcome::Refused, Some(&reason)),
        ));
    }
    let queued_bytes = timeline.shared.queued_bytes.load(Ordering::Relaxed);
    assert!((QUEUE_BYTES / 2..=QUEUE_BYTES).contains(&queued_bytes), "{queued_bytes}");
    assert!(timeline.dropped_events() > 0);
    drop(index);
}

/// Creates a history file that claims a schema.
fn write_schema(path: &Path, schema: u64) {
    let database = redb::Database::create(path).expect("creates");
    let write = database.begin_write().expect("begins");
    let table: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    write.open_table(table).expect("opens").insert("schema", schema).expect("inserts");
    write.commit().expect("commits");
}

#[test]
fn a_history_on_a_read_only_disk_is_readable_and_unchanged() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    let recorded = events(session_start());
    let timeline = Timeline::open_blocking(Some(&path), Metrics::new());
    for event in &recorded {
        timeline.record(event.clone());
    }
    timeline.close_blocking();
    let before = std::fs::read(&path).expect("reads");

    let mut index = MachineIndex::new(Bounds::default());
    let history = open_read_only_history(&path, &mut index).expect("loads");
    assert!(history.is_read_only());
    assert_eq!(index.len(), 1);
    let id = index.get(MachineId::Mac(CARD)).expect("a machine").0;
    assert_eq!(history.events(id).expect("reads").len(), recorded.len());
    assert!(std::fs::read(&path).expect("reads") == before, "the file is unchanged");
    assert!(History::open_read_only(&directory.path().join("missing")).is_err());
}

/// A damaged page passes the open: redb verifies checksums in an integrity check only.
#[test]
fn a_history_with_damaged_pages_starts_empty_or_serves() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    {
        let timeline = Timeline::open_blocking(Some(&path), Metrics::new());
        for event in events(session_start()) {
            timeline.record(event);
        }
        timeline.close_blocking();
    }
    let bytes = std::fs::read(&path).expect("reads");
    let pages = bytes.chunks(4096).enumerate().skip(1).filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    for (page, _) in pages {
        let copy = directory.path().join(format!("copy-{page}.redb"));
        let mut damaged = bytes.clone();
        damaged[page * 4096..][..4096].fill(0xA5);
        std::fs::write(&copy, damaged).expect("writes");
        let timeline = Timeline::open_blocking(Some(&copy), Metrics::new());
        for event in events(session_start()) {
            timeline.record(event);
        }
        timeline.close_blocking();
        assert_eq!(timeline.len(), 1, "page {page}");
    }
}
