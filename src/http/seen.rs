//! What this door saw, as events for the timeline.

use std::time::Instant;

use jiff::Timestamp;

use super::question;
use crate::attach::Source;
use crate::boot::{self, Decision};
use crate::listen::Peer;
use crate::model::{Answer, Asker, Mac, Platform, SanTable};
use crate::telemetry::{Answered, Event, Resolved, What};
use crate::timeline::Paced;

/// A machine read the script for everybody.
pub(super) fn gathered(peer: Peer, card: Option<Mac>) -> Event {
    Event::new(Timestamp::now(), card, Some(peer.remote.ip()), What::Gathered)
}

/// Firmware asked for an image, of which there are so many bytes.
pub(super) fn fetched(peer: Peer, card: Option<Mac>, file: String, size: Option<u64>) -> Event {
    Event::new(Timestamp::now(), card, Some(peer.remote.ip()), What::Fetched { file, size })
}

/// A machine was told to wait, because it begins again and again.
pub(super) fn paced(peer: Peer, asker: &Asker, paced: Paced) -> Event {
    let Paced { journeys, seconds, .. } = paced;
    let what = What::Paced { journeys, seconds };
    Event::new(Timestamp::now(), Some(asker.mac()), Some(peer.remote.ip()), what)
}

/// A machine reported a step.
pub(super) fn reported(peer: Peer, event: question::Event) -> Event {
    let question::Event { mac, step, rc, attempt } = event;
    let what = What::Reported { step: step.map(Into::into), rc, attempt };
    Event::new(Timestamp::now(), Some(mac), Some(peer.remote.ip()), what)
}

/// A machine asked for its script, at `began`, and was answered.
pub(super) fn answered(peer: Peer, asker: &Asker, decision: &Decision, tries: u32, began: Instant) -> Event {
    let Decision { answer, node, name, resolved } = decision;
    let micros = began.elapsed().as_micros() as u64;
    let hooks = match answer {
        Answer::Boot(plan) => {
            let table = SanTable::new(plan, asker.platform.unwrap_or(Platform::Bios));
            table.hooks.iter().map(|hook| hook.volume.id.clone()).collect()
        }
        _ => Vec::new(),
    };
    let what = What::Answered(Box::new(Answered {
        attempt: asker.attempt,
        tries,
        macs: asker.macs.clone(),
        platform: asker.platform.map(|platform| platform.as_str().into()),
        arch: asker.arch.clone(),
        uuid: asker.uuid,
        node: *node,
        name: name.clone(),
        journey: asker.journey.clone(),
        resolved: resolved.iter().map(found).collect(),
        hooks,
        outcome: answer.outcome().into(),
        reason: answer.reason().map(str::to_owned),
        micros,
    }));
    Event::new(Timestamp::now(), Some(asker.mac()), Some(peer.remote.ip()), what)
}

fn found(resolved: &boot::Resolved) -> Resolved {
    let fault = match &resolved.source {
        Source::LastKnown { away, .. } => away.clone(),
        Source::Records | Source::Cinder => None,
    };
    Resolved {
        volume: resolved.volume.clone(),
        source: resolved.source.as_str().into(),
        millis: resolved.took.as_millis() as u64,
        fault,
    }
}
