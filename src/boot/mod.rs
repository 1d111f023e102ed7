//! The decision on a boot request: the [`BootAnswer`] for the machine. No sockets, no script text.
//!
//! Each request passes through these phases, in this order. A phase hands its result to the next, or stops with an
//! answer.
//!
//! | phase | module |
//! |---|---|
//! | identify the node by the machine's MAC addresses, and read its records | [`mod@identify`] |
//! | admit the node: its state and its storage interface permit booting, and its records are valid | [`mod@admit`], [`mod@validate`] |
//! | verify the requester's MAC address, before it gets volumes | [`mod@verify`] |
//! | locate the volumes: what each storage interface means | [`mod@locate`] |
//! | plan the boot | [`mod@plan`] |
//! | hold a machine in a boot loop back | [`mod@hold`] |
//!
//! A preview passes through the same phases and changes nothing. It gives the same answer with two exceptions. Only a
//! boot request attaches a Cinder volume for the first time, and the preview announces that. And only a boot session
//! has a past, which limits how long its machine waits and where it stands in the queue to Cinder.
//!
//! Invariant: every boot request is decided from the current records. Only while Cinder is unavailable may a last
//! known connection be used, and then the answer has a note.

mod admit;
mod decision;
mod hold;
mod identify;
mod locate;
mod plan;
mod records;
#[cfg(test)]
mod tests;
pub mod validate;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::attach::{Attach, Resolution, StoreOutage};
use crate::config::RequesterPolicy;
use crate::model::{BootAnswer, BootRequest, Mac, NeighbourCheck, Node, RequesterFault, StorageInterface};
use crate::neighbours::Neighbours;
use crate::store::{Inventory, StoreError};
use crate::timeline::LoopDetector;
use admit::{AdmittedNode, admit};
pub use decision::{Decision, VolumeResolution};
use decision::{Mode, Stop};
use hold::hold;
use identify::{identify, read_records};
use locate::VolumeLocator;
use plan::plan;
use records::NodeRecords;
use validate::validate;
use verify::{judge, verify_requester};

/// The delay before a machine retries when the store cannot be read, in seconds.
const STORE_RETRY_SECONDS: u32 = 10;

/// Decides boot requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Boot {
    inventory: Inventory,
    attach: Attach,
    loop_detector: Arc<LoopDetector>,
    enabled: Arc<[StorageInterface]>,
    policy: Arc<RequesterPolicy>,
    neighbours: Neighbours,
    /// The outage of the store, in which `inventory` has the last known records.
    store_outage: Option<StoreOutage>,
}

/// The result of a node's check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCheck {
    /// Prevent the node from booting from its volumes.
    pub faults: Vec<String>,
    /// The operator should know them, but they do not prevent a boot.
    pub warnings: Vec<String>,
}

impl Boot {
    /// `enabled`: the storage interfaces that nodes may boot with.
    pub fn new(
        inventory: Inventory,
        attach: Attach,
        loop_detector: Arc<LoopDetector>,
        enabled: impl Into<Arc<[StorageInterface]>>,
    ) -> Self {
        Self {
            inventory,
            attach,
            loop_detector,
            enabled: enabled.into(),
            policy: Arc::default(),
            neighbours: Neighbours::default(),
            store_outage: None,
        }
    }

    /// Replaces the default policy for requesters. `neighbours` has the sightings of cards.
    #[must_use]
    pub fn with_requesters(self, policy: RequesterPolicy, neighbours: Neighbours) -> Self {
        Self { policy: Arc::new(policy), neighbours, ..self }
    }

    /// Answers a boot request. Attaches the node's volumes with storage interface `cinder`, and counts the boot
    /// session of a machine that could boot.
    pub async fn answer(&self, request: &BootRequest) -> Decision {
        let decision = self.run_phases(request, Mode::Boot).await;
        let is_claim_accepted = decision.is_claim_accepted
            || decision.fault.is_none() && self.accepts_claim(request, &decision.answer).await;
        Decision { is_claim_accepted, ..decision }
    }

    /// Judges the claim of a requester whose request was decided before the phase that verifies it. Without a node for
    /// the address, the claim harms no machine, and the operator enrolls the machine by it.
    async fn accepts_claim(&self, request: &BootRequest, answer: &BootAnswer) -> bool {
        matches!(answer, BootAnswer::Unknown { .. })
            || self.verify_report(request.mac(), &request.neighbour_check).await.is_ok()
    }

    /// Returns the likely answer to this boot request, and changes nothing.
    pub async fn preview(&self, request: &BootRequest) -> Decision {
        self.run_phases(request, Mode::Preview).await
    }

    /// Returns the likely answer to a machine's next boot request, and changes nothing. The request has no journey:
    /// the machine is in the session that is being delayed, else it starts a new one.
    pub async fn predict(&self, request: &BootRequest) -> Decision {
        self.run_phases(request, Mode::NextSession).await
    }

    /// Decides from the last known records while the store does not respond, if the policy permits that.
    async fn run_phases(&self, request: &BootRequest, mode: Mode) -> Decision {
        let Some(outage) = self.attach.store_outage() else {
            return self.run_phases_here(request, mode).await;
        };
        if let Some(reason) = outage.find_obstacle() {
            return Decision::without_node(BootAnswer::Wait { reason, seconds: STORE_RETRY_SECONDS });
        }
        let inventory = self.inventory.last_known();
        let last_known = Self { inventory, store_outage: Some(outage), ..self.clone() };
        last_known.run_phases_here(request, mode).await
    }

    async fn run_phases_here(&self, request: &BootRequest, mode: Mode) -> Decision {
        let decision = match self.decide(request, mode).await {
            Ok(decision) => decision,
            Err(Stop::Decided(decision)) => *decision,
            Err(Stop::StoreError(error)) => return wait_for_store(request, &error),
        };
        Decision { attached_card: self.find_attached_card(request, &decision).await, ..decision }
    }

