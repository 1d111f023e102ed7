//! The writer thread: group commit of queued batches, acknowledged once they are on disk.
//!
//! A failed commit makes the store read-only; [`Recovery`] reopens the database. The callers are answered after that,
//! for only the reopened file shows whether the commit took effect.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redb::{ReadableTable, Table};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::file::{
    CHANGES, META, RECORDS, REVISION, begin_write, needs_reopening, run, unavailable, write_clean_flag,
};
use super::job::StoreJob;
use super::recovery::Recovery;
use crate::store::contract::StoreAccess;
use crate::store::local::RETAINED_WRITES;
use crate::store::local_session::LocalClaims;
use crate::store::{Batch, Condition, Revision, StoreError, WriteError};

/// The most batches per commit, so that the first does not wait long.
const MAX_GROUP: usize = 64;

/// The batches of one commit, and their callers.
type WriteGroup = Vec<(Batch, oneshot::Sender<Result<Revision, WriteError>>)>;

/// The thread's state.
pub(super) struct Writer {
    revision: Revision,
    latest: watch::Sender<Revision>,
    recovery: Recovery,
    /// An error that reopening does not mend: damage.
    failure: watch::Sender<Option<StoreError>>,
    claims: Arc<LocalClaims>,
    /// Its own runtime, for a wait with a time-out outside of tokio.
    clock: Runtime,
}

impl Writer {
    pub(super) fn spawn(
        revision: Revision,
        latest: watch::Sender<Revision>,
        recovery: Recovery,
        failure: watch::Sender<Option<StoreError>>,
        claims: Arc<LocalClaims>,
        jobs: mpsc::Receiver<StoreJob>,
    ) -> io::Result<()> {
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let writer = Self { revision, latest, recovery, failure, claims, clock };
        std::thread::Builder::new().name("store-writer".into()).spawn(move || writer.run(jobs))?;
        Ok(())
    }

