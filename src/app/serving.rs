//! [`Serving`]: the running tasks, their supervision, and the graceful shutdown.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::cluster::ClusterListener;
use super::error::RunError;
use crate::attach::Attach;
use crate::cluster::{self, Membership};
use crate::power::Power;
use crate::store::{Store, StoreError};
use crate::timeline::Timeline;

/// Time limit for running requests of other instances at the shutdown.
const CLUSTER_GRACE: Duration = Duration::from_secs(1);
/// Interval at which the announced length of the queue follows the queue.
const QUEUE_INTERVAL: Duration = Duration::from_secs(1);

/// The running tasks, and the parts that the shutdown closes.
pub(super) struct Serving {
    pub(super) listeners: JoinSet<Result<(), RunError>>,
    pub(super) reconciler: JoinHandle<()>,
    pub(super) attach: Attach,
    pub(super) power: Power,
    pub(super) timeline: Timeline,
    pub(super) cluster: RunningCluster,
    pub(super) store: Arc<dyn Store>,
    pub(super) shutdown: Shutdown,
}

/// The order of the shutdown: first the signal, then the end of the listeners.
#[derive(Debug)]
pub(super) struct Shutdown {
    /// Cancelled by the stop signal: the instance is not ready any more.
    pub(super) leaving: CancellationToken,
    /// Time between the signal and the end, in which health checks direct machines to other instances.
    pub(super) delay: Duration,
    /// Cancelled at the end: the listeners accept nothing any more.
    pub(super) stop: CancellationToken,
}

impl Shutdown {
    /// Waits for the signal, and then for the delay.
    async fn wait(&self) {
        self.leaving.cancelled().await;
        if !self.delay.is_zero() {
            tracing::info!(
                seconds = self.delay.as_secs_f64(),
                "not ready any more; requests are still answered"
            );
            tokio::time::sleep(self.delay).await;
        }
    }
}

impl Serving {
    /// Waits for the stop signal and its delay, and applies `reloads` meanwhile. The end abandons a running reload.
    ///
    /// A task that exits before the stop signal has failed. volboot then stops as a whole, and the service manager
    /// restarts it.
    pub(super) async fn supervise(
        &mut self,
        reloads: impl Future<Output = Infallible>,
    ) -> Result<(), RunError> {
        tokio::select! {
            // Polled first: after the stop signal, a listener that has exited is not a failure.
            biased;
            () = self.shutdown.wait() => Ok(()),
            Some(result) = self.listeners.join_next() => Err(match result {
                Ok(Err(error)) => error,
                Ok(Ok(())) => RunError::Task("a listener exited unexpectedly".into()),
                Err(error) => RunError::Task(format!("a listener failed: {error}")),
            }),
            result = &mut self.reconciler => Err(match result {
                Ok(()) => RunError::Task("the reconciler exited unexpectedly".into()),
                Err(error) => RunError::Task(format!("the reconciler failed: {error}")),
            }),
            error = self.store.wait_for_failure() => Err(RunError::Store(error)),
            never = reloads => match never {},
        }
    }

    /// Drains running transfers and requests, each for at most `grace`, and closes the store.
    pub(super) async fn drain(mut self, grace: Duration) -> Result<(), StoreError> {
        // After a failure, there was no signal.
        self.shutdown.leaving.cancel();
        self.shutdown.stop.cancel();
        // Each listener keeps the deadline itself.
        while self.listeners.join_next().await.is_some() {}
        // No more boot requests arrive. Calls to Cinder in flight may still complete.
        self.attach.drain(grace).await;
        self.power.close().await;
        if !self.reconciler.is_finished()
            && let Err(error) = self.reconciler.await
        {
            tracing::error!(error = %error, "the reconciler failed");
        }
        // The close has its own time-out, and an unwritten history is not a failure.
        let timeline = self.timeline;
        let _ = tokio::task::spawn_blocking(move || timeline.close_blocking()).await;
        // The other instances read the last events.
        self.cluster.stop().await;
        self.store.close().await
    }
}

/// The exchange with the other instances. It ends after everything else.
pub(super) struct RunningCluster {
    membership: Membership,
    /// Announces this instance, and follows the others.
    exchange: JoinHandle<()>,
    /// Keeps the announced length of the queue.
    queue: JoinHandle<()>,
    listener: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl RunningCluster {
    /// Starts the tasks. Without a listener, the instances are listed only.
    pub(super) fn spawn(
        membership: Membership,
        listener: Option<ClusterListener>,
        client: Option<reqwest::Client>,
        attach: Attach,
    ) -> Self {
        let stop = CancellationToken::new();
        let listener = listener.map(|listener| {
            let router = cluster::router(membership.clone());
            tokio::spawn(listener.serve(router, stop.clone(), CLUSTER_GRACE))
        });
        let exchange = tokio::spawn(cluster::run(membership.clone(), client));
        let queue = tokio::spawn(announce_queue(membership.clone(), attach));
        Self { membership, exchange, queue, listener, stop }
    }

    async fn stop(self) {
        self.membership.bid_farewell().await;
        self.exchange.abort();
        self.queue.abort();
        self.stop.cancel();
        if let Some(listener) = self.listener {
            let _ = listener.await;
        }
    }
}

/// Announces how many boot requests wait for Cinder.
async fn announce_queue(membership: Membership, attach: Attach) {
    let mut interval = tokio::time::interval(QUEUE_INTERVAL);
    loop {
        interval.tick().await;
        let length = attach.queue_length() as u64;
        membership.update(|announcement| announcement.queue_length = length);
    }
}
