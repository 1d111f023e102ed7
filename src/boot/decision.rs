//! [`Decision`]: the result of the phases, and [`Stop`], by which a phase ends them early.

use std::fmt::Display;
use std::time::Duration;

use uuid::Uuid;

use crate::attach::ResolvedVolume;
use crate::model::{
    BootAnswer, BootOnce, BootPlan, BootWindowRefusal, ChainUrl, ConnectionSource, FallbackNotice, Mac, Node,
    RequesterFault,
};
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
    /// Why the boot is from the node's fallback, or that it cannot be, although it is due.
    pub fallback: Option<FallbackNotice>,
    /// The node's card that the neighbour table shows for the requester.
    pub attached_card: Option<Mac>,
    /// Why the requester gets no volume, if its place in the network is the reason.
    pub fault: Option<RequesterFault>,
    /// Why the requester gets no volume, if its boot window is the reason.
    pub window_refusal: Option<BootWindowRefusal>,
    /// Whether the requester's place in the network permits its claim to be the machine. Otherwise the request must
    /// change nothing of the machine, its timeline included.
    pub is_claim_accepted: bool,
    /// The source of the one-time boot that the machine gets, without secrets.
    pub once: Option<String>,
    /// The one-time boot that ends as soon as the answer has left: its journey is over.
    pub ended_once: Option<BootOnce>,
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

    /// Refuses a request outside of the node's boot window.
    pub(super) fn refuse_window(node: &Node, refusal: BootWindowRefusal) -> Self {
        let answer = BootAnswer::Refused { reason: node_reason(node, refusal) };
        let (node, name) = (Some(node.uuid), Some(node.label()));
        let decision =
            Decision { node, name, window_refusal: Some(refusal), ..Decision::without_node(answer) };
        Self::Decided(Box::new(decision))
    }

    /// Sends the machine to its local disk.
    pub(super) fn boot_local_disk(node: &Node, sentence: impl Display) -> Self {
        Self::Decided(Box::new(Decision::boot_local_disk(node, sentence)))
    }

    fn answer(node: &Node, answer: BootAnswer) -> Self {
        Self::Decided(Box::new(Decision::of_node(node, answer)))
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
            fallback: None,
            attached_card: None,
            fault: None,
            window_refusal: None,
            is_claim_accepted: false,
            once: None,
            ended_once: None,
        }
    }

    /// The decision about a boot from the fallback: the console says so.
    pub(super) fn with_fallback(self, notice: FallbackNotice) -> Self {
        Self { fallback: Some(notice.clone()), ..self.with_note(Some(&notice.text)) }
    }

    /// Adds a note for the console.
    pub(super) fn with_note(mut self, note: Option<&str>) -> Self {
        if let (BootAnswer::Boot(plan), Some(note)) = (&mut self.answer, note) {
            plan.notes.insert(0, note.to_owned());
        }
        self
    }

    /// Sends the machine to its local disk.
    pub(super) fn boot_local_disk(node: &Node, sentence: impl Display) -> Self {
        Self::of_node(node, BootAnswer::LocalDisk { reason: node_reason(node, sentence) })
    }

    /// Opens the iPXE shell.
    pub(super) fn open_shell(node: &Node, sentence: impl Display) -> Self {
        Self::of_node(node, BootAnswer::Shell { reason: node_reason(node, sentence) })
    }

    /// Boots what a URL names.
    pub(super) fn boot_url(node: &Node, sentence: impl Display, url: ChainUrl) -> Self {
        Self::of_node(node, BootAnswer::Url { reason: node_reason(node, sentence), url })
    }

    fn of_node(node: &Node, answer: BootAnswer) -> Self {
        let (node, name) = (Some(node.uuid), Some(node.label()));
        Self { node, name, ..Self::without_node(answer) }
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