    fn run(mut self, mut jobs: mpsc::Receiver<StoreJob>) {
        loop {
            let first = match self.recovery.next_attempt_in() {
                None => jobs.blocking_recv(),
                Some(delay) => {
                    let received = self.clock.block_on(async { timeout(delay, jobs.recv()).await });
                    let Ok(job) = received else {
                        self.restore_if_due();
                        continue;
                    };
                    job
                }
            };
            let Some(first) = first else { return };
            let mut group = Vec::new();
            let mut close = None;
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    StoreJob::Write(batch, result) => group.push((batch, result)),
                    StoreJob::Reopen(number) => self.reopen_after_read(number),
                    StoreJob::Close(result) => close = Some(result),
                }
                if close.is_some() || group.len() == MAX_GROUP {
                    break;
                }
                next = jobs.try_recv().ok();
            }
            self.commit(group);
            if let Some(result) = close {
                self.close();
                // A dropped receiver means that the process is exiting.
                let _ = result.send(Ok(()));
                return;
            }
            // One attempt between two groups: neither starves, however many jobs arrive.
            self.restore_if_due();
        }
    }

    /// Tries to open a read-only store for writing, at the intervals of [`Recovery`].
    fn restore_if_due(&mut self) {
        if self.recovery.next_attempt_in() == Some(Duration::ZERO) {
            let outcome = self.recovery.try_restore();
            self.adopt(outcome);
        }
    }

    /// Marks the file as closed cleanly. Without the mark, the next start checks the file first.
    fn close(&self) {
        match self.recovery.access() {
            StoreAccess::ReadOnly(reason) => tracing::warn!(reason, "store closed read-only"),
            StoreAccess::ReadWrite => {
                if let Err(error) = run(|| write_clean_flag(&self.recovery.database(), true)) {
                    tracing::warn!(%error, "cannot mark the store as closed cleanly");
                }
            }
        }
    }

    /// Reopens the database on which a read failed, unless that has happened already.
    fn reopen_after_read(&mut self, number: u64) {
        if number == self.recovery.number() {
            let outcome = self.recovery.fall_back("a read failed");
            self.adopt(outcome);
        }
    }

    /// Continues from the revision of a reopened file.
    fn adopt(&mut self, reopened: Result<Revision, StoreError>) {
        match reopened {
            Ok(revision) => {
                self.revision = revision;
                if *self.latest.borrow() != revision {
                    self.latest.send_replace(revision);
                }
            }
            Err(error @ StoreError::Damaged(_)) => drop(self.failure.send_replace(Some(error))),
            // Reopening is retried.
            Err(StoreError::Unavailable(_) | StoreError::ReadOnly(_)) => {}
        }
    }

    /// Applies or rejects each batch, commits once, and only then sends the results.
    fn commit(&mut self, group: WriteGroup) {
        if group.is_empty() {
            return;
        }
        let (batches, senders): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let released: Vec<_> = batches.iter().map(|batch: &Batch| batch.release.clone()).collect();
        let results = match self.recovery.access() {
            StoreAccess::ReadOnly(reason) => Err(StoreError::ReadOnly(reason)),
            StoreAccess::ReadWrite => match run(|| self.try_commit(batches)) {
                Ok((revision, results)) => {
                    self.revision = revision;
                    self.latest.send_replace(revision);
                    Ok(results)
                }
                Err(error) => Err(self.fail(error)),
            },
        };
        for (at, sender) in senders.into_iter().enumerate() {
            let result = match &results {
                Ok(results) => results[at].clone().map_err(WriteError::Conflict),
                Err(error) => Err(WriteError::Store(error.clone())),
            };
            if result.is_ok() {
                released[at].iter().for_each(|claim| self.claims.remove(claim));
            }
            let _ = sender.send(result);
        }
    }

    /// Reopens the store after a failed commit. Returns the error for the callers.
    fn fail(&mut self, error: redb::Error) -> StoreError {
        // A panic of redb after a failure of the disk is no damage.
        let is_disk_failure = needs_reopening(&error) || self.recovery.has_disk_failure();
        let error = unavailable(error);
        if !is_disk_failure {
            self.failure.send_replace(Some(error.clone()));
            return error;
        }
        let before = self.revision;
        let outcome = self.recovery.fall_back(&error.to_string());
        let is_unchanged = matches!(outcome, Ok(revision) if revision == before);
        self.adopt(outcome);
        match self.recovery.access() {
            StoreAccess::ReadOnly(reason) if is_unchanged => StoreError::ReadOnly(reason),
            StoreAccess::ReadOnly(reason) => StoreError::ReadOnly(format!(
                "{reason}; the disk did not confirm the change, which may be in effect"
            )),
            StoreAccess::ReadWrite => error,
        }
    }

    #[allow(clippy::type_complexity, reason = "one result per batch, and the revision after all of them")]
    fn try_commit(
        &self,
        batches: Vec<Batch>,
    ) -> Result<(Revision, Vec<Result<Revision, Condition>>), redb::Error> {
        let write = begin_write(&self.recovery.database())?;
        let mut revision = self.revision;
        let mut results = Vec::with_capacity(batches.len());
        {
            let mut records = write.open_table(RECORDS)?;
            let mut changes = write.open_table(CHANGES)?;
            for batch in batches {
                results.push(
                    if let Some(condition) = find_failed_condition(&records, &batch, &self.claims)? {
                        Err(condition)
                    } else {
                        revision += 1;
                        apply(&mut records, &mut changes, &batch, revision)?;
                        Ok(revision)
                    },
                );
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
    claims: &LocalClaims,
) -> Result<Option<Condition>, redb::Error> {
    let released = batch.release.iter().cloned().map(Condition::Held);
    for condition in batch.conditions.iter().cloned().chain(released) {
        let revision = |key: &String| records.get(key.as_str()).map(|found| found.map(|v| v.value().0));
        let holds = match &condition {
            Condition::Unchanged(key, expected) => revision(key)? == Some(*expected),
            Condition::Absent(key) => revision(key)?.is_none(),
            Condition::Untouched(prefix, since) => is_untouched(records, prefix, *since)?,
            Condition::Held(claim) => claims.is_held(claim),
        };
        if !holds {
            return Ok(Some(condition));
        }
    }
    Ok(None)
}

/// Whether no record under the prefix is newer than `since`.
fn is_untouched(
    records: &Table<'_, &str, (Revision, &[u8])>,
    prefix: &str,
    since: Revision,
) -> Result<bool, redb::Error> {
    for entry in records.range(prefix..)? {
        let (key, value) = entry?;
        if !key.value().starts_with(prefix) {
            break;
        }
        if value.value().0 > since {
            return Ok(false);
        }
    }
    Ok(true)
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
