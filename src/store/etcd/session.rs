//! [`Sessions`]: this process's session in etcd, its announcement, and its claims.
//!
//! A session is a lease, kept alive at intervals of about a third of its time to live. etcd counts a lease's time from
//! the arrival of a keep-alive, this process from the sending, so this process's deadline comes first. A claim is a key
//! with the lease; its identity is the key's revision of creation, which a new note does not change.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::announcement::{AnnouncementHeader, join, split};
use super::client::EtcdClient;
use super::error::RpcError;
use super::health::EtcdHealth;
use super::keys::{Layout, all_under, one};
use super::messages::{
    Empty, KeyValue, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseRequest, Operation,
    RangeRequest, RangeResponse, key_text, revision,
};
use super::transaction::{Check, Test, delete, put};
use super::write::{TransactionOutcome, TransactionWriter};
use crate::store::contract::{StoreError, StoreFuture};
use crate::store::session::{Claim, ClaimHolder, ClaimId, Cluster, Instance, ReleaseClaim, SessionState};

/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(200);
/// The deadline of a read.
const READ: Duration = Duration::from_secs(3);
/// The time-out of one keep-alive.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The session of this process.
pub(super) struct Sessions {
    client: Arc<EtcdClient>,
    layout: Layout,
    writer: Arc<TransactionWriter>,
    health: Arc<EtcdHealth>,
    ttl: Duration,
    current: Mutex<Option<LeasedSession>>,
    announcement: Mutex<Option<(AnnouncementHeader, Vec<u8>)>>,
    /// A lease seems to be lost.
    check: Notify,
    releases: mpsc::UnboundedSender<ClaimId>,
    schema: u64,
}

/// What the sessions of a process have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionOptions {
    /// The time to live.
    pub(super) ttl: Duration,
    /// The newest schema that this process understands.
    pub(super) schema: u64,
}

#[derive(Clone)]
struct LeasedSession {
    lease: i64,
    state: watch::Sender<SessionState>,
}

impl LeasedSession {
    fn id(&self) -> String {
        format!("{:016x}", self.lease)
    }

    fn end(&self) {
        self.state.send_replace(SessionState::Ended(Instant::now()));
    }
}

/// The first line of a claim. The note follows.
#[derive(Debug, Serialize, Deserialize)]
struct ClaimHeader {
    session: String,
}

impl Sessions {
    /// Starts the tasks that keep the session and give claims back.
    pub(super) fn start(
        client: Arc<EtcdClient>,
        layout: Layout,
        writer: Arc<TransactionWriter>,
        health: Arc<EtcdHealth>,
        SessionOptions { ttl, schema }: SessionOptions,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        // Bounded by the number of claims.
        let (releases, dropped_claims) = mpsc::unbounded_channel();
        let sessions = Arc::new(Self {
            client,
            layout,
            writer,
            health,
            ttl,
            current: Mutex::default(),
            announcement: Mutex::default(),
            check: Notify::new(),
            releases,
            schema,
        });
        let (alive, until) = (Arc::clone(&sessions), stop.clone());
        tasks.spawn(async move { until.run_until_cancelled(alive.keep()).await });
        let (dropped, until) = (Arc::clone(&sessions), stop.clone());
        tasks.spawn(async move { until.run_until_cancelled(dropped.release_dropped(dropped_claims)).await });
        sessions
    }

    /// Whether this process has a session.
    pub(super) fn is_alive(&self) -> bool {
        self.current.lock().is_some()
    }

    /// Whether this process has no session yet. Without space, etcd grants none.
    pub(super) fn is_waiting(&self) -> bool {
        self.current.lock().is_none() && !self.health.has_no_space()
    }

    /// Ends the session with its claims.
    pub(super) async fn close(&self) {
        let Some(session) = self.current.lock().take() else { return };
        session.end();
        let request = LeaseRequest { id: session.lease };
        let by = Instant::now() + KEEP_ALIVE;
        // Without an answer, the lease ends by itself.
        let _ = self.client.call::<_, Empty>("/etcdserverpb.Lease/LeaseRevoke", &request, by).await;
    }

