//! [`MemoryStore`]: the contract fulfilled by a map, for tests and for trying things out.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Mutex;

use tokio::sync::watch;

use super::contract::{
    Answering, Batch, Change, Changes, Condition, Record, Revision, Store, StoreError, WriteError,
};

/// Writes whose changes are kept for the feed.
pub(super) const KEPT_WRITES: Revision = 10_000;

/// Records in memory. They are gone with it.
#[derive(Debug)]
pub struct MemoryStore {
    // A std mutex: it is held for the length of a map operation and never across an await.
    state: Mutex<State>,
    latest: watch::Sender<Revision>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<String, (Revision, Vec<u8>)>,
    changes: VecDeque<Change>,
    revision: Revision,
    closed: bool,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self { state: Mutex::default(), latest: watch::Sender::new(0) }
    }
}

impl MemoryStore {
    fn state(&self) -> Result<std::sync::MutexGuard<'_, State>, StoreError> {
        let state = self.state.lock().map_err(|_| StoreError::Unavailable("a writer panicked".into()))?;
        if state.closed { Err(StoreError::Unavailable("it was closed".into())) } else { Ok(state) }
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
        Box::pin(async move {
            let revision = self.state()?.apply(batch)?;
            self.latest.send_replace(revision);
            Ok(revision)
        })
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
        Box::pin(wait_for(self.latest.subscribe(), after))
    }

    fn close(&self) -> Answering<'_, ()> {
        Box::pin(async move {
            self.state()?.closed = true;
            Ok(())
        })
    }
}

/// The first `limit` changes, and what else belongs to the last of their writes.
pub(super) fn whole_writes(changes: impl Iterator<Item = Change>, limit: usize) -> Vec<Change> {
    let mut taken: Vec<Change> = Vec::new();
    for change in changes {
        if taken.len() >= limit && taken.last().is_some_and(|last| last.revision != change.revision) {
            break;
        }
        taken.push(change);
    }
    taken
}

/// Waits until the latest revision is greater than `after`.
pub(super) async fn wait_for(
    mut latest: watch::Receiver<Revision>,
    after: Revision,
) -> Result<Revision, StoreError> {
    match latest.wait_for(|revision| *revision > after).await {
        Ok(revision) => Ok(*revision),
        Err(_) => Err(StoreError::Unavailable("it was closed".into())),
    }
}
