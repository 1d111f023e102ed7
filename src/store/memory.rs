//! [`MemoryStore`]: a store in memory, for tests and trials.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::contract::{
    Batch, Change, ChangeSet, Condition, Freshness, Record, Revision, Snapshot, Store, StoreAccess,
    StoreError, StoreFuture, StoreInfo, WriteError,
};
use super::local::{RETAINED_WRITES, list_start, take_whole_writes, wait_for_revision};
use super::local_session::{LocalClaims, LocalSession};
use super::schema::Schema;
use super::session::Cluster;

/// Records in memory, lost when the last handle is dropped.
///
/// Each handle is one instance of a cluster, with a session of its own.
#[derive(Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    session: LocalSession,
    closed: CancellationToken,
    outage: Mutex<Option<(Instant, String)>>,
}

#[derive(Debug)]
struct Shared {
    // Held for one map operation, never across an await.
    state: Mutex<State>,
    latest: watch::Sender<Revision>,
    claims: Arc<LocalClaims>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<String, (Revision, Vec<u8>)>,
    changes: VecDeque<Change>,
    revision: Revision,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let claims = Arc::<LocalClaims>::default();
        Self::on(Arc::new(Shared { state: Mutex::default(), latest: watch::Sender::new(0), claims }))
    }
}

impl MemoryStore {
    fn on(shared: Arc<Shared>) -> Self {
        let session = LocalSession::join(Arc::clone(&shared.claims));
        Self { shared, session, closed: CancellationToken::new(), outage: Mutex::default() }
    }

    /// Another instance on the same records.
    #[must_use]
    pub fn join(&self) -> Self {
        Self::on(Arc::clone(&self.shared))
    }

    /// Ends this instance's session as a shared store does: its claims are lost, and a new session begins.
    pub fn end_session(&self) {
        self.session.end();
    }

    /// Ends this instance's claims for the others. The instance is suspended, and learns nothing before
    /// [`MemoryStore::end_session`].
    #[cfg(test)]
    pub(crate) fn expire_claims(&self) {
        self.session.expire_claims();
    }

    /// Sets the deadline of this instance's claims, as a missed keep-alive does.
    pub fn set_session_deadline(&self, deadline: Option<Instant>) {
        self.session.set_deadline(deadline);
    }

    /// Begins an outage of the shared store for this instance, or ends it.
    pub fn set_outage(&self, reason: Option<&str>) {
        *self.outage.lock() = reason.map(|reason| (Instant::now(), reason.to_owned()));
    }

    fn check_fresh(&self) -> Result<(), StoreError> {
        match self.freshness() {
            Freshness::Fresh => Ok(()),
            Freshness::Stale { reason, .. } => Err(StoreError::Unavailable(reason)),
        }
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.is_cancelled() {
            return Err(StoreError::Unavailable("the store is closed".into()));
        }
        self.check_fresh()
    }
}

impl State {
    fn record(&self, key: &str) -> Option<Record> {
        let (revision, value) = self.records.get(key)?;
        Some(Record { key: key.to_owned(), revision: *revision, value: value.clone() })
    }

    fn holds(&self, condition: &Condition, claims: &LocalClaims) -> bool {
        let revision = |key: &String| self.records.get(key).map(|(revision, _)| *revision);
        match condition {
            Condition::Unchanged(key, expected) => revision(key) == Some(*expected),
            Condition::Absent(key) => revision(key).is_none(),
            Condition::Untouched(prefix, since) => self
                .records
                .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
                .take_while(|(key, _)| key.starts_with(prefix))
                .all(|(_, (revision, _))| revision <= since),
            Condition::Held(claim) => claims.is_held(claim),
        }
    }

    fn apply(&mut self, batch: Batch, claims: &LocalClaims) -> Result<Revision, WriteError> {
        let released = batch.release.iter().cloned().map(Condition::Held);
        let mut conditions = batch.conditions.into_iter().chain(released);
        if let Some(condition) = conditions.find(|condition| !self.holds(condition, claims)) {
            return Err(WriteError::Conflict(condition));
        }
        self.revision += 1;
        let revision = self.revision;
        for key in batch.delete {
            if self.records.remove(&key).is_some() {
                self.changes.push_back(Change { revision, key });
            }
        }
        for (key, value) in batch.put {
            self.changes.push_back(Change { revision, key: key.clone() });
            self.records.insert(key, (revision, value));
        }
        let oldest = revision.saturating_sub(RETAINED_WRITES);
        while self.changes.front().is_some_and(|change| change.revision <= oldest) {
            self.changes.pop_front();
        }
        for claim in &batch.release {
            claims.remove(claim);
        }
        Ok(revision)
    }
}

