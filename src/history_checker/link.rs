//! [`Link`]: what stands between one instance and everything else: delays, outages, and its own end.
//!
//! All that an instance does goes through the store and Cinder. So an instance is suspended by a gate before each request and
//! after each response, as SIGSTOP would do it, and killed by a gate that never opens again.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::random::Random;
use crate::store::{MemoryStore, StoreError};

/// After this time without the store, its reads no longer count as the present.
const FRESH: Duration = Duration::from_secs(2);
/// How long a request to a store that is away waits.
const STORE_PATIENCE: Duration = Duration::from_millis(500);

/// Whether an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    Suspended,
    Killed,
}

/// An outage of the store for one instance.
#[derive(Debug, Clone)]
pub(super) struct LinkOutage {
    pub(super) since: Instant,
    /// The records at its begin.
    pub(super) last_known: Arc<MemoryStore>,
}

/// The fate of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteFate {
    Done,
    /// The request is lost.
    Lost,
    /// The write is applied, and the response is lost.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Link {
    /// The number of the instance in the history.
    pub(super) instance: usize,
    state: Mutex<State>,
    /// Wakes in the order of the waits.
    changed: Notify,
    random: Random,
    started_at: Instant,
}

#[derive(Debug)]
struct State {
    gate: Gate,
    outage: Option<LinkOutage>,
    /// Whether requests are lost and delayed.
    is_faulty: bool,
}

impl Link {
    pub(super) fn new(instance: usize, random: Random, started_at: Instant) -> Self {
        let state = State { gate: Gate::Open, outage: None, is_faulty: true };
        Self { instance, state: Mutex::new(state), changed: Notify::new(), random, started_at }
    }

    /// Opens or closes the gate, unless the instance is killed.
    pub(super) fn set_gate(&self, gate: Gate) {
        let mut state = self.state.lock();
        if state.gate != Gate::Killed {
            state.gate = gate;
        }
        self.changed.notify_waiters();
    }

    pub(super) fn gate(&self) -> Gate {
        self.state.lock().gate
    }

    /// Waits until the instance runs.
    pub(super) async fn pass(&self) {
        self.wait_until(|state| state.gate == Gate::Open).await;
    }

    /// Waits until the instance is not suspended.
    pub(super) async fn pass_or_end(&self) {
        self.wait_until(|state| state.gate != Gate::Suspended).await;
    }

    /// Waits for a change of the gate.
    pub(super) async fn wait_for_suspension(&self) {
        self.wait_until(|state| state.gate != Gate::Open).await;
    }

    pub(super) fn set_outage(&self, outage: Option<LinkOutage>) {
        self.state.lock().outage = outage;
        self.changed.notify_waiters();
    }

    pub(super) fn outage(&self) -> Option<LinkOutage> {
        self.state.lock().outage.clone()
    }

    /// The outage, once the instance knows it.
    pub(super) fn known_outage(&self) -> Option<LinkOutage> {
        self.outage().filter(|outage| outage.since.elapsed() >= FRESH)
    }

    pub(super) async fn wait_for_store(&self) {
        self.wait_until(|state| state.outage.is_none()).await;
    }

    async fn wait_until(&self, holds: impl Fn(&State) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on, no change is missed.
            changed.as_mut().enable();
            if holds(&self.state.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// A request on its way to the store.
    pub(super) async fn reach_store(&self, request: &str) -> Result<(), StoreError> {
        self.pass().await;
        let delay = self.store_delay(request);
        sleep(delay).await;
        if self.outage().is_some() {
            sleep(STORE_PATIENCE).await;
            self.pass().await;
            return Err(store_away());
        }
        Ok(())
    }

    /// The response of the store on its way back.
    pub(super) async fn return_from_store(&self, request: &str) -> Result<(), StoreError> {
        let delay = self.store_delay(request);
        sleep(delay).await;
        self.pass().await;
        if self.outage().is_some() { Err(store_away()) } else { Ok(()) }
    }

    pub(super) fn write_fate(&self, request: &str) -> WriteFate {
        match self.draw(request).map(|mut random| random.below(300)) {
            Some(0) => WriteFate::Lost,
            Some(1) => WriteFate::Unknown,
            Some(_) | None => WriteFate::Done,
        }
    }

    pub(super) fn stop_faults(&self) {
        self.state.lock().is_faulty = false;
    }

    /// The generator for the faults of a request; `None`: there are no faults any more.
    pub(super) fn draw(&self, request: &str) -> Option<Random> {
        self.state.lock().is_faulty.then(|| self.random.of_request(request, self.started_at.elapsed()))
    }

    fn store_delay(&self, request: &str) -> Duration {
        let Some(mut random) = self.draw(request) else { return Duration::ZERO };
        match random.below(40) {
            0 => random.millis(50, 400),
            1..=4 => random.millis(5, 50),
            _ => random.millis(0, 4),
        }
    }
}

pub(super) fn store_away() -> StoreError {
    StoreError::Unavailable("no member answers".into())
}
