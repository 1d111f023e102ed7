//! [`EtcdStore`]: the store of several instances, in etcd 3.4 or later.
//!
//! etcd is the truth. Each instance follows it into a local [`Mirror`]: reads are a [`barrier`] and a read of the mirror,
//! so they cost microseconds beside one read of a quorum that many requests share. No read trusts a single member: a
//! member of a minority would show old records for ever. Writes go to etcd directly ([`mod@write`]). While etcd does not
//! respond, reads and writes fail, and [`Store::last_known`] still reads the mirror. A start needs no etcd either.
//!
//! The client is `tonic` with messages that [`messages`] declares by hand. The crate `etcd-client` compiles etcd's proto
//! files in its build script, which needs `protoc` and the well-known types on the build host; a crate that brings
//! `protoc` cannot hand its path to the build script of another crate. Of its calls volboot needs ten. Its balancing
//! over members and its watch would be replaced anyway: [`client`] and [`watch`] say why.

mod announcement;
mod barrier;
mod bulk;
mod client;
mod error;
mod guard;
mod health;
mod identity;
mod keys;
mod last_known;
mod load;
mod messages;
mod migration;
mod monitor;
mod session;
mod source;
mod transaction;
mod watch;
mod write;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as channel;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::contract::{
    Batch, ChangeSet, Freshness, OpenError, Record, Revision, SharedStatus, Snapshot, Store, StoreAccess,
    StoreError, StoreFuture, StoreInfo, WriteError,
};
use super::mirror::Mirror;
use super::schema::Schema;
use super::session::Cluster;
use crate::config::EtcdConfig;
use barrier::Barrier;
use client::EtcdClient;
use error::RpcError;
use guard::GuardError;
use health::EtcdHealth;
use keys::Layout;
use last_known::LastKnownStore;
pub use load::import_into_etcd;
use messages::{Empty, StatusResponse};
use migration::Migrator;
use session::{EtcdCluster, SessionOptions, Sessions};
pub use source::EtcdSource;
use watch::Follower;
use write::TransactionWriter;

/// How long a start waits for etcd, before it goes on with the mirror.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// The time-out of etcd's status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a close waits for the tasks, which write the mirror.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A store in etcd, with a local mirror.
pub struct EtcdStore {
    location: String,
    client: Arc<EtcdClient>,
    mirror: Arc<Mirror>,
    health: Arc<EtcdHealth>,
    writer: Arc<TransactionWriter>,
    barrier: Barrier,
    cluster: EtcdCluster,
    tasks: TaskTracker,
    failure: channel::Sender<Option<StoreError>>,
    stop: CancellationToken,
}

impl EtcdStore {
    /// Opens the mirror beside `path`, and begins to follow etcd. If etcd does not respond, the store opens with the
    /// records of the mirror; [`Store::freshness`] then says so. `session` is the time to live of the session.
    pub async fn open(config: EtcdConfig, path: &Path, session: Duration) -> Result<Self, OpenError> {
        Self::open_with_schema(config, path, session, Schema::CURRENT).await
    }

    /// Opens the store like [`EtcdStore::open`], as a version of volboot with other schemas.
    pub async fn open_with_schema(
        config: EtcdConfig,
        path: &Path,
        session: Duration,
        schema: Schema,
    ) -> Result<Self, OpenError> {
        let store_path = path.to_owned();
        let mirror = tokio::task::spawn_blocking(move || Mirror::open_blocking(&store_path)).await;
        let mirror = mirror.map_err(|error| unavailable(path, error.to_string()))??;
        let heard = mirror.source().map_err(|error| unavailable(path, error.to_string()))?.1;
        let (mirror, health) = (Arc::new(mirror), Arc::new(EtcdHealth::new(heard)));
        let layout = Layout::new(&config.prefix);
        let location = format!("{} in etcd at {}", layout.prefix(), config.endpoints.join(", "));
        let client = Arc::new(EtcdClient::new(config));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (served, required) = channel::channel(None);
        let writer = TransactionWriter::new(Arc::clone(&client), layout.clone(), mirror.id(), required);
        let writer = Arc::new(writer);
        let (mirror_of, health_of) = (Arc::clone(&mirror), Arc::clone(&health));
        let follower =
            Follower::new(Arc::clone(&client), layout.clone(), mirror_of, health_of, schema, served);
        let identity = follower.subscribe_identity();
        let follower = Arc::new(follower);
        let (refused, mut refusal) = channel::channel::<Option<String>>(None);
        let on_refused = move |error: &GuardError| drop(refused.send_replace(Some(error.to_string())));
        tasks.spawn(Arc::clone(&follower).run(stop.clone(), on_refused));
        let barrier = Barrier::start(follower, &tasks, stop.clone());
        let (client_of, writer_of) = (Arc::clone(&client), Arc::clone(&writer));
        let health_of = Arc::clone(&health);
        let options = SessionOptions { ttl: session, schema: schema.version() };
        let layout_of = layout.clone();
        let sessions = Sessions::start(client_of, layout_of, writer_of, health_of, options, &tasks, &stop);
        let (client_of, health_of) = (Arc::clone(&client), Arc::clone(&health));
        tasks.spawn(monitor::run(client_of, layout.clone(), health_of, stop.clone()));
        let migrator =
            Migrator { client: Arc::clone(&client), layout, sessions: Arc::clone(&sessions), schema };
        let until = stop.clone();
        tasks.spawn(async move { until.run_until_cancelled(migrator.run(identity)).await });
        let store = Self {
            location,
            client,
            mirror,
            health,
            writer,
            barrier,
            cluster: EtcdCluster(sessions),
            tasks,
            failure: channel::Sender::new(None),
            stop,
        };
        let refused = async {
            match refusal.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
                Ok(Some(reason)) => reason,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            fresh = timeout(START_TIMEOUT, store.wait_until_fresh()) => if fresh.is_err() {
                let revision = store.mirror.revision();
                tracing::warn!(store = store.location, revision, "store opened without etcd, from the mirror");
            },
            reason = refused => {
                store.stop.cancel();
                return Err(OpenError::Unavailable { location: store.location.clone(), source: reason.into() });
            }
        }
        Ok(store)
    }

