//! [`MemoryStore`]: the contract fulfilled by a map, for tests and for trying things out.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Mutex;

use tokio::sync::watch;

use super::contract::{
    Answering, Batch, Change, Changes, Condition, Record, Revision, Store, StoreError, WriteError,
};
use super::feed::{KEPT_WRITES, wait_for, whole_writes};

/// Records in memory. They are gone with it.
#[derive(Debug)]
pub struct MemoryStore {
    // A std mutex: it is held for the length of a map operation and never across an await.
    state: Mutex<State>,
    latest: watch::Receiver<Revision>,
}

#[derive(Debug)]
struct State {
    records: BTreeMap<String, (Revision, Vec<u8>)>,
    changes: VecDeque<Change>,
    revision: Revision,
    /// Gone when the store was closed, and with it who waits for a change.
    told: Option<watch::Sender<Revision>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let (told, latest) = watch::channel(0);
        let state =
            State { records: BTreeMap::new(), changes: VecDeque::new(), revision: 0, told: Some(told) };
        Self { state: Mutex::new(state), latest }
    }
}

impl MemoryStore {
    fn state(&self) -> Result<std::sync::MutexGuard<'_, State>, StoreError> {
        self.state.lock().map_err(|_| StoreError::Unavailable("a writer panicked".into()))
    }
}

impl State {
    fn record(&self, key: &str) -> Option<Record> {
        let (revision, value) = self.records.get(key)?;
        Some(Record { key: key.to_owned(), revision: *revision, value: value.clone() })
    }

    fn holds(&self, condition: &Condition) -> bool {
        let revision = self.records.get(condition.key()).map(|(revision, _)| *revision);
        match condition {
            Condition::Unchanged(_, expected) => revision == Some(*expected),
            Condition::Absent(_) => revision.is_none(),
        }
    }

    fn apply(&mut self, batch: Batch) -> Result<Revision, WriteError> {
        let Some(told) = &self.told else {
            return Err(StoreError::Unavailable("it was closed".into()).into());
        };
        if let Some(failed) = batch.conditions.iter().find(|condition| !self.holds(condition)) {
            return Err(WriteError::Conflict(failed.clone()));
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
        let oldest = revision.saturating_sub(KEPT_WRITES);
        while self.changes.front().is_some_and(|change| change.revision <= oldest) {
            self.changes.pop_front();
        }
        told.send_replace(revision);
        Ok(revision)
    }
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, keys: &'a [String]) -> Answering<'a, Vec<Option<Record>>> {
        Box::pin(async move {
            let state = self.state()?;
            Ok(keys.iter().map(|key| state.record(key)).collect())
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Answering<'a, Vec<Record>> {
        Box::pin(async move {
            let state = self.state()?;
            let from = match after {
                Some(after) if after >= prefix => Bound::Excluded(after),
                _ => Bound::Included(prefix),
            };
            Ok(state
                .records
                .range::<str, _>((from, Bound::Unbounded))
                .take_while(|(key, _)| key.starts_with(prefix))
                .take(limit)
                .filter_map(|(key, _)| state.record(key))
                .collect())
        })
    }

    fn write(&self, batch: Batch) -> Answering<'_, Revision, WriteError> {
        Box::pin(async move { self.state()?.apply(batch) })
    }

    fn changes(&self, after: Revision, limit: usize) -> Answering<'_, Changes> {
        Box::pin(async move {
            let state = self.state()?;
            if after < state.revision.saturating_sub(KEPT_WRITES) {
                return Ok(Changes::Forgotten(state.revision));
            }
            Ok(Changes::Since(whole_writes(
                state.changes.iter().filter(|change| change.revision > after).cloned(),
                limit,
            )))
        })
    }

    fn changed(&self, after: Revision) -> Answering<'_, Revision> {
        Box::pin(wait_for(self.latest.clone(), after))
    }

    fn close(&self) -> Answering<'_, ()> {
        Box::pin(async move {
            let told = self.state()?.told.take();
            told.map(drop).ok_or_else(|| StoreError::Unavailable("it was closed".into()))
        })
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        // Nothing about a map can fail.
        Box::pin(std::future::pending())
    }
}
