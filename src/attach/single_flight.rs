//! [`SingleFlight`]: one resolution per boot session, shared by all retries of its boot request.
//!
//! A waiting machine repeats its boot request with the same journey and try. Cinder is called once for these repeats.
//! A request without a journey (made by hand) starts a new boot session each time. Exceptions: a resolution is
//! running, or no result of the session had all volumes yet.
//!
//! The table has one *flight* per node: the latest boot session and its resolution. A request for the same volumes
//! finds the flight in one of these states:
//!
//! | state | request of the same session | request of a new session |
//! |---|---|---|
//! | running | joins | joins; earlier results and the session's clocks are void |
//! | undelivered | joins, and gets the result | starts a resolution |
//! | delivered | starts a resolution of the volumes without a result | starts a resolution |
//!
//! A request for other volumes replaces the flight, and starts a resolution. Three events end a flight: a refusal, a
//! lost volume ([`SingleFlight::forget`]), and [`super::boot_session::IDLE_TTL`] without a request.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::boot_session::BootSession;
use super::progress::{Phase, Progress, VolumeResults};
use super::queue::ResolutionQueue;
use super::request::DesiredAttachment;
use super::resolution::ResolvedVolume;
use crate::model::BootAttempt;
use crate::store::BootWait;

/// How long a boot session may wait in total.
const MAX_WAIT: Duration = Duration::from_secs(30 * 60);
/// How often the wait of a session is noted in the store, for other instances.
const NOTE_INTERVAL: Duration = Duration::from_secs(15);
/// Boot sessions in flight. Further machines have to retry.
const MAX_IN_FLIGHT: usize = 20_000;

/// The boot sessions in flight, by node.
#[derive(Debug, Default)]
pub(super) struct SingleFlight(Mutex<HashMap<Uuid, Flight>>);

/// The latest boot session of a node and its resolution.
#[derive(Debug)]
struct Flight {
    session: BootSession,
    /// The requested volumes.
    desired: Vec<DesiredAttachment>,
    progress: Progress,
    /// The delivery of the resolution's result to the machine, if any.
    delivery: Option<Delivery>,
}

/// What the machine got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// All volumes.
    Complete,
    /// The request to retry.
    Incomplete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlightState {
    /// The resolution is queued or running.
    Running,
    /// The resolution has ended; no request has got its result.
    Undelivered,
    /// A request got the result.
    Delivered(Delivery),
}

/// How a boot request is served.
#[derive(Debug)]
pub(super) enum Entry {
    /// By a resolution that another request started, or by known results.
    Joined(Progress),
    /// By a new resolution, which the caller has to run.
    Started(Progress, NewResolution),
    /// Not at all: too many boot sessions are in flight.
    Full,
}

/// A resolution that has entered the queue.
#[derive(Debug)]
pub(super) struct NewResolution {
    /// Results of the session for the other volumes.
    pub(super) known: VolumeResults,
    /// The volumes without a result.
    pub(super) missing: Vec<DesiredAttachment>,
    pub(super) queue: Arc<ResolutionQueue>,
    pub(super) sender: watch::Sender<Phase>,
}

impl SingleFlight {
    /// Joins the resolution of an earlier request of the session, or starts one. `earlier_wait` is the wait of a new
    /// session at another instance.
    pub(super) fn enter(
        &self,
        node: Uuid,
        journey: Option<(&str, u32)>,
        desired: Vec<DesiredAttachment>,
        queue: &Arc<ResolutionQueue>,
        earlier_wait: Option<&BootWait>,
    ) -> Entry {
        let now = Instant::now();
        let mut session =
            BootSession::new(journey.map(|(journey, attempt)| (journey.to_owned(), attempt)), now);
        if let Some(wait) = earlier_wait {
            session.continue_wait(wait);
        }
        let mut flights = self.0.lock();
        if flights.len() >= MAX_IN_FLIGHT && !flights.contains_key(&node) {
            return Entry::Full;
        }
        if let Some(flight) = flights.get_mut(&node).filter(|flight| flight.desired == desired) {
            match (flight.state(), flight.is_continued_by(&session)) {
                (FlightState::Running | FlightState::Undelivered, true) => return flight.join(now),
                (FlightState::Running, false) => {
                    flight.session = session;
                    return flight.join(now);
                }
                (FlightState::Delivered(_), true) => {
                    std::mem::swap(&mut session, &mut flight.session);
                    session.last_request = now;
                }
                (FlightState::Undelivered | FlightState::Delivered(_), false) => {}
            }
        }
        let (known, missing) = session.split_known(&desired);
        let (progress, new) = if missing.is_empty() {
            (Progress::start(Phase::Done(Arc::new(known))).1, None)
        } else {
            let (sender, progress) = Progress::start(Phase::Queued(queue.enter()));
            (progress, Some(NewResolution { known, missing, queue: Arc::clone(queue), sender }))
        };
        flights.insert(node, Flight { session, desired, progress: progress.clone(), delivery: None });
        match new {
            Some(new) => Entry::Started(progress, new),
            None => Entry::Joined(progress),
        }
    }

