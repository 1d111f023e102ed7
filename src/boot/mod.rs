//! The decision on a boot request: the [`BootAnswer`] for the machine. No sockets, no script text.
//!
//! | step | module |
//! |---|---|
//! | identify the node by the machine's MAC addresses | [`mod@identify`] |
//! | read its connectors and targets from the store | here |
//! | decide whether the node may boot: a pure function, with a test per rule | [`mod@decide`] |
//! | validate the records of the node; the API does the same | [`mod@validate`] |
//! | verify the requester's MAC address, before it gets volumes | [`mod@verify`] |
//! | resolve the volumes, with storage interface `cinder` | [`crate::attach`] |
//!
//! Invariant: every boot request is decided from the current records. Only while Cinder is unavailable may a last
//! known connection be used, and then the answer has a note.

mod decide;
mod identify;
pub mod validate;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::attach::{Attach, Resolution, ResolvedVolume, VolumeRequest};
use crate::model::{
    BootAnswer, BootRequest, ConnectionSource, Mac, Node, StorageInterface, VolumeConnector, VolumeTarget,
};
use crate::store::{Inventory, StoreError};
use decide::{NextStep, NodeRecords, answer_with_volumes, decide};
use identify::{NodeMatch, identify};
use verify::verify_requester;

/// The delay before a machine retries when the store cannot be read, in seconds.
const STORE_RETRY_SECONDS: u32 = 10;

/// Decides boot requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Boot {
    inventory: Inventory,
    attach: Attach,
    enabled: Arc<[StorageInterface]>,
}

/// The answer to a boot request, with the node that it is about.
#[derive(Debug)]
pub struct Decision {
    /// The answer.
    pub answer: BootAnswer,
    /// The node's UUID, if the machine matches a node.
    pub node: Option<Uuid>,
    /// The node's name, else its UUID as text.
    pub name: Option<String>,
    /// The resolution of each volume, if the volumes were resolved.
    pub resolutions: Vec<VolumeResolution>,
}

/// The resolution of one volume.
#[derive(Debug, Clone)]
pub struct VolumeResolution {
    /// The volume's id.
    pub volume: String,
    /// The source of the connection.
    pub source: ConnectionSource,
    /// The duration of the resolution.
    pub duration: Duration,
}

impl Boot {
    /// `enabled`: the storage interfaces that nodes may boot with.
    pub fn new(inventory: Inventory, attach: Attach, enabled: impl Into<Arc<[StorageInterface]>>) -> Self {
        Self { inventory, attach, enabled: enabled.into() }
    }

    /// Answers a boot request. Attaches the node's volumes with storage interface `cinder`.
    pub async fn answer(&self, request: &BootRequest) -> Decision {
        wait_on_store_error(request, self.decide_request(request, false).await)
    }

    /// Returns the likely answer to a boot request, without attaching volumes.
    pub async fn preview(&self, request: &BootRequest) -> Decision {
        wait_on_store_error(request, self.decide_request(request, true).await)
    }

    /// Returns all faults that prevent a node from booting from its volumes. With storage interface `cinder`,
    /// Cinder's faults are included if the records have none.
    pub async fn find_faults(
        &self,
        node: &Node,
        connectors: &[VolumeConnector],
        targets: &[VolumeTarget],
    ) -> Vec<String> {
        let faults = validate::find_faults(node, connectors, targets);
        if faults.is_empty() && node.storage_interface == StorageInterface::Cinder {
            return self.attach.check(node.uuid, targets).await.into_faults();
        }
        faults
    }

    /// Whether a report from `card` may concern `machine`: both are the same MAC address, or ports of the same node.
    /// For an unregistered machine, only the same MAC address counts. It does too while the store fails.
    pub async fn is_same_machine(&self, card: Mac, machine: Mac) -> bool {
        if card == machine {
            return true;
        }
        let ports = self.inventory.find_ports(&[card, machine]).await.unwrap_or_default();
        let node_of = |mac| ports.iter().find(|port| port.address == mac).map(|port| port.node_uuid);
        node_of(card).is_some_and(|node| node_of(machine) == Some(node))
    }

    async fn decide_request(&self, request: &BootRequest, preview: bool) -> Result<Decision, StoreError> {
        let node = match identify(&self.inventory, request).await? {
            NodeMatch::Unique(node) => *node,
            NodeMatch::None(answer) => return Ok(Decision::without_node(answer)),
        };
        let connectors = self.inventory.list_all_of(node.uuid).await?;
        let targets = self.inventory.list_all_of(node.uuid).await?;
        let records = NodeRecords { node, connectors, targets };
        let step = decide(&records, &self.enabled);
        let mut resolutions = Vec::new();
        let rejection = match &step {
            NextStep::ResolveVolumes(_) | NextStep::Answer(BootAnswer::Boot(_)) => {
                verify_requester(&self.inventory, &records.node, request).await?
            }
            NextStep::Answer(_) => None,
        };
        let answer = match (rejection, step) {
            (Some(answer), _) | (None, NextStep::Answer(answer)) => answer,
            (None, NextStep::ResolveVolumes(initiator)) => {
                let NodeRecords { node, connectors, targets } = &records;
                let journey = request.journey.as_deref().map(|journey| (journey, request.attempt));
                let volumes = VolumeRequest { node, initiator: &initiator, connectors, targets, journey };
                let resolution = if preview {
                    self.attach.preview(volumes).await
                } else {
                    self.attach.resolve(volumes).await
                };
                if let Resolution::Ready(volumes) = &resolution {
                    let volumes = volumes.iter();
                    resolutions = volumes.map(|(id, volume)| VolumeResolution::new(id, volume)).collect();
                }
                answer_with_volumes(&records, resolution)
            }
        };
        let (node, name) = (Some(records.node.uuid), Some(records.node.label()));
        Ok(Decision { answer, node, name, resolutions })
    }
}

impl Decision {
    fn without_node(answer: BootAnswer) -> Self {
        Self { answer, node: None, name: None, resolutions: Vec::new() }
    }
}

impl VolumeResolution {
    fn new(id: &str, volume: &ResolvedVolume) -> Self {
        Self { volume: id.to_owned(), source: volume.source.clone(), duration: volume.duration }
    }
}

/// Turns a store error into an answer: the machine waits and retries.
fn wait_on_store_error(request: &BootRequest, decision: Result<Decision, StoreError>) -> Decision {
    decision.unwrap_or_else(|error| {
        tracing::error!(error = %error, mac = %request.mac(), "boot request failed: cannot read the store");
        let reason = "the store cannot be read; see the log of volboot".to_owned();
        Decision::without_node(BootAnswer::Wait { reason, seconds: STORE_RETRY_SECONDS })
    })
}

/// A reason about a node: `node web-1: <sentence>`.
fn node_reason(node: &Node, sentence: impl std::fmt::Display) -> String {
    format!("node {}: {sentence}", node.label())
}
