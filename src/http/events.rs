//! Builds the timeline's events from the observations of the boot listener.

use std::time::Instant;

use jiff::Timestamp;

use super::request;
use crate::boot::{self, Decision};
use crate::listen::Peer;
use crate::model::{BootAnswer, BootRequest, ConnectionSource, Mac, SanTable};
use crate::telemetry::{BootRequestEvent, Event, EventKind, ResolutionEvent};
use crate::timeline::LoopDelay;

/// A machine read `/boot.ipxe`.
pub(super) fn session_started(peer: Peer, mac: Option<Mac>) -> Event {
    new_event(peer, mac, EventKind::SessionStarted)
}

/// Firmware requested an image; `size` is `None` if there is no such image.
pub(super) fn http_fetch(peer: Peer, mac: Option<Mac>, file: String, size: Option<u64>) -> Event {
    new_event(peer, mac, EventKind::HttpFetch { file, size })
}

/// The loop detector delayed a machine.
pub(super) fn loop_delay(peer: Peer, request: &BootRequest, delay: LoopDelay) -> Event {
    let LoopDelay { journeys, seconds, .. } = delay;
    new_event(peer, Some(request.mac()), EventKind::LoopDelay { journeys, seconds })
}

/// A machine reported a step.
pub(super) fn boot_report(peer: Peer, report: request::BootReport) -> Event {
    let request::BootReport { mac, step, rc, attempt } = report;
    new_event(peer, Some(mac), EventKind::BootReport { step, rc, attempt })
}

/// A boot request that arrived at `started_at`, and its answer. It belongs to the machine of which the requester claims
/// the address, if the decision accepts the claim. Else it belongs to the card in the neighbour table, or to the IP
/// address.
pub(super) fn boot_request(
    peer: Peer,
    request: &BootRequest,
    decision: &Decision,
    tries: u32,
    started_at: Instant,
) -> Event {
    let Decision {
        answer,
        node,
        name,
        resolutions: resolved,
        held,
        fallback,
        attached_card,
        fault: _,
        window_refusal: _,
        is_claim_accepted,
        once,
        ended_once: _,
    } = decision;
    // A claim against the requester's place changes nothing of the machine and of its node.
    let (mac, node, name) = if *is_claim_accepted {
        (Some(request.mac()), *node, name.clone())
    } else {
        (request.neighbour_check.mac(), None, None)
    };
    let (hooks, warnings) = match answer {
        BootAnswer::Boot(plan) => {
            let SanTable { hooks, mut warnings } = SanTable::new(plan, request);
            warnings.splice(0..0, fallback.iter().map(|notice| notice.text.clone()));
            (hooks.iter().map(|hook| hook.volume.id.clone()).collect(), warnings)
        }
        BootAnswer::Wait { .. }
        | BootAnswer::LocalDisk { .. }
        | BootAnswer::Url { .. }
        | BootAnswer::Shell { .. }
        | BootAnswer::Unknown { .. }
        | BootAnswer::Refused { .. } => (Vec::new(), Vec::new()),
    };
    let kind = EventKind::BootRequest(Box::new(BootRequestEvent {
        attempt: request.attempt,
        tries,
        macs: request.macs.clone(),
        platform: request.platform,
        arch: request.arch.clone(),
        uuid: request.uuid,
        host_name_bytes: request.host_name_bytes,
        node,
        name,
        journey: request.journey.clone(),
        resolutions: resolved.iter().map(resolution).collect(),
        hooks,
        warnings,
        outcome: answer.outcome(),
        reason: answer.reason().map(str::to_owned),
        held: held.is_some(),
        once: once.clone().filter(|_| *is_claim_accepted),
        attached_card: *attached_card,
        claimed_mac: (!is_claim_accepted).then(|| request.mac()),
        duration_us: started_at.elapsed().as_micros() as u64,
    }));
    new_event(peer, mac, kind)
}

fn resolution(resolution: &boot::VolumeResolution) -> ResolutionEvent {
    let error = match &resolution.source {
        ConnectionSource::LastKnown { outage, .. } => outage.clone(),
        ConnectionSource::Existing { refusal } => Some(refusal.clone()),
        ConnectionSource::Confirmed { store, .. } => Some(store.clone()),
        ConnectionSource::Records | ConnectionSource::Cinder => None,
    };
    ResolutionEvent {
        volume: resolution.volume.clone(),
        source: resolution.source.kind(),
        duration_ms: resolution.duration.as_millis() as u64,
        error,
        server: resolution.server,
    }
}

fn new_event(peer: Peer, mac: Option<Mac>, kind: EventKind) -> Event {
    Event::new(Timestamp::now(), mac, Some(peer.remote.ip()), kind)
}
