//! The writer thread: group commit of queued batches, acknowledged once they are on disk.

use std::io;
use std::sync::Arc;

use redb::{Database, ReadableTable, Table};
use tokio::sync::{mpsc, oneshot, watch};

use super::file::{CHANGES, META, RECORDS, REVISION, begin_write, unavailable, write_clean_flag};
use crate::store::local::RETAINED_WRITES;
use crate::store::{Batch, Condition, Revision, StoreError, WriteError};

/// The most batches per commit, so that the first does not wait long.
const MAX_GROUP: usize = 64;

/// A job in the writer thread's queue.
pub(super) enum StoreJob {
    Write(Batch, oneshot::Sender<Result<Revision, WriteError>>),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// The thread's state.
pub(super) struct Writer {
    database: Arc<Database>,
    revision: Revision,
    latest: watch::Sender<Revision>,
    /// The error of a failed commit. After that, redb refuses all operations until the file is reopened.
    failure: watch::Sender<Option<StoreError>>,
}

impl Writer {
    pub(super) fn spawn(
        database: Arc<Database>,
        revision: Revision,
        latest: watch::Sender<Revision>,
        failure: watch::Sender<Option<StoreError>>,
        jobs: mpsc::Receiver<StoreJob>,
    ) -> io::Result<()> {
        let writer = Self { database, revision, latest, failure };
        std::thread::Builder::new().name("store-writer".into()).spawn(move || writer.run(jobs))?;
        Ok(())
    }

    fn run(mut self, mut jobs: mpsc::Receiver<StoreJob>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut group = Vec::new();
            let mut close = None;
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    StoreJob::Write(batch, result) => group.push((batch, result)),
                    StoreJob::Close(result) => close = Some(result),
                }
                if close.is_some() || group.len() == MAX_GROUP {
                    break;
                }
                next = jobs.try_recv().ok();
            }
            self.commit(group);
            if let Some(result) = close {
                // A dropped receiver means that the process is exiting.
                let _ = result.send(write_clean_flag(&self.database, true).map_err(unavailable));
                return;
            }
        }
    }

    /// Applies or rejects each batch, commits once, and only then sends the results.
    fn commit(&mut self, group: Vec<(Batch, oneshot::Sender<Result<Revision, WriteError>>)>) {
        if group.is_empty() {
            return;
        }
        let (batches, senders): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let outcome = self.try_commit(batches).map_err(unavailable);
        match &outcome {
            Ok((revision, _)) => {
                self.revision = *revision;
                self.latest.send_replace(*revision);
            }
            Err(error) => {
                self.failure.send_replace(Some(error.clone()));
            }
        }
        let results = outcome.map(|(_, results)| results);
        for (at, sender) in senders.into_iter().enumerate() {
            let result = match &results {
                Ok(results) => results[at].clone().map_err(WriteError::Conflict),
                Err(error) => Err(WriteError::Store(error.clone())),
            };
            let _ = sender.send(result);
        }
    }

    #[allow(clippy::type_complexity, reason = "one result per batch, and the revision after all of them")]
    fn try_commit(
        &self,
        batches: Vec<Batch>,
    ) -> Result<(Revision, Vec<Result<Revision, Condition>>), redb::Error> {
        let write = begin_write(&self.database)?;
        let mut revision = self.revision;
        let mut results = Vec::with_capacity(batches.len());
        {
            let mut records = write.open_table(RECORDS)?;
            let mut changes = write.open_table(CHANGES)?;
            for batch in batches {
                results.push(if let Some(condition) = find_failed_condition(&records, &batch)? {
                    Err(condition)
                } else {
                    revision += 1;
                    apply(&mut records, &mut changes, &batch, revision)?;
                    Ok(revision)
                });
            }
            changes.retain_in(..=revision.saturating_sub(RETAINED_WRITES), |_, _| false)?;
            write.open_table(META)?.insert(REVISION, revision)?;
        }
        if revision == self.revision {
            write.abort()?;
        } else {
            write.commit()?;
        }
        Ok((revision, results))
    }
}

fn find_failed_condition(
    records: &Table<'_, &str, (Revision, &[u8])>,
    batch: &Batch,
) -> Result<Option<Condition>, redb::Error> {
    for condition in &batch.conditions {
        let revision = records.get(condition.key())?.map(|value| value.value().0);
        if !condition.holds(revision) {
            return Ok(Some(condition.clone()));
        }
    }
    Ok(None)
}

fn apply(
    records: &mut Table<'_, &str, (Revision, &[u8])>,
    changes: &mut Table<'_, Revision, Vec<&str>>,
    batch: &Batch,
    revision: Revision,
) -> Result<(), redb::Error> {
    let mut keys = Vec::new();
    for key in &batch.delete {
        if records.remove(key.as_str())?.is_some() {
            keys.push(key.as_str());
        }
    }
    for (key, value) in &batch.put {
        records.insert(key.as_str(), (revision, value.as_slice()))?;
        keys.push(key.as_str());
    }
    changes.insert(revision, keys)?;
    Ok(())
}
