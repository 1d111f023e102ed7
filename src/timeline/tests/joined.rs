//! Whose an event is, and what is kept of it.

use super::*;
use crate::timeline::machines::UNCLAIMED;

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
fn a_machine_that_waits_is_one_line_however_long() {
    let mut machines = Machines::new(Bounds::default());
    for asked in 0..200 {
        let reason = format!("Cinder does not answer; {asked} wait before it");
        let what = answered(1, "wait", Some(&reason));
        machines.take(&Event::new(at(asked * 10), Some(CARD), address(), what));
        machines.forget(at(asked * 10));
    }
    let kept: Vec<_> = machines.waiting.events.values().flatten().map(|event| event.times).collect();
    assert_eq!(kept, [200]);
    let (_, track) = machines.get(Key::Mac(CARD)).expect("is known");
    let verdict = Verdict::of(&track.progress, at(1995));
    assert_eq!(
        (verdict.state, verdict.text.as_str()),
        (State::Waiting, "waits, because Cinder does not answer; 199 wait before it")
    );
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