    /// Whether this instance knows the session of a boot attempt, with its waiting time.
    pub(super) fn knows(&self, node: Uuid, journey: Option<(&str, u32)>) -> bool {
        let now = Instant::now();
        self.0.lock().get(&node).is_some_and(|flight| {
            let known =
                flight.session.journey.as_ref().map(|(journey, attempt)| (journey.as_str(), *attempt));
            flight.session.is_recent(now) && known == journey
        })
    }

    /// The wait of a node's session, if it is time to note it in the store.
    pub(super) fn take_wait_to_note(&self, node: Uuid) -> Option<BootWait> {
        let now = Instant::now();
        let mut flights = self.0.lock();
        let session = &mut flights.get_mut(&node)?.session;
        let since = session.noted_at.unwrap_or(session.entered_at);
        if now.duration_since(since) < NOTE_INTERVAL {
            return None;
        }
        let (journey, attempt) = session.journey.clone()?;
        session.noted_at = Some(now);
        Some(BootWait {
            attempt: BootAttempt { journey, attempt },
            waited: now.duration_since(session.started_at).as_secs(),
            transient: session.transient_since.map(|since| now.duration_since(since).as_secs()),
        })
    }

    /// Whether the wait of a node's session is noted in the store.
    pub(super) fn is_noted(&self, node: Uuid) -> bool {
        self.0.lock().get(&node).is_some_and(|flight| flight.session.noted_at.is_some())
    }

    /// Records that the wait is no longer noted in the store.
    pub(super) fn clear_noted(&self, node: Uuid) {
        if let Some(flight) = self.0.lock().get_mut(&node) {
            flight.session.noted_at = None;
        }
    }

    /// Records that the machine got the result.
    pub(super) fn mark_delivered(&self, node: Uuid, progress: &Progress, delivery: Delivery) {
        if let Some(flight) = self.0.lock().get_mut(&node)
            && flight.progress.is_same(progress)
        {
            flight.delivery = Some(delivery);
            if delivery == Delivery::Complete {
                flight.session.transient_since = None;
            }
        }
    }

    /// Ends the session after a refusal or a lost volume; the next request starts a new session. A running resolution
    /// stays, for others to join.
    pub(super) fn forget(&self, node: Uuid) {
        let mut flights = self.0.lock();
        if flights.get(&node).is_some_and(|flight| flight.state() != FlightState::Running) {
            flights.remove(&node);
        }
    }

    /// How long the machine has waited because of transient errors. The first call starts the clock.
    pub(super) fn transient_duration(&self, node: Uuid) -> Duration {
        let now = Instant::now();
        let mut flights = self.0.lock();
        let since = flights.get_mut(&node).map(|flight| *flight.session.transient_since.get_or_insert(now));
        since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// Ends a session that has waited longer than [`MAX_WAIT`]; returns the reason then.
    pub(super) fn expire_wait(&self, node: Uuid) -> Option<String> {
        let waited = self.0.lock().get(&node).map(|flight| flight.session.started_at.elapsed())?;
        (waited > MAX_WAIT).then(|| {
            self.forget(node);
            format!("Cinder returned no usable result within {} minutes", waited.as_secs() / 60)
        })
    }

    /// Evicts sessions without a recent request.
    pub(super) fn evict_idle(&self) {
        let now = Instant::now();
        let mut flights = self.0.lock();
        flights.retain(|_, flight| flight.session.is_recent(now) || flight.state() == FlightState::Running);
        // Memory of a boot storm is released afterwards.
        let remaining = flights.len();
        flights.shrink_to(2 * remaining);
    }

    /// Cinder's result for the current session.
    pub(super) fn find_result(&self, desired: &DesiredAttachment) -> Option<ResolvedVolume> {
        self.0.lock().get(&desired.node)?.session.results.get(&desired.volume).cloned()
    }

    /// Whether the node's machine still waits for a resolution.
    pub(super) fn is_current(&self, node: Uuid, progress: &Progress) -> bool {
        self.0.lock().get(&node).is_some_and(|flight| flight.progress.is_same(progress))
    }

    /// Stores a result of Cinder, if its request was sent during the current session.
    pub(super) fn store_result(
        &self,
        desired: &DesiredAttachment,
        sent_at: Instant,
        resolved: &ResolvedVolume,
    ) {
        if let Some(flight) = self.0.lock().get_mut(&desired.node)
            && flight.session.entered_at <= sent_at
            && flight.desired.contains(desired)
        {
            flight.session.results.insert(desired.volume.clone(), resolved.clone());
        }
    }
}

impl Flight {
    fn state(&self) -> FlightState {
        match self.delivery {
            _ if !self.progress.is_done() => FlightState::Running,
            None => FlightState::Undelivered,
            Some(delivery) => FlightState::Delivered(delivery),
        }
    }

    /// Whether a new request belongs to the flight's session.
    fn is_continued_by(&self, request: &BootSession) -> bool {
        self.session.is_recent(request.last_request)
            && self.session.journey == request.journey
            && (request.journey.is_some() || self.delivery != Some(Delivery::Complete))
    }

    fn join(&mut self, now: Instant) -> Entry {
        self.session.last_request = now;
        Entry::Joined(self.progress.clone())
    }
}
