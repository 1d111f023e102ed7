//! [`RunHistory`]: what clients, machines and Cinder saw of a run, in the order of its clock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

/// One event and its time since the start of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HistoryEntry {
    pub(super) at: Duration,
    pub(super) event: RunEvent,
}

/// An event of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunEvent {
    /// A fault begins or ends.
    Fault(String),
    /// An operator's request got this answer. Its events follow or precede it.
    Operation { request: String, answer: String },
    /// An operator sends a request that gives a node a volume for this use.
    Granting { node: Uuid, volume: String, usage: Usage },
    /// An operator has the answer that a node no longer has a volume for this use.
    Revoked { node: Uuid, volume: String, usage: Usage },
    /// An operator has the answer that a node is in maintenance.
    MaintenanceSet { node: Uuid },
    /// An operator sends a request that ends a node's maintenance.
    MaintenanceEnding { node: Uuid },
    /// A machine sends a boot request to an instance.
    Asked { node: Uuid, request: u32, instance: usize },
    /// The machine has its boot script.
    Script { node: Uuid, request: u32, volumes: Vec<ScriptVolume> },
    /// The machine has another answer.
    Told { node: Uuid, request: u32, answer: String },
    /// An instance sends a call to Cinder.
    CallSent { call: u32, instance: usize, text: String },
    /// A call takes effect.
    CallEffect { call: u32, effect: Effect },
    /// The instance has the response to its call.
    CallAnswered { call: u32, status: u16 },
}

/// Why a node has a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Usage {
    Target,
    Once,
    Fallback,
}

/// A volume in a boot script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScriptVolume {
    pub(super) volume: String,
    /// The attachment whose export the script names.
    pub(super) attachment: u32,
    /// The number of that export, over all attachments.
    pub(super) export: u32,
    pub(super) source: ScriptSource,
}

/// Where an instance has a connection from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScriptSource {
    /// An export for this boot.
    Export,
    /// Its records, while Cinder does not answer.
    LastKnown,
    /// Its records, confirmed by Cinder, while the store does not answer.
    Confirmed,
}

/// A change in Cinder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Reserved { volume: String, attachment: u32 },
    Exported { attachment: u32, export: u32, node: Uuid },
    Completed { attachment: u32 },
    Deleted { attachment: u32 },
}

/// The events of a run. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct RunHistory(Arc<Recording>);

#[derive(Debug)]
struct Recording {
    started_at: Instant,
    entries: Mutex<Vec<HistoryEntry>>,
}

impl RunHistory {
    pub(super) fn start() -> Self {
        Self(Arc::new(Recording { started_at: Instant::now(), entries: Mutex::default() }))
    }

    pub(super) fn started_at(&self) -> Instant {
        self.0.started_at
    }

    pub(super) fn record(&self, event: RunEvent) {
        let at = self.0.started_at.elapsed();
        self.0.entries.lock().push(HistoryEntry { at, event });
    }

    pub(super) fn entries(&self) -> Vec<HistoryEntry> {
        self.0.entries.lock().clone()
    }
}

/// The end of an id, which tells the nodes and the volumes of a run apart.
pub(super) fn shorten(id: impl fmt::Display) -> String {
    let text = id.to_string();
    text[text.len().saturating_sub(3)..].to_owned()
}

impl fmt::Display for HistoryEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10.3}  ", self.at.as_secs_f64())?;
        match &self.event {
            RunEvent::Fault(text) => write!(f, "fault: {text}"),
            RunEvent::Operation { request, answer } => write!(f, "operator: {request}: {answer}"),
            RunEvent::Granting { node, volume, usage } => {
                write!(f, "operator: node {} gets volume {} as {usage:?}", shorten(node), shorten(volume))
            }
            RunEvent::Revoked { node, volume, usage } => {
                write!(f, "operator: node {} lost volume {} as {usage:?}", shorten(node), shorten(volume))
            }
            RunEvent::MaintenanceSet { node } => {
                write!(f, "operator: node {} is in maintenance", shorten(node))
            }
            RunEvent::MaintenanceEnding { node } => {
                write!(f, "operator: maintenance of node {} ends", shorten(node))
            }
            RunEvent::Asked { node, request, instance } => {
                write!(f, "machine {}: request {request} to instance {instance}", shorten(node))
            }
            RunEvent::Script { node, request, volumes } => {
                write!(f, "machine {}: request {request}: SCRIPT", shorten(node))?;
                for ScriptVolume { volume, attachment, export, source } in volumes {
                    let volume = shorten(volume);
                    write!(f, " volume {volume} (attachment {attachment}, export {export}, {source:?})")?;
                }
                Ok(())
            }
            RunEvent::Told { node, request, answer } => {
                write!(f, "machine {}: request {request}: {answer}", shorten(node))
            }
            RunEvent::CallSent { call, instance, text } => {
                write!(f, "instance {instance}: call {call}: {text}")
            }
            RunEvent::CallEffect { call, effect } => write!(f, "Cinder: call {call}: {effect}"),
            RunEvent::CallAnswered { call, status } => write!(f, "call {call} answered: {status}"),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved { volume, attachment } => {
                write!(f, "attachment {attachment} reserves volume {}", shorten(volume))
            }
            Self::Exported { attachment, export, node } => {
                write!(f, "attachment {attachment} is exported to node {}: export {export}", shorten(node))
            }
            Self::Completed { attachment } => write!(f, "attachment {attachment} is complete"),
            Self::Deleted { attachment } => write!(f, "attachment {attachment} is deleted"),
        }
    }
}
