//! [`MemoryStore`]: a store in memory, for tests and trials.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::contract::{
    Batch, Change, ChangeSet, Condition, Record, Revision, Snapshot, Store, StoreAccess, StoreError,
    StoreFuture, StoreInfo, WriteError,
};
use super::local::{RETAINED_WRITES, list_start, take_whole_writes, wait_for_revision};

/// Records in memory, lost when the store is dropped.
#[derive(Debug)]
pub struct MemoryStore {
    // Held for one map operation, never across an await.
    state: Mutex<State>,
    latest: watch::Receiver<Revision>,
}

#[derive(Debug)]
struct State {
    records: BTreeMap<String, (Revision, Vec<u8>)>,
    changes: VecDeque<Change>,
    revision: Revision,
    /// `None` once the store is closed, so that `wait_for_change` fails.
    latest: Option<watch::Sender<Revision>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let (sender, latest) = watch::channel(0);
        let state =
            State { records: BTreeMap::new(), changes: VecDeque::new(), revision: 0, latest: Some(sender) };
        Self { state: Mutex::new(state), latest }
    }
}

impl State {
    fn record(&self, key: &str) -> Option<Record> {
        let (revision, value) = self.records.get(key)?;
        Some(Record { key: key.to_owned(), revision: *revision, value: value.clone() })
    }

    fn holds(&self, condition: &Condition) -> bool {
        condition.holds(self.records.get(condition.key()).map(|(revision, _)| *revision))
    }

    fn apply(&mut self, batch: Batch) -> Result<Revision, WriteError> {
        let Some(latest) = &self.latest else {
            return Err(StoreError::Unavailable("the store is closed".into()).into());
        };
        if let Some(condition) = batch.conditions.iter().find(|condition| !self.holds(condition)) {
            return Err(WriteError::Conflict(condition.clone()));
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
        latest.send_replace(revision);
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
            let state = self.state.lock();
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
            let state = self.state.lock();
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
        Box::pin(async move { self.state.lock().apply(batch) })
    }

    fn changes(&self, after: Revision, limit: usize) -> StoreFuture<'_, ChangeSet> {
        Box::pin(async move {
            let state = self.state.lock();
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
        Box::pin(wait_for_revision(self.latest.clone(), after))
    }

    fn access(&self) -> StoreAccess {
        StoreAccess::ReadWrite
    }

    fn snapshot(&self) -> StoreFuture<'_, Box<dyn Snapshot>> {
        Box::pin(async move {
            let state = self.state.lock();
            let (records, revision) = (state.records.clone(), state.revision);
            Ok(Box::new(MemorySnapshot { records, revision }) as Box<dyn Snapshot>)
        })
    }

    fn info(&self) -> StoreFuture<'_, StoreInfo> {
        Box::pin(async { Ok(StoreInfo { location: "memory".into(), bytes: None }) })
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let latest = self.state.lock().latest.take();
            latest.map(drop).ok_or_else(|| StoreError::Unavailable("the store is closed".into()))
        })
    }

    fn wait_for_failure(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        // A map never fails.
        Box::pin(std::future::pending())
    }
}
