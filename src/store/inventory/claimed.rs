//! [`ClaimedInventory`]: the changes of a claim's holder. After the claim's end the store refuses them: another instance may
//! have taken over.

use uuid::Uuid;

use super::{Inventory, UpdateError};
use crate::model::Node;
use crate::store::{Batch, ClaimId};

/// The requirement of a change beside the records that were read.
#[derive(Debug)]
pub(super) enum ClaimFence {
    None,
    /// The claim has not ended.
    Held(ClaimId),
    /// The claim has not ended; the change gives it back.
    Released(ClaimId),
}

impl ClaimFence {
    /// Adds the requirement to a batch.
    pub(super) fn apply(&self, batch: Batch) -> Batch {
        match self {
            Self::None => batch,
            Self::Held(claim) => batch.require_held(claim),
            Self::Released(claim) => batch.release(claim),
        }
    }
}

/// The records, for the holder of a claim.
#[derive(Debug)]
pub struct ClaimedInventory<'a> {
    inventory: &'a Inventory,
    fence: ClaimFence,
}

impl Inventory {
    /// The records, for the holder of a claim: each change requires it.
    pub fn claimed(&self, claim: &ClaimId) -> ClaimedInventory<'_> {
        ClaimedInventory { inventory: self, fence: ClaimFence::Held(claim.clone()) }
    }

    /// Like [`Inventory::claimed`], for the last change: it gives the claim back.
    pub fn releasing(&self, claim: &ClaimId) -> ClaimedInventory<'_> {
        ClaimedInventory { inventory: self, fence: ClaimFence::Released(claim.clone()) }
    }
}

impl ClaimedInventory<'_> {
    /// Changes a node like [`Inventory::update`].
    pub async fn update<E>(
        &self,
        node: Uuid,
        mut change: impl FnMut(&Node) -> Result<Node, E>,
    ) -> Result<Node, UpdateError<E>> {
        self.inventory.update_in(&self.fence, node, |old: &Node, _| change(old)).await
    }

    /// Undeploys a node like [`Inventory::undeploy_without_targets`].
    pub async fn undeploy_without_targets<E>(
        &self,
        node: Uuid,
        change: impl FnMut(&Node) -> Result<Node, E>,
    ) -> Result<Node, UpdateError<E>> {
        self.inventory.undeploy_without_targets_in(&self.fence, node, change).await
    }
}
