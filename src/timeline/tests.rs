//! Timelines as they come about: stories told event by event, and what is made of them.

use std::time::{Duration, Instant};

use super::machines::UNCLAIMED;
use super::*;
use crate::telemetry::{Answered, Resolved, Transfer, What};

const CARD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
/// How long anything here may take before it has failed.
const LIMIT: Duration = Duration::from_secs(20);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
}

fn address() -> Option<IpAddr> {
    "192.0.2.7".parse().ok()
}

fn transfer(file: &str, outcome: &'static str) -> What {
    What::Transfer(Transfer {
        file: file.into(),
        outcome: outcome.into(),
        size: 100,
        block_size: 1468,
        window: 4,
        blocks: 1,
        again: 0,
        millis: 5,
        words: None,
    })
}

fn answered(attempt: u32, outcome: &'static str, reason: Option<&str>) -> What {
    let boots = outcome == "boot";
    What::Answered(Box::new(Answered {
        attempt,
        tries: 3,
        macs: vec![CARD],
        platform: Some("pcbios".into()),
        arch: Some("i386".into()),
        uuid: None,
        node: boots.then(|| Uuid::from_u128(7)),
        resolved: if boots {
            vec![Resolved { volume: "root".into(), source: "cinder".into(), millis: 40, fault: None }]
        } else {
            Vec::new()
        },
        hooks: if boots { vec!["root".into(), "data".into()] } else { Vec::new() },
        outcome: outcome.into(),
        reason: reason.map(str::to_owned),
        micros: 900,
    }))
}

fn reported(step: &'static str, rc: Option<&str>, attempt: u32) -> What {
    What::Reported { step: Some(step.into()), rc: rc.map(str::to_owned), attempt }
}

/// A story: seconds, whether the card is known, what happened.
type Story = Vec<(i64, bool, What)>;

fn events(story: Story) -> Vec<Event> {
    let event = |(seconds, known, what): (i64, bool, What)| {
        Event::new(at(seconds), known.then_some(CARD), address(), what)
    };
    story.into_iter().map(event).collect()
}

/// What a machine of which this was seen has come to at a time.
fn verdict(story: Story, now: i64) -> (State, String) {
    let mut machines = Machines::new(Bounds::default());
    for event in events(story) {
        machines.take(&event);
    }
    let key = if machines.get(Key::Mac(CARD)).is_some() {
        Key::Mac(CARD)
    } else {
        Key::Address(address().expect("an address"))
    };
    let (_, track) = machines.get(key).expect("is known");
    let verdict = Verdict::of(&track.progress, at(now));
    (verdict.state, verdict.text)
}

/// As a machine begins: over TFTP, then by its first two scripts.
fn begun() -> Story {
    vec![
        (0, false, transfer("undionly.kpxe", "probe")),
        (0, false, transfer("undionly.kpxe", "complete")),
        (4, false, What::Gathered),
        (5, true, answered(1, "boot", None)),
    ]
}

fn then(rest: Story) -> Story {
    begun().into_iter().chain(rest).collect()
}

