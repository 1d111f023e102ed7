//! [`Resolver`]: performs resolutions in tasks of their own, which continue if the machine disconnects.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use parking_lot::RwLock;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::breaker::CircuitScope;
use super::error::{AttachError, claim_lost};
use super::export::ExportedVolume;
use super::monitored_cinder::{MonitoredCinder, timeout_reason};
use super::progress::{Phase, Progress};
use super::queue::ResolutionQueue;
use super::request::{DesiredAttachment, ResolutionContext};
use super::resolution::ResolvedVolume;
use super::single_flight::{NewResolution, SingleFlight};
use super::state::State;
use crate::cinder::Cinder;

/// Volumes of one node that are resolved concurrently.
const MAX_CONCURRENT_VOLUMES: usize = 8;

/// The running and the queued resolutions.
#[derive(Debug)]
pub(super) struct Resolver {
    state: Arc<State>,
    flights: Arc<SingleFlight>,
    /// Replaced when its limit changes.
    queue: RwLock<Arc<ResolutionQueue>>,
    tasks: TaskTracker,
}

impl Resolver {
    /// Runs at most `limit` resolutions concurrently.
    pub(super) fn new(state: Arc<State>, flights: Arc<SingleFlight>, limit: usize) -> Self {
        let queue = RwLock::new(Arc::new(ResolutionQueue::new(limit)));
        Self { state, flights, queue, tasks: TaskTracker::new() }
    }

    /// The queue for the next resolution.
    pub(super) fn queue(&self) -> Arc<ResolutionQueue> {
        Arc::clone(&self.queue.read())
    }

    /// Changes the limit. Resolutions that are queued or running keep the old queue.
    pub(super) fn set_limit(&self, limit: usize) {
        let mut queue = self.queue.write();
        if queue.limit() != limit {
            *queue = Arc::new(ResolutionQueue::new(limit));
        }
    }

    /// Drains running resolutions for at most `time_limit`. Queued resolutions do not start any more.
    pub(super) async fn drain(&self, time_limit: Duration) {
        self.queue().close();
        self.tasks.close();
        if timeout(time_limit, self.tasks.wait()).await.is_err() {
            let tasks = self.tasks.len();
            tracing::warn!(
                tasks,
                "shutdown interrupts attachments; the reconciler completes them after the restart"
            );
        }
    }

    /// Performs a resolution with this Cinder, for a request with this context.
    pub(super) fn start(
        self: &Arc<Self>,
        cinder: Cinder,
        resolution: NewResolution,
        context: ResolutionContext,
    ) {
        self.tasks.spawn(Arc::clone(self).perform(cinder, resolution, context));
    }

    async fn perform(self: Arc<Self>, cinder: Cinder, resolution: NewResolution, context: ResolutionContext) {
        let NewResolution { known: mut results, missing, queue, sender } = resolution;
        let turn = tokio::select! {
            biased;
            outage = self.state.breaker.wait_until_open() => Err(outage),
            turn = queue.wait_for_turn() => turn,
        };
        queue.leave();
        match turn {
            Err(reason) => results.extend(
                missing
                    .into_iter()
                    .map(|desired| (desired.volume, Err(AttachError::cinder_unavailable(reason.clone())))),
            ),
            Ok(_permit) => {
                sender.send_replace(Phase::Running);
                let progress = Progress::of(&sender);
                let resolver = &self;
                let volumes = missing.into_iter().enumerate().map(|(position, desired)| {
                    let resolve = resolver.resolve_volume(&cinder, desired, context.clone(), &progress);
                    async move { (position, resolve.await) }
                });
                let mut new: Vec<_> =
                    stream::iter(volumes).buffer_unordered(MAX_CONCURRENT_VOLUMES).collect().await;
                // The reasons come in the order of the targets, not of the responses.
                new.sort_by_key(|(position, _)| *position);
                results.extend(new.into_iter().map(|(_, result)| result));
            }
        }
        sender.send_replace(Phase::Done(Arc::new(results)));
    }

    /// Resolves one volume. After a time-out the work continues, and its result serves the next request; this
    /// resolution reports Cinder as unavailable.
    async fn resolve_volume(
        self: &Arc<Self>,
        cinder: &Cinder,
        desired: DesiredAttachment,
        context: ResolutionContext,
        progress: &Progress,
    ) -> (String, Result<ResolvedVolume, AttachError>) {
        let volume = desired.volume.clone();
        let sent_at = Instant::now();
        let cinder = self.state.monitor(cinder.clone());
        let clock = cinder.clock();
        let attachment = Arc::clone(self).attach_volume(cinder, desired, context, progress.clone(), sent_at);
        let mut task = self.tasks.spawn(attachment);
        let result = tokio::select! {
            result = &mut task => match result {
                Ok(result) => result,
                Err(panic) => Err(AttachError::Transient(format!("volboot failed internally: {panic}"))),
            },
            () = clock.wait_for_timeout() => Err(AttachError::cinder_unavailable(timeout_reason())),
        };
        (volume, result)
    }

    async fn attach_volume(
        self: Arc<Self>,
        cinder: MonitoredCinder,
        desired: DesiredAttachment,
        context: ResolutionContext,
        progress: Progress,
        sent_at: Instant,
    ) -> Result<ResolvedVolume, AttachError> {
        let claim = self.state.claims.claim_attachment(desired.node, &desired.volume).await?;
        // An earlier request of this session may have got its result late, or no machine waits any more.
        if let Some(resolved) = self.flights.find_result(&desired) {
            return Ok(resolved);
        }
        if !self.flights.is_current(desired.node, &progress) {
            return Err(AttachError::cinder_unavailable("a newer boot request replaced this one"));
        }
        self.state.breaker.check(&CircuitScope::Endpoint).map_err(AttachError::cinder_unavailable)?;
        let attacher = self.state.attacher(&cinder, claim);
        let result = attacher.attach(&desired, &context).await;
        let ExportedVolume { record, server, connection, source } =
            result.map_err(|error| if attacher.has_lost_claim() { claim_lost() } else { error })?;
        let resolved = ResolvedVolume {
            connection,
            source,
            duration: sent_at.elapsed(),
            attachment: Some(record),
            server,
        };
        self.flights.store_result(&desired, sent_at, &resolved);
        Ok(resolved)
    }
}