    /// Waits for a barrier and a session.
    async fn wait_until_fresh(&self) {
        while self.barrier.pass().await.is_err() || self.cluster.0.is_waiting() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Checks the result of a read of the mirror: damage is a failure of this process.
    fn checked<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error @ StoreError::Damaged(_)) = &result {
            // The next start then creates a new mirror.
            let _ = std::fs::remove_file(self.mirror.path());
            self.failure.send_replace(Some(error.clone()));
        }
        result
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if self.stop.is_cancelled() {
            return Err(StoreError::Unavailable("the store is closed".into()));
        }
        Ok(())
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Store for EtcdStore {
    fn get<'a>(&'a self, keys: &'a [String]) -> StoreFuture<'a, Vec<Option<Record>>> {
        Box::pin(async move {
            self.barrier.pass().await?;
            self.checked(self.mirror.get(keys).await)
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Record>> {
        Box::pin(async move {
            self.barrier.pass().await?;
            self.checked(self.mirror.list(prefix, after, limit).await)
        })
    }

    fn write(&self, batch: Batch) -> StoreFuture<'_, Revision, WriteError> {
        Box::pin(async move {
            self.check_open()?;
            let result = self.writer.write(batch).await;
            if let Err(RpcError::NoSpace) = &result {
                self.health.set_no_space(true);
            }
            match result {
                Ok(Ok(revision)) => Ok(revision),
                Ok(Err(condition)) => Err(WriteError::Conflict(condition)),
                Err(error) => Err(WriteError::Store(error.into())),
            }
        })
    }

    fn changes(&self, after: Revision, limit: usize) -> StoreFuture<'_, ChangeSet> {
        Box::pin(async move {
            self.barrier.pass().await?;
            self.checked(self.mirror.changes(after, limit).await)
        })
    }

    fn wait_for_change(&self, after: Revision) -> StoreFuture<'_, Revision> {
        Box::pin(async move {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => Err(StoreError::Unavailable("the store is closed".into())),
                revision = self.mirror.wait_for_change(after) => revision,
            }
        })
    }

    fn access(&self) -> StoreAccess {
        self.health.access()
    }

    fn freshness(&self) -> Freshness {
        self.health.freshness()
    }

    fn shared_status(&self) -> Option<SharedStatus> {
        Some(self.health.status(self.client.members(), self.cluster.0.is_alive()))
    }

    fn last_known(self: Arc<Self>) -> Arc<dyn Store> {
        Arc::new(LastKnownStore(self))
    }

    fn schema(&self) -> Result<u64, StoreError> {
        self.checked(self.mirror.schema())
    }

    fn cluster(&self) -> &dyn Cluster {
        &self.cluster
    }

    fn snapshot(&self) -> StoreFuture<'_, Box<dyn Snapshot>> {
        Box::pin(async move {
            self.barrier.pass().await?;
            self.checked(self.mirror.snapshot().await)
        })
    }

    fn info(&self) -> StoreFuture<'_, StoreInfo> {
        Box::pin(async move {
            let by = Instant::now() + STATUS_TIMEOUT;
            let path = "/etcdserverpb.Maintenance/Status";
            let status: Result<StatusResponse, RpcError> = self.client.call(path, &Empty {}, by).await;
            let bytes = status.ok().and_then(|status| u64::try_from(status.db_size).ok());
            Ok(StoreInfo { location: self.location.clone(), bytes })
        })
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.check_open()?;
            self.stop.cancel();
            self.cluster.0.close().await;
            self.tasks.close();
            if timeout(CLOSE_TIMEOUT, self.tasks.wait()).await.is_err() {
                tracing::warn!("mirror closed without its last changes");
            }
            Ok(())
        })
    }

    fn wait_for_failure(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        let mut failure = self.failure.subscribe();
        Box::pin(async move {
            match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
                Ok(Some(error)) => error,
                _ => std::future::pending().await,
            }
        })
    }
}

fn unavailable(path: &Path, cause: String) -> OpenError {
    OpenError::Unavailable { location: path.display().to_string(), source: cause.into() }
}
