//! [`ResolutionQueue`]: limits concurrent resolutions, first come, first served.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The queue of the resolutions that wait for their turn.
#[derive(Debug)]
pub(super) struct ResolutionQueue {
    limit: usize,
    permits: Semaphore,
    /// Counters of all resolutions that entered and left the queue.
    enqueued: AtomicU64,
    dequeued: AtomicU64,
}

/// A position in the queue.
#[derive(Debug, Clone)]
pub(super) struct QueueTicket {
    number: u64,
    queue: Arc<ResolutionQueue>,
}

impl ResolutionQueue {
    pub(super) fn new(limit: usize) -> Self {
        let (enqueued, dequeued) = Default::default();
        Self { limit, permits: Semaphore::new(limit), enqueued, dequeued }
    }

    /// How many resolutions may run concurrently.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn enter(self: &Arc<Self>) -> QueueTicket {
        QueueTicket { number: self.enqueued.fetch_add(1, Relaxed) + 1, queue: Arc::clone(self) }
    }

    /// Waits for permission to run. `Err`: the queue is closed.
    pub(super) async fn wait_for_turn(&self) -> Result<SemaphorePermit<'_>, String> {
        self.permits.acquire().await.map_err(|_| "volboot is shutting down".to_owned())
    }

    /// Records that a resolution no longer waits.
    pub(super) fn leave(&self) {
        self.dequeued.fetch_add(1, Relaxed);
    }

    /// Refuses all further resolutions, for a shutdown.
    pub(super) fn close(&self) {
        self.permits.close();
    }
}

impl QueueTicket {
    /// The current position, starting at 1.
    pub(super) fn position(&self) -> u64 {
        self.number.saturating_sub(self.queue.dequeued.load(Relaxed)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_advance_as_earlier_resolutions_leave() {
        let queue = Arc::new(ResolutionQueue::new(1));
        let tickets: Vec<_> = (0..3).map(|_| queue.enter()).collect();
        let positions = || tickets.iter().map(QueueTicket::position).collect::<Vec<_>>();
        assert_eq!(positions(), [1, 2, 3]);
        queue.leave();
        queue.leave();
        assert_eq!(positions(), [1, 1, 1]);
    }
}
