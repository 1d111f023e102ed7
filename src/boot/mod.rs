//! The decision on a boot request: the [`BootAnswer`] for the machine. No sockets, no script text.
//!
//! Each request passes through these phases, in this order. A phase hands its result to the next, or stops with an
//! answer.
//!
//! | phase | module |
//! |---|---|
//! | identify the node by the machine's MAC addresses, and read its records | [`mod@identify`] |
//! | give the machine the node's one-time boot, if there is one for this boot session | [`mod@once`] |
//! | admit the node: its state and its storage interface permit booting, and its records are valid | [`mod@admit`], [`mod@validate`] |
//! | verify the requester's MAC address, before it gets volumes | [`mod@verify`] |
//! | choose between the node's own volumes and its fallback | [`mod@fallback`] |
//! | check the boot window of a node with a BMC | [`mod@window`] |
//! | locate the volumes: what each storage interface means | [`mod@locate`] |
//! | plan the boot | [`mod@plan`] |
//! | hold a machine in a boot loop back | [`mod@hold`] |
//! | put paths through portals that do not answer last | [`crate::preflight`] |
//!
//! A preview passes through the same phases and changes nothing. It gives the same answer with two exceptions. Only a
//! boot request attaches a Cinder volume for the first time, and the preview announces that. And only a boot session
//! has a past, which limits how long its machine waits and where it stands in the queue to Cinder.
//!
//! Invariant: every boot request is decided from the current records. Only while Cinder is unavailable may a last
//! known connection be used, and then the answer has a note.

mod admit;
mod decision;
mod fallback;
mod hold;
mod identify;
mod locate;
mod once;
mod plan;
mod recorded;
mod records;
mod report;
#[cfg(test)]
mod tests;
pub mod validate;
mod verify;
mod volume_users;
mod volumes;
mod window;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::attach::{Attach, Resolution, StoreOutage};
use crate::config::RequesterPolicy;
use crate::model::{
    BootAnswer, BootOutcome, BootRequest, BootStep, BootWindowPolicy, Mac, NeighbourCheck, Node, Portal,
    RequesterFault, StorageInterface,
};
use crate::neighbours::Neighbours;
use crate::preflight::Preflight;
use crate::store::{Inventory, StoreError};
use crate::telemetry::PortalReading;
use crate::timeline::LoopDetector;
pub use decision::{Decision, VolumeResolution};
use decision::{Mode, Stop};
use fallback::FallbackBoot;
pub use fallback::{AttachedNetwork, FallbackAtBoot, FallbackPolicy, FallbackWatch};
use identify::{identify, read_records};
use locate::VolumeLocator;
use once::OnceAtRequest;
pub use recorded::{RecordedBoot, RecordedBootError, RecordedVolume};
use records::NodeRecords;
use report::ReportPlaces;
use validate::validate;
use verify::judge;
pub use volume_users::{NamedVolume, VolumeUse, VolumeUser};

/// The delay before a machine retries when the store cannot be read, in seconds.
const STORE_RETRY_SECONDS: u32 = 10;

