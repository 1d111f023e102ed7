//! [`Follower`]: follows etcd's changes into the mirror.
//!
//! One watch covers the whole prefix and resumes after the last applied event. Only events move that point: the header
//! of a response and a progress notification may name a revision whose events another member has not sent yet, and
//! reads became stale that way. A watch can also hang without an error; [`super::barrier`] finds that out and asks for a
//! new watch at the next member. Once etcd has compacted the point, all records are loaded anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch as channel};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::client::EtcdClient;
use super::error::RpcError;
use super::guard::{self, GuardError, Verified};
use super::health::EtcdHealth;
use super::identity::Identity;
use super::keys::{Layout, all_under, one};
use super::messages::{
    DELETE, KeyValue, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
    etcd_revision, key_text, prefix_end, revision,
};
use crate::store::contract::{Record, Revision, StoreError};
use crate::store::mirror::{Mirror, MirrorSource, MirroredWrite};
use crate::store::schema::Schema;

/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(200);
/// How often a changed mirror is made durable.
const FLUSH: Duration = Duration::from_secs(5);
/// How often the mirror notes that etcd responds.
const NOTE: Duration = Duration::from_secs(60);
/// Records for each read of a load. etcd 3.4 counts the rest of the range for every page.
const PAGE: i64 = 10_000;
/// The deadline of a page.
const PAGE_DEADLINE: Duration = Duration::from_secs(30);
/// The deadline of a read of the tick.
const TICK_DEADLINE: Duration = Duration::from_secs(10);
/// The time-out of a watch's first response.
const CREATED: Duration = Duration::from_secs(1);

/// The task that feeds the mirror.
pub(super) struct Follower {
    pub(super) client: Arc<EtcdClient>,
    pub(super) layout: Layout,
    pub(super) mirror: Arc<Mirror>,
    pub(super) health: Arc<EtcdHealth>,
    schema: Schema,
    /// The identity below the prefix, also one that cannot be served.
    identity: channel::Sender<Option<Identity>>,
    /// The value of the identity that the mirror shows. Writes require it.
    served: channel::Sender<Option<String>>,
    renew: Notify,
    reload: AtomicBool,
}

/// What the mirror shows of etcd's history.
enum MirrorRelation {
    /// The last write.
    Present,
    /// An earlier write: changes follow.
    Earlier,
    /// Nothing: it is of another history, or all records must be loaded anew.
    Other,
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
enum WatchEnd {
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error(transparent)]
    Mirror(#[from] StoreError),
    #[error("the watch no longer delivers changes")]
    Hanging,
    #[error("the identity of the records has changed")]
    NewIdentity,
}

impl From<RpcError> for WatchEnd {
    fn from(error: RpcError) -> Self {
        Self::Guard(error.into())
    }
}

impl Follower {
    pub(super) fn new(
        client: Arc<EtcdClient>,
        layout: Layout,
        mirror: Arc<Mirror>,
        health: Arc<EtcdHealth>,
        schema: Schema,
        served: channel::Sender<Option<String>>,
    ) -> Self {
        let (renew, reload) = (Notify::new(), AtomicBool::new(false));
        let identity = channel::Sender::new(None);
        Self { client, layout, mirror, health, schema, identity, served, renew, reload }
    }

    /// Follows the identity below the prefix.
    pub(super) fn subscribe_identity(&self) -> channel::Receiver<Option<Identity>> {
        self.identity.subscribe()
    }

    /// Waits until the records may be served.
    pub(super) async fn wait_until_served(&self) {
        // The sender is this structure's own.
        let _ = self.served.subscribe().wait_for(Option::is_some).await;
    }

    /// Ends a hanging watch and begins a new one at the next member.
    pub(super) fn renew(&self) {
        self.renew.notify_one();
    }

    /// Loads all records anew: the mirror is of another history.
    pub(super) fn reload(&self) {
        self.reload.store(true, Ordering::Relaxed);
        self.renew();
    }