    /// Holds one session after another.
    async fn keep(&self) {
        loop {
            let asked_at = Instant::now();
            let request = LeaseGrantRequest { ttl: i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX) };
            let path = "/etcdserverpb.Lease/LeaseGrant";
            let granted: LeaseGrantResponse = match self.client.call(path, &request, asked_at + READ).await {
                Ok(granted) => granted,
                Err(error) => {
                    self.health.fail(&error.to_string());
                    if matches!(error, RpcError::NoSpace) {
                        self.health.set_no_space(true);
                    }
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let state = watch::Sender::new(SessionState::Alive(Some(self.deadline(asked_at, granted.ttl))));
            let session = LeasedSession { lease: granted.id, state };
            tracing::debug!(session = session.id(), "session begun");
            *self.current.lock() = Some(session.clone());
            self.announce_again().await;
            self.keep_alive(&session).await;
            *self.current.lock() = None;
            session.end();
            tracing::warn!(session = session.id(), "session has ended: its claims are lost");
        }
    }

    /// The margin before a lease's end: 3 s of 10 s.
    fn deadline(&self, asked_at: Instant, ttl: i64) -> Instant {
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or_default()).min(self.ttl);
        asked_at + ttl * 7 / 10
    }

    /// Keeps a lease alive until etcd no longer knows it.
    async fn keep_alive(&self, session: &LeasedSession) {
        let interval = self.ttl * 3 / 10;
        let mut next = Instant::now() + interval;
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.check.notified() => {}
            }
            let asked_at = Instant::now();
            match self.keep_alive_once(session.lease).await {
                Ok(ttl) if ttl > 0 => {
                    session.state.send_replace(SessionState::Alive(Some(self.deadline(asked_at, ttl))));
                    next = asked_at + interval;
                }
                Ok(_) | Err(RpcError::LeaseNotFound) => return,
                Err(error) => {
                    tracing::debug!(%error, "no answer to a keep-alive");
                    next = Instant::now() + PAUSE;
                }
            }
        }
    }

    async fn keep_alive_once(&self, lease: i64) -> Result<i64, RpcError> {
        let path = "/etcdserverpb.Lease/LeaseKeepAlive";
        let (mut stream, member) =
            self.client.open_stream::<_, LeaseKeepAliveResponse>(path, LeaseRequest { id: lease }).await?;
        let answer = match timeout_at(Instant::now() + KEEP_ALIVE, stream.message()).await {
            Ok(Ok(Some(answer))) => Ok(answer.ttl),
            Ok(Ok(None)) => Err(RpcError::Unreachable("the stream has ended".into())),
            Ok(Err(status)) => Err(self.client.stream_error(member, &status)),
            Err(_) => Err(RpcError::Unreachable("no answer to a keep-alive in time".into())),
        };
        answer.inspect_err(|error| {
            if error.is_unreachable() {
                self.client.turn_from(member);
            }
        })
    }

    /// Gives dropped claims back, one after another.
    async fn release_dropped(&self, mut released: mpsc::UnboundedReceiver<ClaimId>) {
        while let Some(id) = released.recv().await {
            while let Err(error) = self.end_claim(&id).await {
                tracing::debug!(work = id.work, %error, "cannot give a claim back yet");
                sleep(PAUSE).await;
            }
        }
    }

    async fn end_claim(&self, id: &ClaimId) -> Result<(), RpcError> {
        let key = self.layout.claim(&id.work);
        let check = Check { key: key.clone(), test: Test::Created(id.revision) };
        self.writer.commit(vec![check], vec![delete(key)], false).await.map(|_| ())
    }

    pub(super) async fn try_claim(
        self: Arc<Self>,
        work: String,
        note: &[u8],
    ) -> Result<Option<Claim>, StoreError> {
        let session = self.session()?;
        let key = self.layout.claim(&work);
        let check = Check { key: key.clone(), test: Test::Created(0) };
        let value = join(&ClaimHeader { session: session.id() }, note);
        let outcome = self.put_leased(vec![check], key, value, session.lease).await?;
        let TransactionOutcome::Applied(revision) = outcome else { return Ok(None) };
        let id = ClaimId { work, revision };
        Ok(Some(Claim::new(id, session.state.subscribe(), self)))
    }

    fn session(&self) -> Result<LeasedSession, StoreError> {
        let current = self.current.lock().clone();
        current.ok_or_else(|| StoreError::Unavailable("no session in etcd yet".into()))
    }

    /// Repeats the announcement in a new session.
    async fn announce_again(&self) {
        if self.announcement.lock().is_some()
            && let Err(error) = self.put_announcement().await
        {
            tracing::warn!(%error, "cannot announce this instance");
        }
    }

    async fn put_announcement(&self) -> Result<(), StoreError> {
        let session = self.session()?;
        let value = match &*self.announcement.lock() {
            Some((header, record)) => join(header, record),
            None => return Ok(()),
        };
        self.put_leased(Vec::new(), self.layout.session(&session.id()), value, session.lease).await?;
        Ok(())
    }

    /// Puts a key with the session's lease.
    async fn put_leased(
        &self,
        checks: Vec<Check>,
        key: Vec<u8>,
        value: Vec<u8>,
        lease: i64,
    ) -> Result<TransactionOutcome, StoreError> {
        let operations: Vec<Operation> = vec![put(key, value, lease)];
        let result = self.writer.commit(checks, operations, false).await;
        if let Err(RpcError::LeaseNotFound) = &result {
            self.check.notify_one();
        }
        Ok(result?)
    }

    async fn read(&self, request: RangeRequest) -> Result<Vec<KeyValue>, StoreError> {
        let by = Instant::now() + READ;
        let response: RangeResponse = self.client.call("/etcdserverpb.KV/Range", &request, by).await?;
        Ok(response.kvs)
    }

    fn parse_instance(&self, kv: &KeyValue, own: Option<&str>) -> Option<Instance> {
        let session = self.layout.parse_session(key_text(kv)?)?.to_owned();
        let (header, record) = split::<AnnouncementHeader>(&kv.value)?;
        let is_self = own == Some(session.as_str());
        Some(Instance { session, name: header.name, since: header.since, record, is_self })
    }
}

