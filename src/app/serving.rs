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

/// The running tasks, and the parts that the shutdown closes.
pub(super) struct Serving {
    pub(super) listeners: JoinSet<Result<(), RunError>>,
    pub(super) reconciler: JoinHandle<()>,
    pub(super) attach: Attach,
    pub(super) power: Power,
    pub(super) timeline: Timeline,
    pub(super) cluster: RunningCluster,
    pub(super) store: Arc<dyn Store>,
    pub(super) stop: CancellationToken,
}

impl Serving {
    /// Waits for the stop signal, and applies `reloads` meanwhile. The stop signal abandons a running reload.
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
            () = self.stop.cancelled() => Ok(()),
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
        self.stop.cancel();
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
    listener: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl RunningCluster {
    /// Starts the tasks. Without a listener, the instances are listed only.
    pub(super) fn spawn(
        membership: Membership,
        listener: Option<ClusterListener>,
        client: Option<reqwest::Client>,
    ) -> Self {
        let stop = CancellationToken::new();
        let listener = listener.map(|listener| {
            let router = cluster::router(membership.clone());
            tokio::spawn(listener.serve(router, stop.clone(), CLUSTER_GRACE))
        });
        let exchange = tokio::spawn(cluster::run(membership.clone(), client));
        Self { membership, exchange, listener, stop }
    }

    async fn stop(self) {
        self.membership.bid_farewell().await;
        self.exchange.abort();
        self.stop.cancel();
        if let Some(listener) = self.listener {
            let _ = listener.await;
        }
    }
}
