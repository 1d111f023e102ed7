//! What the TFTP door saw, for the log and for the timeline.

use std::borrow::Cow;

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::neighbours::Neighbours;
use crate::telemetry::{Event, Transfer, What};
use crate::tftp::{self, Outcome};
use crate::timeline::Timeline;

/// Tells of every transfer that ends.
pub(super) async fn tell(mut transfers: mpsc::Receiver<tftp::Event>, timeline: Timeline) {
    let neighbours = Neighbours::default();
    while let Some(event) = transfers.recv().await {
        let millis = event.took.as_millis() as u64;
        let (client, name, size) = (event.client, event.name.as_str(), event.size);
        let (outcome, again) = (event.outcome.as_str(), event.retransmissions);
        let (block_size, window, blocks) = (event.agreed.block_size, event.agreed.window, event.blocks);
        tracing::info!(
            %client, name, outcome, size, block_size, window, blocks, again, millis, "tftp transfer"
        );
        let words = match event.outcome {
            Outcome::Aborted { message, .. } => Some(message),
            _ => None,
        };
        let transfer = Transfer {
            file: event.name,
            outcome: Cow::Borrowed(outcome),
            size,
            block_size,
            window,
            blocks,
            again,
            millis,
            words,
        };
        let seen = match event.local {
            Some(local) => neighbours.seen(client, local).await.card(),
            None => None,
        };
        timeline.tell(Event::new(Timestamp::now(), seen, Some(client.ip()), What::Transfer(transfer)));
    }
}
