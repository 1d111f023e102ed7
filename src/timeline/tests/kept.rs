//! The file: what it keeps over a restart, and what happens without it.

use std::time::{Duration, Instant};

use super::*;

/// How long anything here may take before it has failed.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn timelines_survive_a_restart_and_a_crash() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    let told = events(begun());
    let before = {
        let timeline = Timeline::open(Some(&path), Metrics::new());
        for event in &told {
            timeline.tell(event.clone());
        }
        timeline.close_blocking();
        timeline.machine(Key::Mac(CARD)).expect("is known")
    };
    let timeline = Timeline::open(Some(&path), Metrics::new());
    assert_eq!(timeline.machine(Key::Mac(CARD)).expect("is known"), before);
    assert_eq!(timeline.events_blocking(Key::Mac(CARD)), told);
    assert_eq!((timeline.lost(), timeline.len()), (0, 1));
    // It goes on where it was.
    timeline.tell(Event::new(at(12), Some(CARD), address(), reported("hooked", None, 1)));
    let deadline = Instant::now() + LIMIT;
    while timeline.events_blocking(Key::Mac(CARD)).len() < 5 {
        assert!(Instant::now() < deadline, "it is told");
        std::thread::yield_now();
    }
    timeline.close_blocking();
    assert_eq!(words(timeline.events_blocking(Key::Mac(CARD))).len(), 0, "what is closed is not read");
}

#[test]
fn a_damaged_file_is_put_aside_and_no_file_at_all_is_no_hindrance() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    std::fs::write(&path, [7; 8192]).expect("is written");
    let timeline = Timeline::open(Some(&path), Metrics::new());
    assert!(timeline.is_kept());
    assert!(directory.path().join("history.redb.damaged").exists());
    let nowhere = Timeline::open(Some(&directory.path().join("missing/history.redb")), Metrics::new());
    assert!(!nowhere.is_kept());
    let mut followed = nowhere.follow();
    nowhere.tell(events(begun()).remove(3));
    let told = followed.blocking_recv().expect("is told");
    assert_eq!(told.machine.id, Key::Mac(CARD));
    nowhere.close_blocking();
    assert_eq!(nowhere.lost(), 1);
    assert_eq!(nowhere.events_blocking(Key::Mac(CARD)), []);
    assert!(nowhere.machine(Key::Mac(CARD)).is_some());
}
