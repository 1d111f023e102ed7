//! Holds a machine in a boot loop back: it waits, although it could boot.

use std::time::Instant;

use crate::model::{BootAnswer, BootRequest};
use crate::timeline::{CountedCard, LoopDelay, LoopDetector};

use super::decision::{Decision, Mode};
use super::verify::Verification;

/// Turns a boot into a wait if the machine is in a boot loop.
///
/// Only the first request of a session is checked: a retry is within the same session. A machine that waits for
/// Cinder never gets here, so its session does not count.
pub(super) fn hold(
    detector: &LoopDetector,
    request: &BootRequest,
    mode: Mode,
    verification: Verification,
    decision: Decision,
) -> Decision {
    let Some(delay) = find_delay(detector, request, mode, verification) else { return decision };
    let reason = format!(
        "boot loop: {} boot sessions in a row without a hooked volume; the machine's timeline shows why",
        delay.journeys
    );
    let answer = BootAnswer::Wait { reason, seconds: delay.seconds };
    Decision { answer, held: Some(delay), ..decision }
}

/// The delay of the machine's session. A client that just requests a script, outside a session, is never delayed.
fn find_delay(
    detector: &LoopDetector,
    request: &BootRequest,
    mode: Mode,
    verification: Verification,
) -> Option<LoopDelay> {
    if request.attempt != 1 {
        return None;
    }
    let (journey, now) = (request.journey.as_deref(), Instant::now());
    let card = |is_confirmed| CountedCard { mac: request.mac(), is_confirmed };
    // Other instances of a cluster know the card from the timeline, and nothing else.
    let requester = card(verification.card().is_some());
    match mode {
        Mode::Boot => detector.check(requester, journey?, now),
        Mode::Preview => detector.peek(requester, Some(journey?), now),
        // The place of the next request is not known.
        Mode::NextSession => {
            detector.peek(card(true), None, now).or_else(|| detector.peek(card(false), None, now))
        }
    }
}
