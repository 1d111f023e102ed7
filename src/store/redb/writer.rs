//! The one thread that writes: joins what is waiting into one commit, and answers when it is on disk.

use std::io;
use std::sync::Arc;

use redb::{Database, ReadableTable, Table};
use tokio::sync::{mpsc, oneshot, watch};

use super::{CHANGES, META, RECORDS, REVISION, begin, mark, unavailable};
use crate::store::feed::KEPT_WRITES;
use crate::store::{Batch, Condition, Revision, StoreError, WriteError};

/// Writes that are joined into one commit at most, so that the first of them does not wait long.
const JOINED: usize = 64;

/// A write that waits, or the end.
pub(super) enum Job {
    Write(Batch, oneshot::Sender<Result<Revision, WriteError>>),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// The thread's state.
pub(super) struct Writer {
    database: Arc<Database>,
    revision: Revision,
    told: watch::Sender<Revision>,
    /// What a commit failed with. redb refuses everything from then on, until the file is opened anew.
    failure: watch::Sender<Option<StoreError>>,
}

impl Writer {
    pub(super) fn spawn(
        database: Arc<Database>,
        revision: Revision,
        told: watch::Sender<Revision>,
        failure: watch::Sender<Option<StoreError>>,
        jobs: mpsc::Receiver<Job>,
    ) -> io::Result<()> {
        let writer = Self { database, revision, told, failure };
        std::thread::Builder::new().name("store-writer".into()).spawn(move || writer.run(jobs))?;
        Ok(())
    }

    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut waiting = Vec::new();
            let mut closing = None;
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Write(batch, answer) => waiting.push((batch, answer)),
                    Job::Close(answer) => closing = Some(answer),
                }
                if closing.is_some() || waiting.len() == JOINED {
                    break;
                }
                next = jobs.try_recv().ok();
            }
            self.commit(waiting);
            if let Some(answer) = closing {
                // Nobody waits for the answer only if the whole process is going down.
                let _ = answer.send(mark(&self.database, true).map_err(unavailable));
                return;
            }
        }
    }

    /// Applies each batch or refuses it, commits what was applied, and only then answers.
    fn commit(&mut self, waiting: Vec<(Batch, oneshot::Sender<Result<Revision, WriteError>>)>) {
        if waiting.is_empty() {
            return;
        }
        let (batches, answers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        let outcome = self.try_commit(batches).map_err(unavailable);
        match &outcome {
            Ok((revision, _)) => {
                self.revision = *revision;
                self.told.send_replace(*revision);
            }
            Err(error) => {
                self.failure.send_replace(Some(error.clone()));
            }
        }
        let results = outcome.map(|(_, results)| results);
        for (at, answer) in answers.into_iter().enumerate() {
            let result = match &results {
                Ok(results) => results[at].clone().map_err(WriteError::Conflict),
                Err(error) => Err(WriteError::Store(error.clone())),
            };
            let _ = answer.send(result);
        }
    }

    #[allow(clippy::type_complexity, reason = "one answer per batch, and the revision after all of them")]
    fn try_commit(
        &self,
        batches: Vec<Batch>,
    ) -> Result<(Revision, Vec<Result<Revision, Condition>>), redb::Error> {
        let write = begin(&self.database)?;
        let mut revision = self.revision;
        let mut results = Vec::with_capacity(batches.len());
        {
            let mut records = write.open_table(RECORDS)?;
            let mut changes = write.open_table(CHANGES)?;
            for batch in batches {
                results.push(if let Some(condition) = failed_condition(&records, &batch)? {
                    Err(condition)
                } else {
                    revision += 1;
                    apply(&mut records, &mut changes, &batch, revision)?;
                    Ok(revision)
                });
            }
            changes.retain_in(..=revision.saturating_sub(KEPT_WRITES), |_, _| false)?;
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

fn failed_condition(
    records: &Table<'_, &str, (Revision, &[u8])>,
    batch: &Batch,
) -> Result<Option<Condition>, redb::Error> {
    for condition in &batch.conditions {
        let revision = records.get(condition.key())?.map(|value| value.value().0);
        let holds = match condition {
            Condition::Unchanged(_, expected) => revision == Some(*expected),
            Condition::Absent(_) => revision.is_none(),
        };
        if !holds {
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