impl ReleaseClaim for Sessions {
    fn release_in_background(&self, id: &ClaimId) {
        // The task ends with the store, and then so does the session.
        let _ = self.releases.send(id.clone());
    }
}

/// The session as the contract's [`Cluster`].
pub(super) struct EtcdCluster(pub(super) Arc<Sessions>);

impl Cluster for EtcdCluster {
    fn announce<'a>(&'a self, name: &'a str, record: Vec<u8>) -> StoreFuture<'a, ()> {
        {
            let mut announcement = self.0.announcement.lock();
            let since = announcement.as_ref().map_or_else(Timestamp::now, |(header, _)| header.since);
            let header = AnnouncementHeader { name: name.to_owned(), since, schema: self.0.schema };
            *announcement = Some((header, record));
        }
        Box::pin(self.0.put_announcement())
    }

    fn has_session(&self) -> bool {
        self.0.current.lock().as_ref().is_some_and(|session| session.state.borrow().is_alive())
    }

    fn instances(&self) -> StoreFuture<'_, Vec<Instance>> {
        Box::pin(async move {
            let found = self.0.read(all_under(self.0.layout.session(""))).await?;
            let own = self.0.session().ok().map(|session| session.id());
            let mut instances: Vec<Instance> =
                found.iter().filter_map(|kv| self.0.parse_instance(kv, own.as_deref())).collect();
            instances.sort_by(|a, b| (&a.name, &a.session).cmp(&(&b.name, &b.session)));
            Ok(instances)
        })
    }

    fn claim<'a>(&'a self, work: &'a str, note: &'a [u8]) -> StoreFuture<'a, Option<Claim>> {
        let (sessions, work, note) = (Arc::clone(&self.0), work.to_owned(), note.to_vec());
        Box::pin(async move {
            // A task of its own: if the caller stops to wait, a granted claim is dropped, and so given back.
            let claim = tokio::spawn(async move { sessions.try_claim(work, &note).await }).await;
            claim.map_err(|error| StoreError::Unavailable(error.to_string()))?
        })
    }

    fn holder<'a>(&'a self, work: &'a str) -> StoreFuture<'a, Option<ClaimHolder>> {
        Box::pin(async move {
            let found = self.0.read(one(self.0.layout.claim(work))).await?;
            let Some(kv) = found.first() else { return Ok(None) };
            let own = self.0.session().ok().map(|session| session.id());
            let (header, note) = split::<ClaimHeader>(&kv.value)
                .ok_or_else(|| StoreError::Damaged(format!("the claim on {work} cannot be read")))?;
            Ok(Some(ClaimHolder {
                id: ClaimId { work: work.to_owned(), revision: revision(kv.create_revision) },
                is_self: own.as_deref() == Some(header.session.as_str()),
                session: header.session,
                note,
            }))
        })
    }

    fn annotate<'a>(&'a self, claim: &'a ClaimId, note: &'a [u8]) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let session = self.0.session()?;
            let key = self.0.layout.claim(&claim.work);
            let check = Check { key: key.clone(), test: Test::Created(claim.revision) };
            let value = join(&ClaimHeader { session: session.id() }, note);
            let outcome = self.0.put_leased(vec![check], key, value, session.lease).await?;
            Ok(matches!(outcome, TransactionOutcome::Applied(_)))
        })
    }

    fn release(&self, claim: Claim) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            // On a failure, the drop gives the claim back in the background.
            self.0.end_claim(claim.id()).await?;
            claim.into_id();
            Ok(())
        })
    }
}
