//! The heart: a machine asks, and gets an [`Answer`] (steps 6 to 8). Knows no socket and no script.
//!
//! Told as a story: *who is it?* ([`mod@identify`]: by its cards, of which all must belong to one node) — *what has it
//! got?* (its connectors and targets, read now) — *may it?* ([`mod@decide`], a pure function, so that every row of its
//! table is a test) — *can it?* ([`fitness`], which the API asks too).
//!
//! The one invariant: nothing about a volume is kept from one request to the next. Each is resolved when it comes.

mod decide;
pub mod fitness;
mod identify;

use std::sync::Arc;

use uuid::Uuid;

use crate::model::{Answer, Asker, Node, StorageInterface, VolumeConnector, VolumeTarget};
use crate::store::{Inventory, StoreError};
use decide::decide;
use identify::{Identity, identify};

/// How long a machine waits when the store cannot be read, in seconds.
const STORE_PAUSE: u32 = 10;

/// Answers machines. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Boot {
    inventory: Inventory,
    enabled: Arc<[StorageInterface]>,
}

/// An answer, and whose it is.
#[derive(Debug)]
pub struct Decision {
    /// What the machine may do.
    pub answer: Answer,
    /// The node it was recognised as.
    pub node: Option<Uuid>,
}

impl Boot {
    /// `enabled`: the storage interfaces that nodes may boot with.
    pub fn new(inventory: Inventory, enabled: impl Into<Arc<[StorageInterface]>>) -> Self {
        Self { inventory, enabled: enabled.into() }
    }

    /// What this machine may do now.
    pub async fn answer(&self, asker: &Asker) -> Decision {
        self.resolve(asker).await.unwrap_or_else(|error| {
            tracing::error!(error = %error, mac = %asker.mac(), "the store failed a boot request");
            let reason = "volboot cannot read its store; its log says why".to_owned();
            Decision { answer: Answer::Wait { reason, seconds: STORE_PAUSE }, node: None }
        })
    }

    async fn resolve(&self, asker: &Asker) -> Result<Decision, StoreError> {
        let node = match identify(&self.inventory, asker).await? {
            Identity::Node(node) => *node,
            Identity::Nobody(answer) => return Ok(Decision { answer, node: None }),
        };
        let connectors: Vec<VolumeConnector> = self.inventory.all_of(node.uuid).await?;
        let targets: Vec<VolumeTarget> = self.inventory.all_of(node.uuid).await?;
        let answer = decide(&node, &connectors, &targets, &self.enabled);
        Ok(Decision { answer, node: Some(node.uuid) })
    }
}

/// What people call a node in a reason.
fn name(node: &Node) -> String {
    format!("node {}", node.label())
}