#[test]
fn every_end_has_its_sentence() {
    let hook = |rc| then(vec![(7, true, reported("hook-0", Some(rc), 1))]);
    for (story, now, state, sentence) in [
        (begun()[..2].to_vec(), 30, State::Booting, "has read undionly.kpxe over TFTP"),
        (
            begun()[..2].to_vec(),
            90,
            State::Stopped,
            "stopped after it read undionly.kpxe over TFTP, because it never asked for a script",
        ),
        (
            vec![(0, false, transfer("pxelinux.0", "not found"))],
            0,
            State::Stopped,
            "stopped at reading pxelinux.0 over TFTP, because there is no such file",
        ),
        (
            vec![(0, false, transfer("ipxe.efi", "timed out"))],
            0,
            State::Stopped,
            "stopped at reading ipxe.efi over TFTP, because it was not heard of any more",
        ),
        (
            begun()[..3].to_vec(),
            70,
            State::Stopped,
            "stopped after it read /boot.ipxe, because it never asked for its own script",
        ),
        (begun(), 20, State::Booting, "has its script; nothing is heard of its volumes yet"),
        (
            begun(),
            300,
            State::Stopped,
            "stopped after its script was sent, because nothing was heard for 180 s: neither a volume nor an error",
        ),
        (
            vec![(0, true, answered(1, "unknown", Some("no node has a port with the address X")))],
            500,
            State::Unknown,
            "stopped at its question, because no node has a port with the address X",
        ),
        (
            vec![(0, true, answered(1, "refuse", Some("node web-1 is in maintenance: disks")))],
            500,
            State::Stopped,
            "stopped at its question, because node web-1 is in maintenance: disks",
        ),
        (
            vec![(0, true, answered(1, "local disk", Some("node web-1: storage interface is noop")))],
            500,
            State::LocalDisk,
            "was sent to its local disk, because node web-1: storage interface is noop",
        ),
        (
            vec![(0, true, answered(1, "wait", Some("Cinder does not answer")))],
            20,
            State::Waiting,
            "waits, because Cinder does not answer",
        ),
        (
            vec![(0, true, answered(1, "wait", Some("Cinder does not answer")))],
            900,
            State::Stopped,
            "stopped while it waited, because it never asked again; it waited because Cinder does not answer",
        ),
        (
            hook("0x410d6139"),
            8,
            State::Retrying,
            "stopped at connecting to volume root, because the target refused the name and password (CHAP) \
             [0x410d6139] (try 1 of 3, and it tries again)",
        ),
        (
            then(vec![
                (7, true, reported("hook-1", Some("0x2c0d6039"), 1)),
                (9, true, answered(2, "boot", None)),
            ]),
            12,
            State::Retrying,
            "stopped at connecting to volume data, because the target does not know the volume's name (IQN), or not \
             yet [0x2c0d6039] (try 1); now at try 2",
        ),
        (
            then(vec![
                (9, true, answered(3, "boot", None)),
                (10, true, reported("hooked", None, 3)),
                (11, true, reported("boot", Some("0x7f22208e"), 3)),
            ]),
            500,
            State::Stopped,
            "stopped at starting from its volume, because there is no boot loader on the volume that UEFI firmware can \
             start [0x7f22208e] (try 3, and it gave up)",
        ),
        (
            then(vec![(6, true, reported("hook-0", Some("0x12345678"), 1))]),
            6,
            State::Retrying,
            "stopped at connecting to volume root, with iPXE's error 0x12345678 (try 1 of 3, and it tries again)",
        ),
        (
            then(vec![(12, true, reported("hooked", None, 1))]),
            100,
            State::Hooked,
            "hooked its volume, 12 s after it began",
        ),
        (
            then(vec![(12, true, reported("hooked", None, 1))]),
            193,
            State::HandedOver,
            "handed over: hooked its volume, 12 s after it began, and no complaint in 3 min",
        ),
        (
            then(vec![(12, true, reported("hooked", None, 1)), (31, true, reported("up", None, 1))]),
            9000,
            State::Booted,
            "booted, 31 s after it began",
        ),
    ] {
        assert_eq!(verdict(story, now), (state, sentence.to_owned()));
    }
}

#[test]
fn a_script_that_was_sent_is_never_a_boot() {
    for now in [5, 60, 600, 60_000] {
        let (state, text) = verdict(begun(), now);
        assert!(matches!(state, State::Booting | State::Stopped), "{text}");
    }
}

#[test]
fn what_an_address_read_goes_to_the_machine_that_asks_from_there() {
    let mut machines = Machines::new(Bounds::default());
    for event in events(begun()) {
        machines.take(&event);
    }
    assert_eq!(machines.len(), 1, "the address is no machine of its own any more");
    let (id, track) = machines.get(Key::Mac(CARD)).expect("is known");
    assert_eq!((track.count, track.progress.began, track.progress.journeys), (4, at(0), 1));
    assert_eq!(
        machines.waiting.events.range((id, 0)..=(id, 9)).filter(|(_, event)| event.is_some()).count(),
        4
    );
}

#[test]
fn what_an_address_read_long_ago_stays_with_the_address() {
    let mut machines = Machines::new(Bounds::default());
    for event in events(vec![
        (0, false, transfer("undionly.kpxe", "complete")),
        (301, true, answered(1, "boot", None)),
    ]) {
        machines.take(&event);
    }
    assert_eq!(machines.len(), 2);
    let (_, track) = machines.get(Key::Mac(CARD)).expect("is known");
    assert_eq!(track.count, 1);
}

#[test]
fn the_same_within_a_second_is_counted() {
    let mut machines = Machines::new(Bounds::default());
    let story = vec![
        (0, true, answered(1, "boot", None)),
        (0, true, answered(1, "boot", None)),
        (0, true, answered(2, "boot", None)),
        (0, true, answered(1, "boot", None)),
        (1, true, answered(1, "boot", None)),
    ];
    for event in events(story) {
        machines.take(&event);
    }
    let kept: Vec<_> = machines.waiting.events.values().flatten().map(|event| event.times).collect();
    assert_eq!(kept, [3, 1, 1]);
}

