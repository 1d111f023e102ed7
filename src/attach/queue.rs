//! [`ResolutionQueue`]: limits concurrent resolutions, first come, first served.
//!
//! A resolution runs with a *turn*. The limit is that of all instances; how many of its turns this instance has, is
//! decided in `turns`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// The queue of the resolutions that wait for their turn.
#[derive(Debug)]
pub(super) struct ResolutionQueue {
    limit: usize,
    permits: Semaphore,
    turns: Mutex<Turns>,
    /// Counters of all resolutions that entered and left the queue.
    enqueued: AtomicU64,
    dequeued: AtomicU64,
    queued_elsewhere: AtomicUsize,
    demand: Notify,
}

/// The turns of this instance.
#[derive(Debug)]
struct Turns {
    granted: usize,
    /// Running resolutions beyond the granted turns.
    surplus: usize,
}

/// The permission to run a resolution.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    permit: Option<SemaphorePermit<'a>>,
    queue: &'a ResolutionQueue,
}

/// A position in the queue.
#[derive(Debug, Clone)]
pub(super) struct QueueTicket {
    number: u64,
    queue: Arc<ResolutionQueue>,
}

impl ResolutionQueue {
    /// A queue that has all turns.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            permits: Semaphore::new(limit),
            turns: Mutex::new(Turns { granted: limit, surplus: 0 }),
            enqueued: AtomicU64::default(),
            dequeued: AtomicU64::default(),
            queued_elsewhere: AtomicUsize::default(),
            demand: Notify::new(),
        }
    }

    /// How many resolutions may run concurrently, over all instances.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn enter(self: &Arc<Self>) -> QueueTicket {
        if self.permits.available_permits() == 0 {
            self.demand.notify_one();
        }
        QueueTicket { number: self.enqueued.fetch_add(1, Relaxed) + 1, queue: Arc::clone(self) }
    }

    /// Waits for a resolution that finds no free turn.
    pub(super) async fn wait_for_demand(&self) {
        self.demand.notified().await;
    }

    /// Waits for permission to run. `Err`: the queue is closed.
    pub(super) async fn wait_for_turn(&self) -> Result<Turn<'_>, String> {
        let permit = self.permits.acquire().await.map_err(|_| "volboot is shutting down".to_owned())?;
        Ok(Turn { permit: Some(permit), queue: self })
    }

    /// Records that a resolution no longer waits.
    pub(super) fn leave(&self) {
        self.dequeued.fetch_add(1, Relaxed);
    }

    /// Refuses all further resolutions, for a shutdown.
    pub(super) fn close(&self) {
        self.permits.close();
    }

    /// Changes the turns of this instance. Running resolutions keep theirs until they end.
    pub(super) fn set_turns(&self, granted: usize) {
        let mut turns = self.turns.lock();
        if granted >= turns.granted {
            let more = granted - turns.granted;
            let kept = more.min(turns.surplus);
            turns.surplus -= kept;
            self.permits.add_permits(more - kept);
        } else {
            let fewer = turns.granted - granted;
            turns.surplus += fewer - self.permits.forget_permits(fewer);
        }
        turns.granted = granted;
    }

    /// The granted turns, and the surplus of resolutions that still run.
    pub(super) fn held(&self) -> usize {
        let turns = self.turns.lock();
        turns.granted + turns.surplus
    }

    /// The resolutions that run.
    pub(super) fn running(&self) -> usize {
        self.held().saturating_sub(self.permits.available_permits())
    }

    /// The resolutions that wait.
    pub(super) fn queued(&self) -> usize {
        self.enqueued.load(Relaxed).saturating_sub(self.dequeued.load(Relaxed)) as usize
    }

    /// Sets how many resolutions wait at other instances.
    pub(super) fn set_queued_elsewhere(&self, count: usize) {
        self.queued_elsewhere.store(count, Relaxed);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = self.queue.turns.lock();
        if turns.surplus > 0
            && let Some(permit) = self.permit.take()
        {
            turns.surplus -= 1;
            permit.forget();
        }
    }
}

impl QueueTicket {
    /// The current position, starting at 1. Resolutions that wait at other instances count as earlier ones.
    pub(super) fn position(&self) -> u64 {
        let here = self.number.saturating_sub(self.queue.dequeued.load(Relaxed)).max(1);
        here + self.queue.queued_elsewhere.load(Relaxed) as u64
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
        queue.set_queued_elsewhere(4);
        assert_eq!(positions(), [5, 5, 5]);
    }

    #[tokio::test]
    async fn running_resolutions_keep_their_turns_until_they_end() {
        let queue = ResolutionQueue::new(3);
        let first = queue.wait_for_turn().await.expect("the queue is open");
        let second = queue.wait_for_turn().await.expect("the queue is open");
        queue.set_turns(1);
        assert_eq!((queue.held(), queue.running()), (2, 2));
        drop(first);
        assert_eq!((queue.held(), queue.running()), (1, 1));
        queue.set_turns(0);
        queue.set_turns(2);
        assert_eq!((queue.held(), queue.running()), (2, 1), "the running resolution has its turn again");
        drop(second);
        assert_eq!((queue.held(), queue.running()), (2, 0));
    }
}
