//! Holds a machine in a boot loop back: it waits, although it could boot.

use std::time::Instant;

use crate::model::{BootAnswer, BootRequest};
use crate::timeline::{LoopDelay, LoopDetector};

use super::decision::{Decision, Mode};

/// Turns a boot into a wait if the machine is in a boot loop.
///
/// Only the first request of a session is checked: a retry is within the same session. A machine that waits for
/// Cinder never gets here, so its session does not count.
pub(super) fn hold(
    detector: &LoopDetector,
    request: &BootRequest,
    mode: Mode,
    decision: Decision,
) -> Decision {
    let Some(delay) = find_delay(detector, request, mode) else { return decision };
    let reason = format!(
        "boot loop: {} boot sessions in a row without a hooked volume; the machine's timeline shows why",
        delay.journeys
    );
    let answer = BootAnswer::Wait { reason, seconds: delay.seconds };
    Decision { answer, held: Some(delay), ..decision }
}

/// The delay of the machine's session. A client that just requests a script, outside a session, is never delayed.
fn find_delay(detector: &LoopDetector, request: &BootRequest, mode: Mode) -> Option<LoopDelay> {
    if request.attempt != 1 {
        return None;
    }
    let (mac, journey, now) = (request.mac(), request.journey.as_deref(), Instant::now());
    match mode {
        Mode::Boot => detector.check(mac, journey?, now),
        Mode::Preview => detector.peek(mac, Some(journey?), now),
        Mode::NextSession => detector.peek(mac, None, now),
    }
}