/// A copy of all records.
struct MemorySnapshot {
    records: BTreeMap<String, (Revision, Vec<u8>)>,
    revision: Revision,
}

impl Snapshot for MemorySnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn schema(&self) -> u64 {
        Schema::CURRENT.version()
    }

    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> StoreFuture<'a, Vec<Record>> {
        let range = self.records.range::<str, _>((list_start("", after), Bound::Unbounded)).take(limit);
        let page = range.map(|(key, (revision, value))| Record {
            key: key.clone(),
            revision: *revision,
            value: value.clone(),
        });
        let page = page.collect();
        Box::pin(async { Ok(page) })
    }
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, keys: &'a [String]) -> StoreFuture<'a, Vec<Option<Record>>> {
        Box::pin(async move {
            self.check_fresh()?;
            let state = self.shared.state.lock();
            Ok(keys.iter().map(|key| state.record(key)).collect())
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Record>> {
        Box::pin(async move {
            self.check_fresh()?;
            let state = self.shared.state.lock();
            Ok(state
                .records
                .range::<str, _>((list_start(prefix, after), Bound::Unbounded))
                .take_while(|(key, _)| key.starts_with(prefix))
                .take(limit)
                .filter_map(|(key, _)| state.record(key))
                .collect())
        })
    }

    fn write(&self, batch: Batch) -> StoreFuture<'_, Revision, WriteError> {
        Box::pin(async move {
            self.check_open()?;
            let mut state = self.shared.state.lock();
            let revision = state.apply(batch, &self.shared.claims)?;
            self.shared.latest.send_replace(revision);
            Ok(revision)
        })
    }

    fn changes(&self, after: Revision, limit: usize) -> StoreFuture<'_, ChangeSet> {
        Box::pin(async move {
            let state = self.shared.state.lock();
            if after < state.revision.saturating_sub(RETAINED_WRITES) {
                return Ok(ChangeSet::Compacted(state.revision));
            }
            Ok(ChangeSet::Since(take_whole_writes(
                state.changes.iter().filter(|change| change.revision > after).cloned(),
                limit,
            )))
        })
    }

    fn wait_for_change(&self, after: Revision) -> StoreFuture<'_, Revision> {
        let latest = self.shared.latest.subscribe();
        Box::pin(async move {
            let closed = self.closed.cancelled();
            tokio::select! {
                biased;
                () = closed => Err(StoreError::Unavailable("the store is closed".into())),
                revision = wait_for_revision(latest, move |latest| latest > after) => revision,
            }
        })
    }

    fn access(&self) -> StoreAccess {
        match self.freshness() {
            Freshness::Fresh if self.closed.is_cancelled() => {
                StoreAccess::ReadOnly("the store is closed".into())
            }
            Freshness::Fresh => StoreAccess::ReadWrite,
            Freshness::Stale { reason, .. } => StoreAccess::ReadOnly(reason),
        }
    }

    fn freshness(&self) -> Freshness {
        match &*self.outage.lock() {
            None => Freshness::Fresh,
            Some((since, reason)) => Freshness::Stale { age: since.elapsed(), reason: reason.clone() },
        }
    }

    fn last_known(self: Arc<Self>) -> Arc<dyn Store> {
        let reader = self.join();
        reader.closed.cancel();
        Arc::new(reader)
    }

    fn cluster(&self) -> &dyn Cluster {
        &self.session
    }

    fn snapshot(&self) -> StoreFuture<'_, Box<dyn Snapshot>> {
        Box::pin(async move {
            let state = self.shared.state.lock();
            let (records, revision) = (state.records.clone(), state.revision);
            Ok(Box::new(MemorySnapshot { records, revision }) as Box<dyn Snapshot>)
        })
    }

    fn info(&self) -> StoreFuture<'_, StoreInfo> {
        Box::pin(async { Ok(StoreInfo { location: "memory".into(), bytes: None }) })
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            if self.closed.is_cancelled() {
                return Err(StoreError::Unavailable("the store is closed".into()));
            }
            self.closed.cancel();
            self.session.close();
            Ok(())
        })
    }

    fn wait_for_failure(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        // A map never fails.
        Box::pin(std::future::pending())
    }
}