    /// The node's card that the neighbour table shows for the requester, whatever the answer.
    async fn find_attached_card(&self, request: &BootRequest, decision: &Decision) -> Option<Mac> {
        if decision.attached_card.is_some() {
            return decision.attached_card;
        }
        let (card, node) = (request.neighbour_check.mac()?, decision.node?);
        // While the store fails, the card is unknown.
        self.is_card_of(card, node).await.unwrap_or(false).then_some(card)
    }

    async fn decide(&self, request: &BootRequest, mode: Mode) -> Result<Decision, Stop> {
        let records = identify(&self.inventory, request).await?;
        let AdmittedNode { locator, records } = admit(&records, &self.enabled)?;
        let verification =
            verify_requester(&self.inventory, &self.neighbours, &self.policy, records.node, request).await?;
        let decision =
            match locator.locate(&self.attach, &records, request, mode, self.store_outage.as_ref()).await {
                Ok(volumes) => {
                    let decision = Decision { attached_card: verification.card(), ..plan(records, volumes) };
                    hold(&self.loop_detector, request, mode, verification, decision)
                }
                Err(Stop::Decided(decision)) => *decision,
                Err(stop @ Stop::StoreError(_)) => return Err(stop),
            };
        Ok(Decision { is_claim_accepted: true, ..decision })
    }

    /// Checks whether a node can boot from its volumes. With storage interface `cinder`, Cinder's faults are included
    /// if the records have none.
    pub async fn check(&self, node: &Node) -> Result<NodeCheck, StoreError> {
        let NodeRecords { node, connectors, targets } = read_records(&self.inventory, node.clone()).await?;
        let (faults, notes) = match VolumeLocator::find(&node.storage_interface) {
            None => (Vec::new(), Vec::new()),
            Some(Err(reason)) => (vec![reason], Vec::new()),
            Some(Ok(locator)) => match validate(locator, &node, &connectors, &targets) {
                Err(faults) => (faults, Vec::new()),
                Ok(_) => locator.check_with_service(&self.attach, &node, &connectors, &targets).await,
            },
        };
        let mut warnings = validate::find_warnings(&connectors, &targets);
        warnings.extend(notes);
        Ok(NodeCheck { faults, warnings })
    }

    /// Attaches the volumes of a node ahead of its boot request, within a time limit. Returns the reason why it cannot.
    pub async fn attach_volumes(&self, node: &Node, limit: Duration) -> Result<(), String> {
        let records = read_records(&self.inventory, node.clone()).await.map_err(|error| error.to_string())?;
        let NodeRecords { node, connectors, targets } = &records;
        let locator = match VolumeLocator::find(&node.storage_interface) {
            None => return Ok(()),
            Some(locator) => locator?,
        };
        let records = validate(locator, node, connectors, targets).map_err(|faults| faults.join("; "))?;
        let deadline = Instant::now() + limit;
        loop {
            match locator.attach(&self.attach, &records).await {
                Resolution::Ready(_) => return Ok(()),
                Resolution::Refused(reason) => return Err(reason),
                Resolution::Wait { reason, seconds } => {
                    let pause = Duration::from_secs(seconds.into());
                    if Instant::now() + pause > deadline {
                        return Err(format!("{reason}; gave up after {} s", limit.as_secs()));
                    }
                    sleep(pause).await;
                }
            }
        }
    }

    /// Finds the node of a machine, for display.
    pub async fn find_node(&self, macs: &[Mac]) -> Result<Option<Node>, StoreError> {
        identify::find_node(&self.inventory, macs).await
    }

    /// Notes a report of hooked volumes from the machine with this card.
    pub async fn note_hooked(&self, card: Mac) {
        let ports = self.inventory.find_ports(&[card]).await.unwrap_or_default();
        for port in ports {
            self.attach.note_hooked(port.node_uuid, card).await;
        }
    }

    /// Verifies the sender of a report about the machine with this card.
    ///
    /// A report from a network that `routed_networks` names counts, even about a card on an attached network: an
    /// operating system may report through another network than the firmware used.
    pub async fn verify_report(&self, card: Mac, check: &NeighbourCheck) -> Result<(), RequesterFault> {
        let is_card_of_machine = match check.mac() {
            Some(sender) => self.is_same_machine(sender, card).await,
            None => false,
        };
        judge(&self.policy, check, is_card_of_machine, None).map(drop)
    }

    /// Whether the network card is one of the node's.
    pub async fn is_card_of(&self, card: Mac, node: Uuid) -> Result<bool, StoreError> {
        let ports = self.inventory.find_ports(&[card]).await?;
        Ok(ports.iter().any(|port| port.node_uuid == node))
    }

    /// Whether both are the same MAC address, or ports of the same node. For an unregistered machine, only the same MAC
    /// address counts. It does too while the store fails.
    async fn is_same_machine(&self, card: Mac, machine: Mac) -> bool {
        if card == machine {
            return true;
        }
        let ports = self.inventory.find_ports(&[card, machine]).await.unwrap_or_default();
        let node_of = |mac| ports.iter().find(|port| port.address == mac).map(|port| port.node_uuid);
        node_of(card).is_some_and(|node| node_of(machine) == Some(node))
    }
}

/// The answer while the store cannot be read: the machine waits and retries.
fn wait_for_store(request: &BootRequest, error: &StoreError) -> Decision {
    tracing::error!(%error, mac = %request.mac(), "boot request failed: cannot read the store");
    let reason = "the store cannot be read; see the log of volboot".to_owned();
    Decision::without_node(BootAnswer::Wait { reason, seconds: STORE_RETRY_SECONDS })
}