#[test]
fn journeys_without_a_volume_are_counted_and_a_volume_ends_the_count() {
    let mut machines = Machines::new(Bounds::default());
    let mut now = 0;
    let mut journeys = |machines: &mut Machines, hooks: bool| {
        for (seconds, known, what) in begun() {
            machines.take(&Event::new(at(now + seconds), known.then_some(CARD), address(), what));
        }
        if hooks {
            machines.take(&Event::new(at(now + 9), Some(CARD), address(), reported("hooked", None, 1)));
        }
        now += 100;
        machines.get(Key::Mac(CARD)).expect("is known").1.progress.journeys
    };
    assert_eq!([1, 2, 3].map(|_| journeys(&mut machines, false)), [1, 2, 3]);
    assert_eq!(journeys(&mut machines, true), 1);
    assert_eq!([1, 2].map(|_| journeys(&mut machines, false)), [1, 2]);
}

#[test]
fn one_that_was_paced_stands_out_until_it_hooks_its_volume() {
    let paced = (5, true, What::Paced { journeys: 6, seconds: 60 });
    let waits = (5, true, answered(1, "wait", Some("it began too often")));
    let story = vec![paced, waits, (65, true, answered(1, "boot", None))];
    assert_eq!(
        verdict(story.clone(), 66),
        (
            State::Looping,
            "began 6 times without ever hooking its volume; now: has its script; nothing is heard of its volumes yet"
                .to_owned()
        )
    );
    let hooked = (70, true, reported("hooked", None, 1));
    assert_eq!(verdict(story.into_iter().chain([hooked]).collect(), 71).0, State::Hooked);
}

#[test]
fn bounds_hold_and_strangers_drive_out_strangers() {
    let bounds = Bounds { events_each: 5, events: 40, machines: 6 };
    let mut machines = Machines::new(bounds);
    for event in events(begun()) {
        machines.take(&event);
    }
    for seconds in 10..30 {
        machines.take(&Event::new(at(seconds), Some(CARD), address(), answered(1, "boot", None)));
    }
    assert_eq!(machines.get(Key::Mac(CARD)).expect("is known").1.count, 5);
    for last in 0..=255 {
        let stranger = IpAddr::from([198, 51, 100, last]);
        machines.take(&Event::new(at(100), None, Some(stranger), transfer("undionly.kpxe", "complete")));
        assert!(machines.len() <= bounds.machines);
    }
    let kept: usize = machines.waiting.events.values().flatten().count();
    assert!(kept <= 40, "{kept}");
    assert!(machines.get(Key::Mac(CARD)).is_some(), "a registered machine stays");
    for _ in 0..2 * UNCLAIMED {
        machines.take(&Event::new(at(200), None, address(), transfer("a", "complete")));
    }
}

#[test]
fn timelines_survive_a_restart_and_a_crash() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    let told = events(begun());
    let before = {
        let timeline = Timeline::open(Some(&path), Metrics::new());
        told.iter().for_each(|event| timeline.tell(event.clone()));
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

#[test]
fn a_timeline_reads_as_a_story() {
    let story = then(vec![
        (7, true, reported("hook-1", Some("0xf0a6039"), 1)),
        (9, true, answered(2, "boot", None)),
        (12, true, reported("hooked", None, 2)),
    ]);
    let told: Vec<_> = words(events(story)).into_iter().map(|entry| entry.text).collect();
    assert_eq!(
        told,
        [
            "asked over TFTP how long undionly.kpxe is: 100 bytes",
            "read undionly.kpxe over TFTP: 100 bytes in 5 ms (1 blocks of 1468 bytes, window 4)",
            "read /boot.ipxe",
            "asked for its script (BIOS), try 1; volume root from Cinder, in 40 ms; it was sent",
            "try 1: connecting to volume data failed, because the storage refused the connection at the portal's port \
             [0xf0a6039]",
            "asked for its script (BIOS), try 2; volume root from Cinder, in 40 ms; it was sent",
            "hooked its volumes: it has logged in and found its disks",
        ]
    );
}

/// 10,000 machines with all the history that is kept: how long it takes to begin, and how much memory that is.
/// `cargo test --release --lib -- --ignored --nocapture ten_thousand`
#[test]
#[ignore = "a measurement, for a release build"]
fn ten_thousand_machines_with_full_history() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    let timeline = Timeline::open(Some(&path), Metrics::new());
    for journey in 0..8 {
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
