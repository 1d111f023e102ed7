//! Single flight: one resolution per boot session, shared by all retries of its boot request.
//!
//! A waiting machine repeats its boot request with the same journey and try. Cinder is called once for these repeats.
//! A request without a journey (made by hand) starts a new boot session each time. Exceptions: a resolution is
//! running, or its result was never delivered.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::breaker::CircuitScope;
use super::error::AttachError;
use super::volume::{AttachmentWorker, DesiredAttachment, ExportedVolume};
use super::{
    Attach, CINDER_TIMEOUT, ConnectionSource, IDLE_TTL, MAX_IN_FLIGHT, MAX_WAIT, ResolutionQueue,
    ResolvedVolume, State, VolumeRequest,
};
use crate::model::Connection;

/// Volumes of one node that are resolved concurrently.
const MAX_CONCURRENT_VOLUMES: usize = 8;

/// The result for each volume of a node.
pub(super) type VolumeResults = Vec<(String, Result<ResolvedVolume, AttachError>)>;

/// The progress of a resolution.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    Queued(QueueTicket),
    Running,
    Done(Arc<VolumeResults>),
}

/// A position in the queue.
#[derive(Debug, Clone)]
pub(super) struct QueueTicket {
    number: u64,
    queue: Arc<ResolutionQueue>,
}

impl QueueTicket {
    /// The current position, starting at 1.
    pub(super) fn position(&self) -> u64 {
        self.number.saturating_sub(self.queue.dequeued.load(Relaxed)).max(1)
    }
}

/// Follows the progress of a resolution.
pub(super) type PhaseReceiver = watch::Receiver<Phase>;

fn is_done(resolution: &PhaseReceiver) -> bool {
    // A resolution whose task is gone makes no progress either.
    matches!(*resolution.borrow(), Phase::Done(_)) || resolution.has_changed().is_err()
}

/// The latest boot session of a node and its resolution.
#[derive(Debug)]
pub(super) struct InFlight {
    /// The journey and the try, if the request had them.
    journey: Option<(String, u32)>,
    /// The requested volumes.
    desired: Vec<DesiredAttachment>,
    /// When the first request of the session arrived.
    started_at: Instant,
    /// When the latest request arrived.
    last_request: Instant,
    /// Since when the machine waits because of a transient error.
    transient_since: Option<Instant>,
    resolution: PhaseReceiver,
    /// Whether the machine got the result.
    is_delivered: bool,
    /// Whether the result had all volumes.
    is_complete: bool,
    /// Cinder's results for this session, including late results of an earlier request.
    results: HashMap<String, ResolvedVolume>,
}

impl Attach {
    /// Joins the resolution of an earlier request of the session, or starts one. `None`: too many are in flight.
    pub(super) fn join_or_start(
        &self,
        worker: &AttachmentWorker,
        request: &VolumeRequest<'_>,
        desired: Vec<DesiredAttachment>,
    ) -> Option<PhaseReceiver> {
        let now = Instant::now();
        let journey = request.journey.map(|(journey, attempt)| (journey.to_owned(), attempt));
        let mut all = self.0.lock_in_flight();
        if all.len() >= MAX_IN_FLIGHT && !all.contains_key(&request.node.uuid) {
            return None;
        }
        let (mut started_at, mut transient_since, mut results) = (now, None, HashMap::new());
        if let Some(flight) = all.get_mut(&request.node.uuid).filter(|flight| flight.desired == desired) {
            let is_same_session = now.duration_since(flight.last_request) < IDLE_TTL
                && flight.journey == journey
                && (journey.is_some() || !flight.is_complete);
            let is_running = !is_done(&flight.resolution);
            if is_running && !is_same_session {
                // A new session shares the running resolution, but no earlier result.
                (flight.journey, flight.started_at, flight.transient_since) = (journey.clone(), now, None);
                flight.results.clear();
            }
            if is_running || (is_same_session && !flight.is_delivered) {
                flight.last_request = now;
                return Some(flight.resolution.clone());
            }
            if is_same_session {
                (started_at, transient_since) = (flight.started_at, flight.transient_since);
                results = std::mem::take(&mut flight.results);
            }
        }
        let resolution = self.start_resolution(worker.clone(), &desired, &results);
        let flight = InFlight {
            journey,
            desired,
            started_at,
            last_request: now,
            transient_since,
            resolution: resolution.clone(),
            is_delivered: false,
            is_complete: false,
            results,
        };
        all.insert(request.node.uuid, flight);
        Some(resolution)
    }

