//! Tests of the history file: restarts, damaged and older files, and operation without a file.

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

/// Creates a history file that claims a schema.
fn write_schema(path: &Path, schema: u64) {
    let database = redb::Database::create(path).expect("creates");
    let write = database.begin_write().expect("begins");
    let table: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    write.open_table(table).expect("opens").insert("schema", schema).expect("inserts");
    write.commit().expect("commits");
}
