//! The heart: a machine asks, and gets an [`Answer`] (steps 6 to 8). Knows no socket and no script.
//!
//! Told as a story: *who is it?* ([`mod@identify`]: by its cards, of which all must belong to one node) — *what has it
//! got?* (its connectors and targets, read now) — *may it?* ([`mod@decide`], a pure function, so that every row of its
//! table is a test) — *can it?* ([`fitness`], which the API asks too).
//!
//! Before a machine is given volumes: *is it really the one?* ([`mod@doubt`], as far as the network shows it.)
//!
//! With storage interface `cinder` there is one more question, asked of `attach`: *where are its volumes now?*
//!
//! The one invariant: each request is decided by what is true when it comes. Only where Cinder cannot say it, what it
//! said last may do, and then the answer says so.

mod decide;
mod doubt;
pub mod fitness;
mod identify;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::attach::{Attach, Found, Progress, Source, Wanted};
use crate::model::{Answer, Asker, Mac, Node, StorageInterface, VolumeConnector, VolumeTarget};
use crate::store::{Inventory, StoreError};
use decide::{Records, Verdict, decide};
use identify::{Identity, identify};

/// How long a machine waits when the store cannot be read, in seconds.
const STORE_PAUSE: u32 = 10;

/// Answers machines. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Boot {
    inventory: Inventory,
    attach: Attach,
    enabled: Arc<[StorageInterface]>,
}

/// An answer, and whose it is.
#[derive(Debug)]
pub struct Decision {
    /// What the machine may do.
    pub answer: Answer,
    /// The node it was recognised as.
    pub node: Option<Uuid>,
    /// What people call that node.
    pub name: Option<String>,
    /// Where its volumes were found, if they were.
    pub resolved: Vec<Resolved>,
}

/// Where one volume was found.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Its id.
    pub volume: String,
    /// Who said so.
    pub source: Source,
    /// How long that took.
    pub took: Duration,
}

impl Boot {
    /// `enabled`: the storage interfaces that nodes may boot with.
    pub fn new(inventory: Inventory, attach: Attach, enabled: impl Into<Arc<[StorageInterface]>>) -> Self {
        Self { inventory, attach, enabled: enabled.into() }
    }

    /// What this machine may do now. Attaches its volumes, if they are Cinder's.
    pub async fn answer(&self, asker: &Asker) -> Decision {
        or_wait(asker, self.decision(asker, false).await)
    }

    /// What this machine would be told, as far as that can be known without changing anything.
    pub async fn preview(&self, asker: &Asker) -> Decision {
        or_wait(asker, self.decision(asker, true).await)
    }

    /// All that keeps a node from booting from its volumes: what its records lack and, with storage interface
    /// `cinder`, what Cinder says against it.
    pub async fn faults(
        &self,
        node: &Node,
        connectors: &[VolumeConnector],
        targets: &[VolumeTarget],
    ) -> Vec<String> {
        let faults = fitness::faults(node, connectors, targets);
        if faults.is_empty() && node.storage_interface == StorageInterface::Cinder {
            return self.attach.examine(node.uuid, targets).await.faults();
        }
        faults
    }

    /// Whether what comes from a card may be a report of this machine's: the card is the machine's, or of the same node.
    /// Of a machine that nobody registered nothing is known but its card; while the store fails nobody is believed.
    pub async fn speaks_for(&self, card: Mac, machine: Mac) -> bool {
        if card == machine {
            return true;
        }
        let ports = self.inventory.ports(&[card, machine]).await.unwrap_or_default();
        let node_of = |mac| ports.iter().find(|port| port.address == mac).map(|port| port.node_uuid);
        node_of(card).is_some_and(|node| node_of(machine) == Some(node))
    }

    async fn decision(&self, asker: &Asker, preview: bool) -> Result<Decision, StoreError> {
        let node = match identify(&self.inventory, asker).await? {
            Identity::Node(node) => *node,
            Identity::Nobody(answer) => return Ok(Decision::about_nobody(answer)),
        };
        let connectors = self.inventory.all_of(node.uuid).await?;
        let targets = self.inventory.all_of(node.uuid).await?;
        let records = Records { node, connectors, targets };
        let mut resolved = Vec::new();
        let mut verdict = decide(&records, &self.enabled, None);
        if matches!(verdict, Verdict::AskCinder(_) | Verdict::Answer(Answer::Boot(_)))
            && let Some(answer) = doubt::doubt(&self.inventory, &records.node, asker).await?
        {
            let (node, name) = (Some(records.node.uuid), Some(records.node.label()));
            return Ok(Decision { answer, node, name, resolved });
        }
        if let Verdict::AskCinder(initiator) = &verdict {
            let Records { node, connectors, targets } = &records;
            let journey = asker.journey.as_deref().map(|journey| (journey, asker.attempt));
            let wanted = Wanted { node, initiator, connectors, targets, journey };
            let progress =
                if preview { self.attach.foresee(wanted).await } else { self.attach.resolve(wanted).await };
            if let Progress::Ready(found) = &progress {
                resolved = found.iter().map(|(volume, found)| Resolved::new(volume, found)).collect();
            }
            verdict = decide(&records, &self.enabled, Some(progress));
        }
        let (node, name) = (Some(records.node.uuid), Some(records.node.label()));
        match verdict {
            Verdict::Answer(answer) => Ok(Decision { answer, node, name, resolved }),
            Verdict::AskCinder(_) => Err(StoreError::Damaged("a decision was not made".into())),
        }
    }
}

impl Decision {
    fn about_nobody(answer: Answer) -> Self {
        Self { answer, node: None, name: None, resolved: Vec::new() }
    }
}

impl Resolved {
    fn new(volume: &str, found: &Found) -> Self {
        Self { volume: volume.to_owned(), source: found.source.clone(), took: found.took }
    }
}

/// A machine whose records cannot be read waits.
fn or_wait(asker: &Asker, decision: Result<Decision, StoreError>) -> Decision {
    decision.unwrap_or_else(|error| {
        tracing::error!(error = %error, mac = %asker.mac(), "the store failed a boot request");
        let reason = "volboot cannot read its store; its log says why".to_owned();
        Decision::about_nobody(Answer::Wait { reason, seconds: STORE_PAUSE })
    })
}

/// What people call a node in a reason.
fn name(node: &Node) -> String {
    format!("node {}", node.label())
}
