//! Timelines as they come about: stories told event by event, and what is made of them.

mod joined;
mod kept;
mod verdicts;

use super::*;
use crate::telemetry::{Answered, Resolved, Transfer};

const CARD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
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

fn fetched(file: &str, size: Option<u64>) -> What {
    What::Fetched { file: file.into(), size }
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
        name: boots.then(|| "web-1".into()),
        journey: None,
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
