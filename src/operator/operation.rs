//! [`NodeOperation`]: an operation on a node in the background, and the claim of the instance that performs it.
//!
//! The node's `reservation` names the instance, and lasts as long as the record. The claim lasts as long as the instance's
//! session. A reserved node whose claim is free has an interrupted operation: see [`super::InterruptedOperations`]. Each write of
//! the operation requires the claim, and the last one gives it back. An instance without its session thus
//! neither ends an operation nor goes on with it after another instance has ended it.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::Operator;
use super::refusal::{OperationRefusal, check_unreserved};
use crate::model::Node;
use crate::power::{BmcClaim, PowerError};
use crate::store::{Claim, ClaimedInventory, Inventory, InventoryError, StoreError, UpdateError};

/// How long a new operation waits for a claim that is given back in the background.
const RELEASE_WAIT: Duration = Duration::from_secs(2);
/// The pause between two attempts at a claim.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// The pause between attempts to record a change.
const RECORD_INTERVAL: Duration = Duration::from_secs(5);
/// Attempts to record a change. After those of the last one, the operation counts as interrupted.
const RECORD_ATTEMPTS: u32 = 120;

/// An operation that has begun.
#[derive(Debug)]
pub(super) struct NodeOperation {
    /// The node at the beginning, reserved.
    pub(super) node: Node,
    claim: Claim,
}

/// Claims the operations on a node. `None`: one is under way.
pub(super) async fn try_claim(inventory: &Inventory, node: Uuid) -> Result<Option<Claim>, StoreError> {
    inventory.cluster().claim(&work(node), b"").await
}

fn work(node: Uuid) -> String {
    format!("operation/{node}")
}

impl NodeOperation {
    /// The claim of its changes, for [`Inventory::claimed`].
    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }
}

impl Operator {
    /// Begins an operation: claims the node, and reserves it by `begin`.
    pub(super) async fn begin_operation(
        &self,
        node: Uuid,
        mut begin: impl FnMut(&Node) -> Result<Node, OperationRefusal>,
    ) -> Result<NodeOperation, OperationRefusal> {
        let claim = self.claim_operation(node).await?;
        let reserve = |old: &Node| {
            check_unreserved(old)?;
            begin(old)
        };
        let node = self.inventory.claimed(claim.id()).update(node, reserve).await?;
        Ok(NodeOperation { node, claim })
    }

    async fn claim_operation(&self, node: Uuid) -> Result<Claim, OperationRefusal> {
        let deadline = Instant::now() + RELEASE_WAIT;
        loop {
            if let Some(claim) = try_claim(&self.inventory, node).await? {
                return Ok(claim);
            }
            let record = self.inventory.get::<Node>(node).await?.ok_or(OperationRefusal::NotFound)?;
            check_unreserved(&record.value)?;
            // Another operation begins, or the end of the last one is not known to the store yet.
            if Instant::now() >= deadline {
                return Err(OperationRefusal::Reserved { node, host: self.find_holder(node).await? });
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// The name of the instance that has claimed the operations on a node.
    async fn find_holder(&self, node: Uuid) -> Result<String, StoreError> {
        let cluster = self.inventory.cluster();
        let (holder, instances) = (cluster.holder(&work(node)).await?, cluster.instances().await?);
        let session = holder.map(|holder| holder.session);
        let named = instances.into_iter().find(|instance| Some(&instance.session) == session.as_ref());
        Ok(named.map_or_else(|| self.conductor.hostname.clone(), |instance| instance.name))
    }

    /// The claim on the node's BMC, for commands of an operation.
    pub(super) async fn claim_bmc<'a>(
        &self,
        operation: &'a NodeOperation,
    ) -> Result<BmcClaim<'a>, PowerError> {
        Ok(self.power.claim(&operation.node).await?.within(operation.claim()))
    }

    /// Records a change in the middle of an operation, whatever the store says at first.
    pub(super) async fn record_step(&self, operation: &NodeOperation, change: impl Fn(&Node) -> Node) {
        let inventory = self.inventory.claimed(operation.claim().id());
        write_patiently(&inventory, operation.node.uuid, change).await;
    }

    /// Records the end of an operation, whatever the store says at first, and gives the claim back.
    pub(super) async fn record_end(&self, operation: NodeOperation, change: impl Fn(&Node) -> Node) {
        let NodeOperation { node, claim } = operation;
        let inventory = self.inventory.releasing(claim.id());
        if write_patiently(&inventory, node.uuid, change).await {
            // The write has given it back.
            drop(claim.into_id());
        }
    }
}

/// Repeats a write until the store accepts it, or refuses it for good. Returns whether it was written.
async fn write_patiently(
    inventory: &ClaimedInventory<'_>,
    node: Uuid,
    change: impl Fn(&Node) -> Node,
) -> bool {
    for _ in 0..RECORD_ATTEMPTS {
        match inventory.update(node, |old| Ok::<_, ()>(change(old))).await {
            Ok(_) => return true,
            Err(UpdateError::NotFound | UpdateError::Refused(())) => return false,
            Err(UpdateError::Inventory(error @ InventoryError::ClaimEnded(_))) => {
                tracing::warn!(%node, %error, "the operation counts as interrupted");
                return false;
            }
            Err(UpdateError::Inventory(error)) => {
                tracing::error!(%node, %error, "cannot record a step or the end of an operation");
                sleep(RECORD_INTERVAL).await;
            }
        }
    }
    false
}
