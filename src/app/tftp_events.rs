//! Records finished TFTP transfers in the log and the timeline.

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::model::TransferOutcome;
use crate::neighbours::Neighbours;
use crate::telemetry::{Event, EventKind, TftpTransfer};
use crate::tftp::{self, TransferEnd};
use crate::timeline::Timeline;

/// Records each transfer when it ends.
pub(super) async fn record_transfers(mut transfers: mpsc::Receiver<tftp::TransferEvent>, timeline: Timeline) {
    let neighbours = Neighbours::default();
    while let Some(event) = transfers.recv().await {
        let duration_ms = event.duration.as_millis() as u64;
        let (client, name, size) = (event.client, event.name.as_str(), event.size);
        let (outcome, retransmissions) = (TransferOutcome::from(&event.outcome), event.retransmissions);
        let (block_size, window_size, blocks) =
            (event.options.block_size, event.options.window_size, event.blocks);
        tracing::info!(
            %client, name, outcome = outcome.as_str(), size, block_size, window_size, blocks, retransmissions,
            duration_ms,
            "TFTP transfer ended"
        );
        let client_message = match event.outcome {
            TransferEnd::Aborted { message, .. } => Some(message),
            _ => None,
        };
        let transfer = TftpTransfer {
            file: event.name,
            outcome,
            size,
            block_size,
            window_size,
            blocks,
            retransmissions,
            duration_ms,
            client_message,
        };
        let mac = match event.local_ip {
            Some(local_ip) => neighbours.check(client, local_ip).await.mac(),
            None => None,
        };
        timeline.record(Event::new(
            Timestamp::now(),
            mac,
            Some(client.ip()),
            EventKind::TftpTransfer(transfer),
        ));
    }
}
