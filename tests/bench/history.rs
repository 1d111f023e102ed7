//! A history file with many machines and boot sessions, as test data for the benchmarks.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use volboot::model::{BootOutcome, BootStep, Mac, Platform};
use volboot::telemetry::{BootRequestEvent, Event, EventKind, Metrics};
use volboot::timeline::Timeline;

/// Machines per batch. A larger batch would overflow the timeline's queue.
const BATCH_SIZE: u32 = 1000;
/// Time between two boot sessions of a machine.
const SESSION_INTERVAL: SignedDuration = SignedDuration::from_mins(20);

/// Fills the history file with machines and their boot sessions, each with three events.
pub(crate) fn fill(path: &Path, machines: u32, sessions: u32) {
    let timeline = Timeline::open_blocking(Some(path), Metrics::new());
    for session in 0..sessions {
        let start = Timestamp::now() - SESSION_INTERVAL * (sessions - session).cast_signed();
        for n in 0..machines {
            record_session(&timeline, n, start + SignedDuration::from_millis(i64::from(n) * 100));
            if n % BATCH_SIZE == BATCH_SIZE - 1 || n == machines - 1 {
                while timeline.queued_events() > 0 {
                    std::thread::yield_now();
                }
            }
        }
    }
    timeline.close_blocking();
    assert_eq!((timeline.len(), timeline.dropped_events()), (machines as usize, 0));
}

/// Records one boot session. Of ten machines, seven hook their volume.
fn record_session(timeline: &Timeline, n: u32, start: Timestamp) {
    let record = |millis: i64, kind: EventKind| {
        let at = start + SignedDuration::from_millis(millis);
        let [_, a, b, c] = n.to_be_bytes();
        timeline.record(Event::new(at, Some(mac(n)), Some([10, a, b, c].into()), kind));
    };
    record(0, EventKind::SessionStarted);
    let (outcome, reason) = match n % 10 {
        0 => (BootOutcome::Refused, Some(format!("node web-{n}: maintenance is set (fan 3 is broken)"))),
        1 => (BootOutcome::Unknown, Some(format!("no node has a port with the address {}", mac(n)))),
        _ => (BootOutcome::Boot, None),
    };
    record(50, boot_request(n, outcome, reason));
    match n % 10 {
        0 | 1 => {}
        2 => record(80, boot_report(BootStep::Hook(0), Some("0x410d613b"))),
        _ => record(80, boot_report(BootStep::Hooked, None)),
    }
}

/// The MAC address of machine `n`.
pub(crate) fn mac(n: u32) -> Mac {
    let [_, a, b, c] = n.to_be_bytes();
    Mac::new([0x52, 0x54, 0, a, b, c])
}

/// A boot request of machine `n` with its outcome.
pub(crate) fn boot_request(n: u32, outcome: BootOutcome, reason: Option<String>) -> EventKind {
    let has_node = outcome != BootOutcome::Unknown;
    EventKind::BootRequest(Box::new(BootRequestEvent {
        attempt: 1,
        tries: 10,
        macs: Vec::new(),
        platform: Some(Platform::Uefi),
        arch: Some("x86_64".into()),
        uuid: None,
        host_name_bytes: None,
        node: has_node.then(|| Uuid::from_u128(n.into())),
        name: has_node.then(|| format!("web-{n}")),
        journey: Some(format!("{n:016x}")),
        resolutions: Vec::new(),
        hooks: vec![format!("volume-{n}")],
        warnings: Vec::new(),
        outcome,
        reason,
        held: false,
        once: None,
        attached_card: None,
        claimed_mac: None,
        duration_us: 200,
    }))
}

fn boot_report(step: BootStep, rc: Option<&str>) -> EventKind {
    EventKind::BootReport { step: Some(step), rc: rc.map(str::to_owned), attempt: 1 }
}
