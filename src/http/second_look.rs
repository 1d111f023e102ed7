//! Looks at the neighbour table again after a machine took its boot script.
//!
//! A machine on the attached network can forge the entry with one ARP reply, send a request, and forge it back to receive
//! the response. The table cannot prevent that, but the second look finds it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::boot::Boot;
use crate::listen::Peer;
use crate::model::{Mac, NeighbourCheck};
use crate::neighbours::Neighbours;
use crate::telemetry::Metrics;

/// The time in which a machine takes its script. By then, a forger has restored its own entry: otherwise the response
/// would go to the other machine.
const DELAY: Duration = Duration::from_secs(2);
/// The most looks that are due. Further ones are skipped.
const MAX_LOOKS: usize = 4096;

/// Schedules second looks, a bounded number of them.
#[derive(Debug)]
pub(super) struct SecondLooks(Arc<Semaphore>);

/// A requester that took the script of a node.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) peer: Peer,
    pub(super) node: Uuid,
    /// The node's card that the table showed.
    pub(super) card: Mac,
}

impl Default for SecondLooks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LOOKS)))
    }
}

impl SecondLooks {
    /// Looks again after [`DELAY`], and logs and counts an entry that shows another machine.
    pub(super) fn schedule(&self, look: Look, neighbours: Neighbours, boot: Boot, metrics: Metrics) {
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else {
            tracing::debug!(card = %look.card, "second look at the neighbour table skipped: too many");
            return;
        };
        tokio::spawn(async move {
            tokio::time::sleep(DELAY).await;
            let check = neighbours.check(look.peer.remote, look.peer.local.ip()).await;
            if let Some((mac, address)) = look.find_change(&check, &boot).await {
                let (card, node) = (look.card, look.node);
                tracing::warn!(
                    %address, %card, %mac, %node,
                    "neighbour entry changed to another machine's card after the boot script was sent: forged ARP, or \
                     an address used twice; change the node's CHAP secrets if it was forged"
                );
                metrics.count_neighbour_change();
            }
            drop(permit);
        });
    }
}

impl Look {
    /// The card and the address of an entry that shows another machine. No entry is no change.
    async fn find_change(&self, check: &NeighbourCheck, boot: &Boot) -> Option<(Mac, IpAddr)> {
        let NeighbourCheck::Entry { mac, address } = check else { return None };
        // Another card of the node may have taken over the address.
        let is_same = *mac == self.card || boot.is_card_of(*mac, self.node).await.unwrap_or(true);
        (!is_same).then_some((*mac, *address))
    }
}
