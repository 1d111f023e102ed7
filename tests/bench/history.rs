//! Machines with journeys behind them, for the benchmarks: a history as a site's volboot has it.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use volboot::model::Mac;
use volboot::telemetry::{Answered, Event, Metrics, What};
use volboot::timeline::Timeline;

/// More events at once would not find room in the timeline's queue.
const AT_ONCE: u32 = 1000;
/// From one journey of a machine to its next.
const APART: SignedDuration = SignedDuration::from_mins(20);

/// Writes so many machines to the file, each with so many journeys behind it, of three events each.
pub(crate) fn fill(path: &Path, machines: u32, journeys: u32) {
    let timeline = Timeline::open(Some(path), Metrics::new());
    for journey in 0..journeys {
        let began = Timestamp::now() - APART * (journeys - journey).cast_signed();
        for n in 0..machines {
            travel(&timeline, n, began + SignedDuration::from_millis(i64::from(n) * 100));
            if n % AT_ONCE == AT_ONCE - 1 || n == machines - 1 {
                while timeline.queue() > 0 {
                    std::thread::yield_now();
                }
            }
        }
    }
    timeline.close_blocking();
    assert_eq!((timeline.len(), timeline.lost()), (machines as usize, 0));
}

/// One journey: most hook their volume, some are stopped on the way.
fn travel(timeline: &Timeline, n: u32, began: Timestamp) {
    let tell = |millis: i64, what: What| {
        let at = began + SignedDuration::from_millis(millis);
        let [_, a, b, c] = n.to_be_bytes();
        timeline.tell(Event::new(at, Some(mac(n)), Some([10, a, b, c].into()), what));
    };
    tell(0, What::Gathered);
    let (outcome, reason) = match n % 10 {
        0 => ("refuse", Some(format!("node web-{n} is in maintenance: fan 3 is broken"))),
        1 => ("unknown", Some(format!("no node has a port with the address {}", mac(n)))),
        _ => ("boot", None),
    };
    tell(50, answered(n, outcome, reason));
    match n % 10 {
        0 | 1 => {}
        2 => tell(80, reported("hook-0", Some("0x410d613b"))),
        _ => tell(80, reported("hooked", None)),
    }
}

/// The address of a machine's card.
pub(crate) fn mac(n: u32) -> Mac {
    let [_, a, b, c] = n.to_be_bytes();
    Mac::new([0x52, 0x54, 0, a, b, c])
}

/// A machine was answered so.
pub(crate) fn answered(n: u32, outcome: &'static str, reason: Option<String>) -> What {
    let known = outcome != "unknown";
    What::Answered(Box::new(Answered {
        attempt: 1,
        tries: 10,
        macs: Vec::new(),
        platform: Some("efi".into()),
        arch: Some("x86_64".into()),
        uuid: None,
        node: known.then(|| Uuid::from_u128(n.into())),
        name: known.then(|| format!("web-{n}")),
        journey: Some(format!("{n:016x}")),
        resolved: Vec::new(),
        hooks: vec![format!("volume-{n}")],
        outcome: outcome.into(),
        reason,
        micros: 200,
    }))
}

fn reported(step: &'static str, rc: Option<&str>) -> What {
    What::Reported { step: Some(step.into()), rc: rc.map(str::to_owned), attempt: 1 }
}
