//! [`RedbStore`]: the store in one local redb file.
//!
//! Short reads run on the calling thread: a handful of look-ups in cached pages takes microseconds, and redb's
//! readers never wait for the writer. Long reads move to a blocking thread. All writes go through one writer thread
//! with group commit. A commit is two-phase and synchronous: an acknowledged write survives a power failure, and the
//! next open needs no repair.
//!
//! Only the file's owner can read it: it holds CHAP secrets.

mod file;
mod migration;
#[cfg(test)]
mod tests;
mod writer;

use std::fs;
use std::future::Future;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use redb::{Database, ReadableDatabase};
use tokio::sync::{mpsc, oneshot, watch};

use super::contract::{
    Batch, Change, ChangeSet, OpenError, Record, Revision, Store, StoreError, StoreFuture, StoreInfo,
    WriteError,
};
use super::local::{RETAINED_WRITES, list_start, take_whole_writes, wait_for_revision};
use super::schema::{self, Step};
use file::{CHANGES, META, RECORDS, REVISION, open_file, read_meta, unavailable, write_clean_flag};
use writer::{StoreJob, Writer};

/// The most records of a read on an async thread: some tenths of a millisecond.
const SHORT_READ: usize = 128;
/// The length of the write queue. With a full queue, callers wait.
const QUEUE: usize = 256;

/// A store in a redb file.
pub struct RedbStore {
    path: PathBuf,
    database: Arc<Database>,
    writer: mpsc::Sender<StoreJob>,
    latest: watch::Receiver<Revision>,
    failure: watch::Receiver<Option<StoreError>>,
}

impl RedbStore {
    /// Opens the file; creates file and directory if missing.
    ///
    /// Blocks: a fraction of a millisecond after a clean close. After an unclean one, the whole file is checked first
    /// (0.24 s at 135 MB). A file of an older schema is migrated, which needs the file's size in free disk space.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, schema::STEPS)
    }

    fn open_with(path: &Path, steps: &[Step]) -> Result<Self, OpenError> {
        Self::from_database(open_file(path)?, path, steps)
    }

    fn from_database(mut database: Database, path: &Path, steps: &[Step]) -> Result<Self, OpenError> {
        let location = path.display().to_string();
        let damaged =
            |error: redb::Error| OpenError::Damaged { location: location.clone(), source: error.into() };
        let meta = read_meta(&database).map_err(damaged)?;
        if let Some(schema) = meta.schema {
            schema::check(steps, schema, &location)?;
        }
        if meta.schema.is_some() && !meta.clean {
            let intact = database.check_integrity().map_err(|error| damaged(error.into()))?;
            if !intact {
                tracing::warn!(path = location, "store repaired after an unclean stop");
            }
        }
        migration::migrate(&database, path, &meta, steps)?;
        write_clean_flag(&database, false).map_err(damaged)?;

        let database = Arc::new(database);
        let (writer, jobs) = mpsc::channel(QUEUE);
        let (latest_sender, latest) = watch::channel(meta.revision);
        let (failure_sender, failure) = watch::channel(None);
        Writer::spawn(Arc::clone(&database), meta.revision, latest_sender, failure_sender, jobs)
            .map_err(|source| OpenError::Unavailable { location, source: source.into() })?;
        Ok(Self { path: path.to_owned(), database, writer, latest, failure })
    }

    /// Sends a job to the writer thread and waits for the result.
    async fn submit<T, E: From<StoreError>>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, E>>) -> StoreJob,
    ) -> Result<T, E> {
        let closed = || E::from(StoreError::Unavailable("the store is closed".into()));
        let (sender, result) = oneshot::channel();
        self.writer.send(job(sender)).await.map_err(|_| closed())?;
        result.await.map_err(|_| closed())?
    }

    /// Runs a short read on this thread, a long one on a blocking thread.
    async fn read<T: Send + 'static>(
        &self,
        records: usize,
        read: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        if records <= SHORT_READ {
            return read(&self.database).map_err(unavailable);
        }
        let database = Arc::clone(&self.database);
        match tokio::task::spawn_blocking(move || read(&database)).await {
            Ok(result) => result.map_err(unavailable),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }
}

fn list(
    database: &Database,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Record>, redb::Error> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    let mut page = Vec::new();
    for entry in records.range::<&str>((list_start(prefix, after), Bound::Unbounded))?.take(limit) {
        let (key, value) = entry?;
        if !key.value().starts_with(prefix) {
            break;
        }
        page.push(record(key.value(), value.value()));
    }
    Ok(page)
}

fn get(database: &Database, keys: &[String]) -> Result<Vec<Option<Record>>, redb::Error> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    let mut result = Vec::with_capacity(keys.len());
    for key in keys {
        result.push(records.get(key.as_str())?.map(|value| record(key, value.value())));
    }
    Ok(result)
}

fn changes(database: &Database, after: Revision, limit: usize) -> Result<ChangeSet, redb::Error> {
    let read = database.begin_read()?;
    let latest = read.open_table(META)?.get(REVISION)?.map_or(0, |value| value.value());
    if after < latest.saturating_sub(RETAINED_WRITES) {
        return Ok(ChangeSet::Compacted(latest));
    }
    let table = read.open_table(CHANGES)?;
    let mut changes = Vec::new();
    for entry in table.range(after + 1..)? {
        let (revision, keys) = entry?;
        let revision = revision.value();
        changes.extend(keys.value().into_iter().map(|key| Change { revision, key: key.to_owned() }));
        if changes.len() >= limit {
            break;
        }
    }
    Ok(ChangeSet::Since(take_whole_writes(changes.into_iter(), limit)))
}

impl Store for RedbStore {
    fn get<'a>(&'a self, keys: &'a [String]) -> StoreFuture<'a, Vec<Option<Record>>> {
        let keys = keys.to_vec();
        Box::pin(self.read(keys.len(), move |database| get(database, &keys)))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Record>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        Box::pin(self.read(limit, move |database| list(database, &prefix, after.as_deref(), limit)))
    }

    fn write(&self, batch: Batch) -> StoreFuture<'_, Revision, WriteError> {
        Box::pin(self.submit(|result| StoreJob::Write(batch, result)))
    }

    fn changes(&self, after: Revision, limit: usize) -> StoreFuture<'_, ChangeSet> {
        Box::pin(self.read(limit, move |database| changes(database, after, limit)))
    }

    fn wait_for_change(&self, after: Revision) -> StoreFuture<'_, Revision> {
        Box::pin(wait_for_revision(self.latest.clone(), after))
    }

    fn info(&self) -> StoreFuture<'_, StoreInfo> {
        let path = self.path.clone();
        Box::pin(async move {
            let location = path.display().to_string();
            let size = tokio::task::spawn_blocking(move || fs::metadata(path).map(|file| file.len()));
            // The file may have been moved away.
            Ok(StoreInfo { location, bytes: size.await.ok().and_then(Result::ok) })
        })
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.submit(StoreJob::Close))
    }

    fn wait_for_failure(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        let mut failure = self.failure.clone();
        Box::pin(async move {
            match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
                Ok(Some(error)) => error,
                // After a clean close, there is no caller any more.
                _ => StoreError::Unavailable("the writer thread has exited".into()),
            }
        })
    }
}

fn record(key: &str, (revision, value): (Revision, &[u8])) -> Record {
    Record { key: key.to_owned(), revision, value: value.to_vec() }
}
