//! [`Progress`]: follows one resolution, from any number of boot requests.

use std::sync::Arc;

use tokio::sync::watch;

use super::error::AttachError;
use super::queue::QueueTicket;
use super::resolution::ResolvedVolume;

/// The result for each volume of a node.
pub(super) type VolumeResults = Vec<(String, Result<ResolvedVolume, AttachError>)>;

/// The phase of a resolution.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    Queued(QueueTicket),
    Running,
    Done(Arc<VolumeResults>),
}

/// The receiving end. Clones follow the same resolution.
#[derive(Debug, Clone)]
pub(super) struct Progress(watch::Receiver<Phase>);

impl Progress {
    /// Follows a resolution that another task performs; the sender is for that task.
    pub(super) fn start(phase: Phase) -> (watch::Sender<Phase>, Self) {
        let (sender, receiver) = watch::channel(phase);
        (sender, Self(receiver))
    }

    /// Follows the resolution of a sender.
    pub(super) fn of(sender: &watch::Sender<Phase>) -> Self {
        Self(sender.subscribe())
    }

    pub(super) fn is_done(&self) -> bool {
        // A resolution whose task is gone makes no progress either.
        matches!(*self.0.borrow(), Phase::Done(_)) || self.0.has_changed().is_err()
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }

    /// The position in the queue, starting at 1.
    pub(super) fn queue_position(&self) -> Option<u64> {
        match &*self.0.borrow() {
            Phase::Queued(ticket) => Some(ticket.position()),
            Phase::Running | Phase::Done(_) => None,
        }
    }

    /// Waits for the results. `None`: the task of the resolution is gone.
    pub(super) async fn results(&mut self) -> Option<Arc<VolumeResults>> {
        let phase = self.0.wait_for(|phase| matches!(phase, Phase::Done(_))).await.ok()?;
        match &*phase {
            Phase::Done(results) => Some(Arc::clone(results)),
            Phase::Queued(_) | Phase::Running => None,
        }
    }
}
