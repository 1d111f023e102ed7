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

/// 10,000 machines with all the history that is kept: how long it takes to begin, and how much memory that is.
/// `cargo test --release --lib -- --ignored --nocapture ten_thousand`
#[test]
#[ignore = "a measurement, for a release build"]
fn ten_thousand_machines_with_full_history() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    let timeline = Timeline::open(Some(&path), Metrics::new());
    let journeys =
        std::env::var("VOLBOOT_JOURNEYS").ok().and_then(|journeys| journeys.parse().ok()).unwrap_or(8);
    for journey in 0..journeys {
        for number in 0..10_000u32 {
            let [_, a, b, c] = number.to_be_bytes();
            let card = Mac::new([0x52, 0x54, 0, a, b, c]);
            for (seconds, _, what) in then(vec![(12, true, reported("hooked", None, 1))]) {
                while timeline.queue() > QUEUE / 2 {
                    std::thread::yield_now();
                }
                timeline.tell(Event::new(at(journey * 600 + seconds), Some(card), address(), what));
            }
        }
    }
    timeline.close_blocking();
    drop(timeline);
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").expect("is there");
        pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096 / 1024
    };
    let (before, began) = (resident(), Instant::now());
    let timeline = Timeline::open(Some(&path), Metrics::new());
    let took = began.elapsed();
    let size = std::fs::metadata(&path).expect("is there").len() >> 20;
    println!("opened in {took:?}: {} machines, {size} MiB on disk", timeline.len());
    println!("{} KiB before, {} KiB after", before, resident());
    let began = Instant::now();
    let events = timeline.events_blocking(Key::Mac(Mac::new([0x52, 0x54, 0, 0, 0, 7])));
    println!("{} events of one machine in {:?}", events.len(), began.elapsed());
    let began = Instant::now();
    let machines = timeline.machines(|machine| machine.verdict.state == State::HandedOver);
    println!("{} machines listed in {:?}", machines.len(), began.elapsed());
}