    /// Follows until the stop. `on_refused` gets the reason why the records cannot be used.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken, on_refused: impl Fn(&GuardError)) {
        let mut resume = self.mirror.revision();
        loop {
            let end = tokio::select! {
                () = stop.cancelled() => break,
                end = self.follow(&mut resume) => end,
            };
            let Err(end) = end;
            if matches!(&end, WatchEnd::Guard(error) if !matches!(error, GuardError::Rpc(_))) {
                self.served.send_replace(None);
            }
            match &end {
                WatchEnd::Guard(GuardError::Rpc(RpcError::Compacted)) => {
                    tracing::info!(
                        "etcd has compacted changes that the mirror has not seen: loading all records"
                    );
                    self.reload.store(true, Ordering::Relaxed);
                    continue;
                }
                WatchEnd::Guard(GuardError::Rpc(RpcError::OldToken)) | WatchEnd::NewIdentity => {}
                WatchEnd::Hanging => tracing::debug!("watch renewed"),
                WatchEnd::Guard(GuardError::Rpc(error)) => self.health.fail(&error.to_string()),
                WatchEnd::Guard(waiting @ GuardError::Migrating(..)) => {
                    self.health.fail(&waiting.to_string());
                }
                WatchEnd::Guard(refusal) => {
                    self.health.fail(&refusal.to_string());
                    on_refused(refusal);
                }
                WatchEnd::Mirror(error) => tracing::error!(%error, "cannot write the mirror"),
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        self.flush().await;
    }

    async fn follow(&self, resume: &mut Revision) -> Result<std::convert::Infallible, WatchEnd> {
        let (known, _) = self.mirror.source()?;
        let found = guard::verify(&self.client, &self.layout, known.as_deref(), &self.schema).await?;
        self.identity.send_replace(Some(found.identity.clone()));
        guard::check(&found.identity, &self.layout, &self.schema)?;
        let is_other = known.as_deref() != Some(found.text.as_str()) || self.mirror.revision() == 0;
        let relation = if self.reload.load(Ordering::Relaxed) || is_other {
            MirrorRelation::Other
        } else {
            self.compare_history().await?
        };
        match relation {
            // Nothing was written since. The resumed revision may be compacted: sessions raise etcd's revision too.
            MirrorRelation::Present => *resume = found.read_at,
            MirrorRelation::Earlier => *resume = self.mirror.revision(),
            MirrorRelation::Other => {
                *resume = self.load(&found).await?;
                self.reload.store(false, Ordering::Relaxed);
            }
        }
        self.served.send_replace(Some(found.text));
        let verified_at = found.revision;
        let (mut stream, member) = self.open(*resume + 1).await?;
        let mut flush = interval(FLUSH);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut is_changed, mut flushed_at) = (true, Instant::now());
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                () = self.renew.notified() => {
                    self.client.turn_from(member);
                    return Err(WatchEnd::Hanging);
                }
                _ = flush.tick() => {
                    if std::mem::take(&mut is_changed) || flushed_at.elapsed() >= NOTE {
                        self.flush().await;
                        flushed_at = Instant::now();
                    }
                    continue;
                }
            };
            let message = message.map_err(|status| self.client.stream_error(member, &status));
            let message = match message {
                Ok(message) => message.ok_or(RpcError::Unreachable("the watch has ended".into())),
                Err(error) => Err(error),
            };
            let message = message.inspect_err(|error| {
                if error.is_unreachable() {
                    self.client.turn_from(member);
                }
            })?;
            check(&message)?;
            is_changed |= self.apply(message, resume, verified_at).await?;
        }
    }

    /// Compares etcd's history with the last write of the mirror. A restored backup may lack that write, although its
    /// revisions have grown beyond the mirror's since.
    async fn compare_history(&self) -> Result<MirrorRelation, WatchEnd> {
        let at = etcd_revision(self.mirror.revision());
        let expected = self.mirror.tick()?.unwrap_or_default();
        let is_last = |kv: &KeyValue| kv.mod_revision == at && kv.value == expected.as_bytes();
        // The present tick first: the mirror's revision may be compacted.
        if self.read_tick(0).await?.is_some_and(|tick| is_last(&tick)) {
            return Ok(MirrorRelation::Present);
        }
        let tick = match self.read_tick(at).await {
            Err(RpcError::FutureRevision) => None,
            answer => answer?,
        };
        if tick.is_some_and(|tick| is_last(&tick)) {
            return Ok(MirrorRelation::Earlier);
        }
        tracing::warn!(
            "etcd has another history than the mirror, as after a restored backup: loading all records"
        );
        Ok(MirrorRelation::Other)
    }

    /// Reads the tick at a revision; 0: the present one.
    async fn read_tick(&self, at: i64) -> Result<Option<KeyValue>, RpcError> {
        let request = RangeRequest { revision: at, ..one(self.layout.tick()) };
        let by = Instant::now() + TICK_DEADLINE;
        let tick: RangeResponse = self.client.call("/etcdserverpb.KV/Range", &request, by).await?;
        Ok(tick.kvs.into_iter().next())
    }

    async fn open(&self, from: Revision) -> Result<(Streaming<WatchResponse>, usize), RpcError> {
        let prefix = self.layout.prefix().as_bytes().to_vec();
        let create = WatchCreateRequest {
            range_end: prefix_end(&prefix),
            key: prefix,
            start_revision: etcd_revision(from),
        };
        let request = WatchRequest { create: Some(create) };
        let (mut stream, member) = self.client.open_stream("/etcdserverpb.Watch/Watch", request).await?;
        let first = timeout(CREATED, stream.message()).await;
        let first = match first {
            Ok(Ok(Some(first))) => Ok(first),
            Ok(Ok(None)) => Err(RpcError::Unreachable("the watch has ended".into())),
            Ok(Err(status)) => Err(self.client.stream_error(member, &status)),
            Err(_) => Err(RpcError::Unreachable("no watch was created in time".into())),
        };
        let first: WatchResponse = first.inspect_err(|error| {
            if error.is_unreachable() {
                self.client.turn_from(member);
            }
        })?;
        check(&first)?;
        Ok((stream, member))
    }

    /// Applies the events of a response: whole revisions, in order. Returns whether records have changed. Fails at a change
    /// of the identity since its verification.
    async fn apply(
        &self,
        message: WatchResponse,
        resume: &mut Revision,
        verified_at: Revision,
    ) -> Result<bool, WatchEnd> {
        let mut writes: Vec<MirroredWrite> = Vec::new();
        let (mut last, mut is_other) = (*resume, false);
        for event in message.events {
            let Some(kv) = event.kv else { continue };
            let revision = revision(kv.mod_revision);
            last = last.max(revision);
            is_other |= kv.key == self.layout.cluster() && revision > verified_at;
            let Some(key) = key_text(&kv) else { continue };
            let record = self.layout.parse_record(key);
            if record.is_none() && kv.key != self.layout.tick() {
                continue;
            }
            if writes.last().is_none_or(|write| write.revision != revision) {
                writes.push(MirroredWrite { revision, changes: Vec::new(), tick: None });
            }
            let Some(write) = writes.last_mut() else { continue };
            match record {
                Some(record) => {
                    let value = (event.kind != DELETE).then(|| kv.value.clone());
                    write.changes.push((record.to_owned(), value));
                }
                None => write.tick = Some(String::from_utf8_lossy(&kv.value).into_owned()),
            }
        }
        if is_other {
            return Err(WatchEnd::NewIdentity);
        }
        let is_changed = !writes.is_empty();
        if is_changed {
            let mirror = Arc::clone(&self.mirror);
            run_blocking(move || mirror.apply_blocking(&writes)).await?;
        }
        *resume = last;
        Ok(is_changed)
    }

    /// Loads all records of one revision. Returns that revision.
    async fn load(&self, source: &Verified) -> Result<Revision, WatchEnd> {
        let started = Instant::now();
        let mirror = Arc::clone(&self.mirror);
        let mut load = run_blocking(move || mirror.begin_load()).await?;
        let prefix = self.layout.record("");
        let mut request = RangeRequest { limit: PAGE, ..all_under(prefix) };
        let mut count = 0;
        loop {
            let by = Instant::now() + PAGE_DEADLINE;
            let page: RangeResponse = self.client.call_long("/etcdserverpb.KV/Range", &request, by).await?;
            if request.revision == 0 {
                // All other pages are of the revision of the first.
                request.revision = page.header.map_or(0, |header| header.revision);
            }
            let Some(last) = page.kvs.last().map(|kv| kv.key.clone()) else { break };
            let records: Vec<Record> = page
                .kvs
                .into_iter()
                .filter_map(|kv| {
                    let key = self.layout.parse_record(key_text(&kv)?)?.to_owned();
                    Some(Record { key, revision: revision(kv.mod_revision), value: kv.value })
                })
                .collect();
            count += records.len();
            load = run_blocking(move || load.insert(&records).map(|()| load)).await?;
            if !page.more {
                break;
            }
            request.key = [last.as_slice(), &[0]].concat();
        }
        let at = revision(request.revision);
        // The mirror's revision is the last that a record had: that of the tick.
        let tick = self.read_tick(request.revision).await?.ok_or(WatchEnd::NewIdentity)?;
        let latest = revision(tick.mod_revision);
        let (mirror, text, schema) = (Arc::clone(&self.mirror), source.text.clone(), source.identity.schema);
        let value = String::from_utf8_lossy(&tick.value).into_owned();
        let finish = move || {
            let source = MirrorSource { identity: &text, schema, tick: &value };
            mirror.finish_load(load, latest, &source)
        };
        run_blocking(finish).await?;
        tracing::info!(records = count, revision = latest, elapsed = ?started.elapsed(), "mirror loaded");
        Ok(at)
    }

    async fn flush(&self) {
        let mirror = Arc::clone(&self.mirror);
        let Some(heard) = self.health.heard() else { return };
        let heard = heard.min(SystemTime::now());
        if let Err(error) = run_blocking(move || mirror.flush_blocking(heard)).await {
            tracing::warn!(%error, "cannot flush the mirror");
        }
    }
}

/// Fails if the watch was cancelled.
fn check(message: &WatchResponse) -> Result<(), RpcError> {
    if !message.canceled {
        return Ok(());
    }
    if message.compact_revision > 0 {
        return Err(RpcError::Compacted);
    }
    let reason = message.cancel_reason.trim_start_matches("rpc error: ").to_owned();
    Err(if reason.contains("PermissionDenied") || reason.contains("permission denied") {
        RpcError::Denied(reason)
    } else {
        RpcError::Unreachable(format!("the watch was cancelled: {reason}"))
    })
}

async fn run_blocking<T: Send + 'static>(
    operation: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let result = tokio::task::spawn_blocking(operation).await;
    result.map_err(|error| StoreError::Unavailable(error.to_string())).flatten()
}