    /// Resolves the volumes in a separate task, which continues if the machine disconnects.
    fn start_resolution(
        &self,
        worker: AttachmentWorker,
        desired: &[DesiredAttachment],
        known_results: &HashMap<String, ResolvedVolume>,
    ) -> PhaseReceiver {
        let mut results: VolumeResults = Vec::new();
        let mut unresolved = Vec::new();
        for volume in desired {
            match known_results.get(&volume.volume) {
                Some(resolved) => results.push((volume.volume.clone(), Ok(resolved.clone()))),
                None => unresolved.push(volume.clone()),
            }
        }
        if unresolved.is_empty() {
            return watch::channel(Phase::Done(Arc::new(results))).1;
        }
        let queue = self.settings().queue;
        let ticket =
            QueueTicket { number: queue.enqueued.fetch_add(1, Relaxed) + 1, queue: Arc::clone(&queue) };
        let (sender, phase) = watch::channel(Phase::Queued(ticket));
        let current = phase.clone();
        let state = Arc::clone(&self.0);
        self.0.tasks.spawn(async move {
            let permit = tokio::select! {
                biased;
                reason = state.breaker.wait_until_open() => Err(reason),
                permit = queue.permits.acquire() => permit.map_err(|_| "volboot is shutting down".to_owned()),
            };
            queue.dequeued.fetch_add(1, Relaxed);
            let new_results: VolumeResults = match permit {
                Err(reason) => unresolved
                    .into_iter()
                    .map(|desired| (desired.volume, Err(AttachError::Unavailable(reason.clone()))))
                    .collect(),
                Ok(_permit) => {
                    sender.send_replace(Phase::Running);
                    let resolutions = unresolved
                        .into_iter()
                        .map(|desired| resolve_volume(&state, &worker, desired, &current));
                    stream::iter(resolutions).buffer_unordered(MAX_CONCURRENT_VOLUMES).collect().await
                }
            };
            results.extend(new_results);
            sender.send_replace(Phase::Done(Arc::new(results)));
        });
        phase
    }

    /// Records that the machine got the result, with all volumes or not.
    pub(super) fn mark_delivered(&self, node: Uuid, resolution: &PhaseReceiver, is_complete: bool) {
        if let Some(flight) = self.0.lock_in_flight().get_mut(&node)
            && flight.resolution.same_channel(resolution)
        {
            flight.is_delivered = true;
            flight.is_complete = is_complete;
            if is_complete {
                flight.transient_since = None;
            }
        }
    }

    /// Ends the session after a refusal or a lost volume; the next request starts a new session.
    pub(super) fn forget(&self, node: Uuid) {
        let mut all = self.0.lock_in_flight();
        if all.get(&node).is_some_and(|flight| is_done(&flight.resolution)) {
            all.remove(&node);
        }
    }

