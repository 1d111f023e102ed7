//! [`Decision`]: the result of the phases, and [`Stop`], by which a phase ends them early.

use std::fmt::Display;
use std::time::Duration;

use uuid::Uuid;

use crate::attach::ResolvedVolume;
use crate::model::{BootAnswer, BootPlan, ConnectionSource, Mac, Node, RequesterFault};
use crate::store::StoreError;
use crate::timeline::LoopDelay;

/// The delay before a requester retries whose place in the network is unclear, in seconds.
const UNCLEAR_RETRY_SECONDS: u32 = 5;

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
    /// The delay, if the machine could boot but is held back as a boot loop.
    pub held: Option<LoopDelay>,
    /// The node's card that the neighbour table shows for the requester.
    pub attached_card: Option<Mac>,
    /// Why the requester gets no volume, if its place in the network is the reason.
    pub fault: Option<RequesterFault>,
    /// Whether the requester's place in the network permits its claim to be the machine. Otherwise the request must
    /// change nothing of the machine, its timeline included.
    pub is_claim_accepted: bool,
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
    /// The server of the attachment, if another client created it for the node's instance.
    pub server: Option<Uuid>,
}

/// Whether a decision takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A machine boots: volumes are attached, and the boot session is counted.
    Boot,
    /// The decision is previewed: nothing changes.
    Preview,
    /// The decision is previewed for the machine's next boot request, in a session that is not known yet.
    NextSession,
}

/// The early end of a decision: no further phase runs.
#[derive(Debug)]
pub(super) enum Stop {
    Decided(Box<Decision>),
    StoreError(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::StoreError(error)
    }
}

impl Stop {
    /// Stops without a node: the machine matches none, or several.
    pub(super) fn without_node(answer: BootAnswer) -> Self {
        Self::Decided(Box::new(Decision::without_node(answer)))
    }

    /// Refuses the node's boot.
    pub(super) fn refuse(node: &Node, sentence: impl Display) -> Self {
        Self::answer(node, BootAnswer::Refused { reason: node_reason(node, sentence) })
    }

    /// Makes the machine wait, and retry after this number of seconds.
    pub(super) fn wait(node: &Node, sentence: impl Display, seconds: u32) -> Self {
        Self::answer(node, BootAnswer::Wait { reason: node_reason(node, sentence), seconds })
    }

    /// Rejects a requester that is not confirmed as the node. It waits where the reason may pass.
    pub(super) fn reject(node: &Node, fault: RequesterFault) -> Self {
        let reason = node_reason(node, &fault);
        let answer = if fault.is_unclear() {
            BootAnswer::Wait { reason, seconds: UNCLEAR_RETRY_SECONDS }
        } else {
            BootAnswer::Refused { reason }
        };
        let (node, name) = (Some(node.uuid), Some(node.label()));
        let decision = Decision { node, name, fault: Some(fault), ..Decision::without_node(answer) };
        Self::Decided(Box::new(decision))
    }

    /// Sends the machine to its local disk.
    pub(super) fn boot_local_disk(node: &Node, sentence: impl Display) -> Self {
        Self::answer(node, BootAnswer::LocalDisk { reason: node_reason(node, sentence) })
    }

    fn answer(node: &Node, answer: BootAnswer) -> Self {
        let (node, name) = (Some(node.uuid), Some(node.label()));
        Self::Decided(Box::new(Decision { node, name, ..Decision::without_node(answer) }))
    }
}

impl Decision {
    pub(super) fn without_node(answer: BootAnswer) -> Self {
        Self {
            answer,
            node: None,
            name: None,
            resolutions: Vec::new(),
            held: None,
            attached_card: None,
            fault: None,
            is_claim_accepted: false,
        }
    }

    /// Boots the plan's node.
    pub(super) fn boot(plan: BootPlan, resolutions: Vec<VolumeResolution>) -> Self {
        let (node, name) = (Some(plan.node), Some(plan.label.clone()));
        let answer = BootAnswer::Boot(Box::new(plan));
        Self { node, name, resolutions, ..Self::without_node(answer) }
    }
}

impl VolumeResolution {
    pub(super) fn new(id: &str, volume: &ResolvedVolume) -> Self {
        let ResolvedVolume { source, duration, server, .. } = volume;
        Self { volume: id.to_owned(), source: source.clone(), duration: *duration, server: *server }
    }
}

/// A reason about a node: `node web-1: <sentence>`.
pub(super) fn node_reason(node: &Node, sentence: impl Display) -> String {
    format!("node {}: {sentence}", node.label())
}