/// Decides boot requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Boot {
    inventory: Inventory,
    /// For reads alone: during a request, those of [`Inventory::settle`].
    reads: Inventory,
    attach: Attach,
    loop_detector: Arc<LoopDetector>,
    enabled: Arc<[StorageInterface]>,
    policy: Arc<RequesterPolicy>,
    neighbours: Neighbours,
    fallback_watch: FallbackWatch,
    fallback_policy: FallbackPolicy,
    /// `None`: machines boot at any time.
    window: Option<BootWindowPolicy>,
    preflight: Preflight,
    report_places: Arc<ReportPlaces>,
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
            fallback_watch: FallbackWatch::new(inventory.clone()),
            reads: inventory.clone(),
            fallback_policy: FallbackPolicy::default(),
            inventory,
            attach,
            loop_detector,
            enabled: enabled.into(),
            policy: Arc::default(),
            neighbours: Neighbours::default(),
            window: None,
            preflight: Preflight::default(),
            report_places: Arc::default(),
            store_outage: None,
        }
    }

    /// Replaces the default policy for requesters. `neighbours` has the sightings of cards.
    #[must_use]
    pub fn with_requesters(self, policy: RequesterPolicy, neighbours: Neighbours) -> Self {
        Self { policy: Arc::new(policy), neighbours, ..self }
    }

    /// Replaces the default policy for fallbacks. `watch` is that of all configurations of this process.
    #[must_use]
    pub fn with_fallbacks(self, policy: FallbackPolicy, watch: FallbackWatch) -> Self {
        Self { fallback_policy: policy, fallback_watch: watch, ..self }
    }

    /// The watch over nodes with a fallback.
    pub fn fallback_watch(&self) -> &FallbackWatch {
        &self.fallback_watch
    }

    /// The policy for fallbacks.
    pub fn fallback_policy(&self) -> FallbackPolicy {
        self.fallback_policy
    }

    /// Limits nodes with a BMC to the boots that volboot begins.
    #[must_use]
    pub fn with_window(self, window: Option<BootWindowPolicy>) -> Self {
        Self { window, ..self }
    }

    /// Replaces the knowledge about portals.
    #[must_use]
    pub fn with_preflight(self, preflight: Preflight) -> Self {
        Self { preflight, ..self }
    }

    /// Whether this host reaches a portal; `None` if it has not tried within the last minute.
    pub fn reaches_portal(&self, portal: &Portal) -> Option<bool> {
        self.preflight.is_reachable(portal)
    }

    /// The number of portals by whether they answer this host.
    pub fn count_portals(&self) -> PortalReading {
        self.preflight.count_portals()
    }

    /// Puts the paths through portals that do not answer last.
    async fn order_paths(&self, mode: Mode, mut decision: Decision) -> Decision {
        if let BootAnswer::Boot(plan) = &mut decision.answer {
            match mode {
                Mode::Boot => self.preflight.apply(plan).await,
                Mode::Preview | Mode::NextSession => self.preflight.apply_known(plan),
            }
        }
        decision
    }

    /// Answers a boot request. Attaches the node's volumes with storage interface `cinder`, and counts the boot
    /// session of a machine that could boot.
    pub async fn answer(&self, request: &BootRequest) -> Decision {
        let decision = self.run_phases(request, Mode::Boot).await;
        let is_claim_accepted = decision.is_claim_accepted
            || decision.fault.is_none() && self.accepts_claim(request, &decision.answer).await;
        // A machine that waits or is refused has not begun another boot, and may still run from the volume.
        let begins = matches!(decision.answer.outcome(), BootOutcome::Boot | BootOutcome::LocalDisk);
        let ended_once = decision.ended_once.filter(|_| is_claim_accepted && begins);
        Decision { is_claim_accepted, ended_once, ..decision }
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
            return match self.inventory.settle().await {
                Ok(reads) => Self { reads, ..self.clone() }.run_phases_here(request, mode).await,
                Err(error) => wait_for_store(request, &error),
            };
        };
        if let Some(reason) = outage.find_obstacle() {
            return Decision::without_node(BootAnswer::Wait { reason, seconds: STORE_RETRY_SECONDS });
        }
        let inventory = self.inventory.last_known();
        let fallback_watch = self.fallback_watch.on(inventory.clone());
        let reads = inventory.clone();
        let last_known =
            Self { inventory, reads, fallback_watch, store_outage: Some(outage), ..self.clone() };
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
        let records = identify(&self.reads, request).await?;
        match self.read_once(&records.node, request, mode).await? {
            OnceAtRequest::Given(once, is_armed) => {
                if mode == Mode::Boot {
                    self.fallback_watch.note_other_boot(&records.node, request.mac());
                }
                self.decide_once(&records, once, is_armed, request, mode).await
            }
            OnceAtRequest::Over(once) => {
                let decision = match self.decide_volumes(&records, request, mode).await {
                    Ok(decision) => decision,
                    Err(Stop::Decided(decision)) => *decision,
                    Err(stop @ Stop::StoreError(_)) => return Err(stop),
                };
                Ok(Decision { ended_once: Some(once), ..decision })
            }
            OnceAtRequest::None => self.decide_volumes(&records, request, mode).await,
        }
    }

    /// Checks whether a node can boot from its volumes, or from its fallback while that is in force. With storage interface `cinder`, Cinder's faults are included
    /// if the records have none.
    pub async fn check(&self, node: &Node) -> Result<NodeCheck, StoreError> {
        let own = read_records(&self.inventory, node.clone()).await?;
        let (records, notice) = match self.fallback_watch.find_in_force(&own).await? {
            Some(FallbackBoot { records, notice }) => (records, Some(notice.text)),
            None => (own, None),
        };
        let NodeRecords { node, connectors, targets } = records;
        let (faults, notes) = match VolumeLocator::find(&node.storage_interface) {
            None => (Vec::new(), Vec::new()),
            Some(Err(reason)) => (vec![reason], Vec::new()),
            Some(Ok(locator)) => match validate(locator, &node, &connectors, &targets) {
                Err(faults) => (faults, Vec::new()),
                Ok(_) => locator.check_with_service(&self.attach, &node, &connectors, &targets).await,
            },
        };
        let mut warnings = validate::find_warnings(&connectors, &targets);
        warnings.extend(notice);
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

    /// Takes a report of the machine with this card, for the count of failed boots.
    pub fn note_report(&self, card: Mac, step: Option<&BootStep>, rc: Option<&str>) {
        self.fallback_watch.note_report(card, step, rc);
    }

    /// Notes that a report in the name of this card was dropped.
    pub fn note_dropped_report(&self, card: Mac) {
        self.fallback_watch.note_dropped_report(card);
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
        let ports = self.reads.find_ports(&[card]).await?;
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
