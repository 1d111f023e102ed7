//! Follows another instance: requests its events one page after the other, and joins them with those of this instance.

use std::time::Duration;

use reqwest::Client;

use super::client::{EventsResponse, PeerClient, PeerError};
use super::clock_offset::ClockOffset;
use super::membership::Membership;
use crate::model::InstanceName;
use crate::telemetry::Event;
use crate::timeline::{PeerBatch, PeerProgress};

/// Delay after a failed request.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Follows an instance until the task is aborted.
pub(super) async fn follow(membership: Membership, http: Client, peer: InstanceName, url: String) {
    let mut client = PeerClient::new(membership.clone(), http, peer.clone(), &url);
    let mut clock = ClockOffset::default();
    loop {
        match follow_once(&membership, &mut client, &mut clock, &peer).await {
            Ok(()) => {}
            Err(error) => {
                membership.note_failure(&peer, error.to_string());
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }
}

/// Requests one page and joins it.
async fn follow_once(
    membership: &Membership,
    client: &mut PeerClient,
    clock: &mut ClockOffset,
    peer: &InstanceName,
) -> Result<(), PeerError> {
    let timeline = membership.timeline();
    let after = timeline.peer_progress().get(peer.as_str()).and_then(PeerProgress::position);
    let (mut response, exchange) = client.request_events(after).await?;
    clock.add(exchange);
    let offset = clock.offset();
    membership.note_answer(peer, offset);
    // The times of the events are by the clock of the other instance.
    let convert = |(number, event): (u64, Event)| {
        let at = event.at.checked_sub(offset).unwrap_or(event.at);
        (number, Event { at, ..event })
    };
    let events = response.events().into_iter().map(convert).collect();
    let EventsResponse { end, has_gap, is_complete, .. } = response;
    if has_gap {
        tracing::warn!(instance = %peer, "events of another instance are lost: it has kept later ones only");
    }
    timeline.join(PeerBatch { instance: peer.clone(), end, has_gap, is_complete, events }).await;
    if is_complete {
        // It is shutting down. Until it has restarted, there is nothing to read.
        tokio::time::sleep(RETRY_DELAY).await;
    }
    Ok(())
}