    /// How long the machine has waited because of transient errors. The first call starts the clock.
    pub(super) fn transient_duration(&self, node: Uuid) -> Duration {
        let now = Instant::now();
        let mut all = self.0.lock_in_flight();
        let since = all.get_mut(&node).map(|flight| *flight.transient_since.get_or_insert(now));
        since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// Ends a session that has waited longer than [`MAX_WAIT`]; returns the reason then.
    pub(super) fn expire_wait(&self, node: Uuid) -> Option<String> {
        let waited = self.0.lock_in_flight().get(&node).map(|flight| flight.started_at.elapsed())?;
        (waited > MAX_WAIT).then(|| {
            self.forget(node);
            format!("Cinder returned no usable result within {} minutes", waited.as_secs() / 60)
        })
    }

    /// Evicts sessions without a recent request.
    pub(super) fn evict_idle(&self) {
        let now = Instant::now();
        let mut all = self.0.lock_in_flight();
        all.retain(|_, flight| {
            now.duration_since(flight.last_request) < IDLE_TTL || !is_done(&flight.resolution)
        });
        // Memory of a boot storm is released afterwards.
        let remaining = all.len();
        all.shrink_to(2 * remaining);
    }
}

impl State {
    fn lock_in_flight(&self) -> MutexGuard<'_, HashMap<Uuid, InFlight>> {
        self.in_flight.lock()
    }

    /// Cinder's result for the current session.
    fn find_result(&self, desired: &DesiredAttachment) -> Option<ResolvedVolume> {
        self.lock_in_flight().get(&desired.node)?.results.get(&desired.volume).cloned()
    }

    /// Whether the node's machine still waits for a resolution.
    fn is_current(&self, desired: &DesiredAttachment, resolution: &PhaseReceiver) -> bool {
        self.lock_in_flight()
            .get(&desired.node)
            .is_some_and(|flight| flight.resolution.same_channel(resolution))
    }

    /// Stores a result of Cinder, if its request was sent during the current session.
    fn store_result(&self, desired: &DesiredAttachment, sent_at: Instant, resolved: &ResolvedVolume) {
        if let Some(flight) = self.lock_in_flight().get_mut(&desired.node)
            && flight.started_at <= sent_at
            && flight.desired.contains(desired)
        {
            flight.results.insert(desired.volume.clone(), resolved.clone());
        }
    }
}

/// Resolves one volume. After a time-out the work continues, and its result serves the next request; this resolution
/// reports Cinder as unavailable.
async fn resolve_volume(
    state: &Arc<State>,
    worker: &AttachmentWorker,
    desired: DesiredAttachment,
    current: &PhaseReceiver,
) -> (String, Result<ResolvedVolume, AttachError>) {
    let volume = desired.volume.clone();
    let started_at = Instant::now();
    let worker = AttachmentWorker { last_response: Arc::new(Mutex::new(started_at)), ..worker.clone() };
    let mut task = state.tasks.spawn({
        let (state, worker, desired, current) = (Arc::clone(state), worker.clone(), desired, current.clone());
        async move {
            let _guard = state.locks.lock(desired.node, &desired.volume).await;
            // An earlier request of this session may have got its result late, or no machine waits any more.
            if let Some(resolved) = state.find_result(&desired) {
                return Ok(resolved);
            }
            if !state.is_current(&desired, &current) {
                return Err(AttachError::Unavailable("a newer boot request replaced this one".into()));
            }
            state.breaker.check(&CircuitScope::Endpoint).map_err(AttachError::Unavailable)?;
            let ExportedVolume { record, connection } = worker.resolve(&desired).await?;
            let connection = Connection::try_from(&connection)
                .map_err(|error| AttachError::Refused(format!("volume {}: {error}", desired.volume)))?;
            let resolved = ResolvedVolume {
                connection,
                source: ConnectionSource::Cinder,
                duration: started_at.elapsed(),
                attachment: Some(record),
            };
            state.store_result(&desired, started_at, &resolved);
            Ok(resolved)
        }
    });
    let result = tokio::select! {
        result = &mut task => match result {
            Ok(result) => result,
            Err(panic) => Err(AttachError::Transient(format!("volboot failed internally: {panic}"))),
        },
        () = worker.wait_for_timeout() => {
            let reason = format!("no answer within {} s", CINDER_TIMEOUT.as_secs());
            Err(AttachError::Unavailable(reason))
        }
    };
    (volume, result)
}
