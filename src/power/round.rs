//! The round: reads the power states of all nodes with a BMC, slowly.
//!
//! A node whose BMC fails is read less and less often. The log has one line when an outage begins, and one when it ends.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Power, PowerError};
use crate::model::{Node, PowerState, ProvisionState};
use crate::store::{StoreError, UpdateError};

/// The nodes per read of the store.
const PAGE: usize = 200;
/// The longest time between two reads of a failing BMC, in rounds.
const MAX_SKIPPED_ROUNDS: u32 = 16;

/// A BMC that failed.
#[derive(Debug)]
struct BmcOutage {
    failures: u32,
    due: Instant,
}

impl Power {
    /// Reads all power states in each interval, until `stop`.
    pub async fn run_rounds(self, stop: CancellationToken) {
        let rounds = async {
            let mut interval = tokio::time::interval(self.limits.round);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut outages = HashMap::new();
            loop {
                interval.tick().await;
                if let Err(error) = self.run_round(&mut outages).await {
                    tracing::warn!(%error, "cannot list the nodes with a BMC");
                }
            }
        };
        stop.run_until_cancelled(rounds).await;
    }

    async fn run_round(&self, outages: &mut HashMap<Uuid, BmcOutage>) -> Result<(), StoreError> {
        let nodes = self.list_nodes_with_bmc().await?;
        outages.retain(|uuid, _| nodes.iter().any(|node| node.uuid == *uuid));
        self.stations.retain(|uuid| nodes.iter().any(|node| node.uuid == uuid));
        self.node_counts.count(&nodes, |node| outages.contains_key(&node.uuid));
        let now = Instant::now();
        let is_due = |node: &Node| outages.get(&node.uuid).is_none_or(|outage| outage.due <= now);
        let due: Vec<_> = nodes.into_iter().filter(|node| is_in_round(node) && is_due(node)).collect();
        let reads = stream::iter(due.into_iter().map(|node| async move {
            let result = self.refresh(&node).await;
            (node, result)
        }));
        let mut reads = reads.buffer_unordered(self.round_width);
        while let Some((node, result)) = reads.next().await {
            note_result(outages, &node, result, self.limits.round);
        }
        Ok(())
    }

    async fn list_nodes_with_bmc(&self) -> Result<Vec<Node>, StoreError> {
        let mut nodes = Vec::new();
        let mut marker = None;
        loop {
            let page = self.inventory.list::<Node>(marker.as_ref(), PAGE).await?;
            let is_last = page.len() < PAGE;
            marker = page.last().map(|node| node.value.clone());
            nodes.extend(page.into_iter().map(|node| node.value).filter(Node::has_bmc));
            if is_last {
                return Ok(nodes);
            }
        }
    }

    /// Reads a node's power state from its BMC, and records it. A node with an operation under way is left to it.
    async fn refresh(&self, node: &Node) -> Result<(), PowerError> {
        let Some(claim) = self.try_claim(node).await? else { return Ok(()) };
        let Some(state) = self.read_state(node, &claim).await? else { return Ok(()) };
        if node.power_state != Some(state) {
            let now = Timestamp::now();
            if node.power_state.is_some() {
                tracing::info!(node = %node.uuid, state = state.as_str(), "machine was switched outside of volboot");
            }
            drop(self.record_state(node.uuid, state, now).await);
        }
        Ok(())
    }

    async fn record_state(
        &self,
        node: Uuid,
        state: PowerState,
        now: Timestamp,
    ) -> Result<Node, UpdateError<()>> {
        let change = |old: &Node, _: Option<&Node>| {
            // The operation that has begun meanwhile records the state itself.
            if old.reservation.is_some() { Err(()) } else { Ok(old.clone().with_power_state(state, now)) }
        };
        self.inventory.update(node, change).await
    }
}

/// Whether the round reads the node's state: as in Ironic, not in maintenance, and not before the verb `manage`, unless the
/// BMC has answered already. Nodes of volboot boot without this verb.
fn is_in_round(node: &Node) -> bool {
    let has_answered = node.power_state.is_some();
    (node.provision_state != ProvisionState::Enroll || has_answered)
        && !node.maintenance
        && node.reservation.is_none()
}

fn note_result(
    outages: &mut HashMap<Uuid, BmcOutage>,
    node: &Node,
    result: Result<(), PowerError>,
    interval: Duration,
) {
    match result {
        Ok(()) => {
            if outages.remove(&node.uuid).is_some() {
                tracing::info!(node = %node.uuid, "BMC answers again");
            }
        }
        Err(error) => {
            let outage = outages.entry(node.uuid).or_insert(BmcOutage { failures: 0, due: Instant::now() });
            if outage.failures == 0 {
                tracing::warn!(node = %node.uuid, %error, "cannot read a power state");
            }
            let rounds = 2_u32.saturating_pow(outage.failures).min(MAX_SKIPPED_ROUNDS);
            outage.failures += 1;
            outage.due = Instant::now() + interval * rounds;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StorageInterface;

    fn node(state: ProvisionState) -> Node {
        let node = Node::new(Uuid::nil(), "redfish", StorageInterface::Noop, Timestamp::UNIX_EPOCH);
        Node { provision_state: state, ..node }
    }

    #[test]
    fn the_round_leaves_out_nodes_that_ironic_leaves_out() {
        assert!(!is_in_round(&node(ProvisionState::Enroll)));
        let answered = Node { power_state: Some(PowerState::On), ..node(ProvisionState::Enroll) };
        assert!(is_in_round(&answered));
        assert!(is_in_round(&node(ProvisionState::Active)));
        assert!(!is_in_round(&Node { maintenance: true, ..node(ProvisionState::Active) }));
        assert!(!is_in_round(&Node { reservation: Some("boot-1".into()), ..node(ProvisionState::Active) }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_bmc_is_read_less_and_less_often() {
        let (mut outages, node) = (HashMap::new(), node(ProvisionState::Active));
        let interval = Duration::from_secs(60);
        let mut delays = Vec::new();
        for _ in 0..7 {
            note_result(&mut outages, &node, Err(PowerError::Busy), interval);
            delays.push((outages[&node.uuid].due - Instant::now()).as_secs() / 60);
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 16, 16]);
        note_result(&mut outages, &node, Ok(()), interval);
        assert!(outages.is_empty());
    }
}
