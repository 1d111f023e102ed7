//! [`RedbStore`]: the contract fulfilled by one local file.
//!
//! Short reads run where they are asked for: a handful of look-ups in pages that are cached, by this process or by
//! the kernel, takes microseconds (redb readers never wait for the writer). Long ones leave the async threads. Writes go through one thread
//! that joins what is waiting into one commit: two-phase and synchronous, so that what was answered survives a
//! loss of power, and opening again after it takes no repair.
//!
//! The file is readable by its owner alone: it holds CHAP secrets.

mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{DirBuilder, File, OpenOptions};
use std::future::Future;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, TableDefinition, TableError,
    WriteTransaction, backends::FileBackend,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::contract::{Answering, Batch, Change, Changes, Record, Revision, Store, StoreError, WriteError};
use super::feed::{KEPT_WRITES, wait_for, whole_writes};
use schema::Step;
use writer::{Job, Writer};

/// Key → (revision, value).
const RECORDS: TableDefinition<&str, (Revision, &[u8])> = TableDefinition::new("records");
/// Revision → the keys that write put or deleted.
const CHANGES: TableDefinition<Revision, Vec<&str>> = TableDefinition::new("changes");
/// What the file says of itself: the names below.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// How keys and values are to be read. A file of an older one is migrated, one of a later one is refused.
const SCHEMA: &str = "schema";
/// The revision of the last write.
const REVISION: &str = "revision";
/// 1 while nobody has the file open and the last to have it closed it in order.
const CLOSED_CLEANLY: &str = "closed cleanly";

/// Memory for cached pages. redb's own default is 1 GiB; ten thousand nodes need a few MiB.
const CACHE: usize = 16 << 20;
/// Records of a read that is short enough for an async thread: some tenths of a millisecond.
const SHORT_READ: usize = 128;
/// Writes that may wait. A writer that finds the queue full waits itself.
const QUEUE: usize = 256;

/// The file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system says no.
    #[error("cannot open {path}")]
    File {
        /// The file, or the directory that could not be made for it.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("{0} is in use by another process: is volboot running already?")]
    InUse(String),
    /// It was written by a version that is newer than this one.
    #[error("{path} has schema {found}, this volboot knows up to {known}: install the newer volboot again")]
    Newer {
        /// The file.
        path: String,
        /// Its schema.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// It was written by an older version, which could not be installed again without a copy of it.
    #[error("{path} is not migrated: it cannot be copied to {copy} first")]
    Copy {
        /// The file.
        path: String,
        /// The copy.
        copy: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was written by an older version, and cannot be brought to the schema of this one.
    #[error("{path} stays as it was: bringing it from schema {from} to {to} failed")]
    Migration {
        /// The file.
        path: String,
        /// The schema before what failed.
        from: u64,
        /// The schema after it.
        to: u64,
        /// Why.
        #[source]
        source: schema::Failure,
    },
    /// It cannot be read as what it should be.
    #[error("{path} is damaged or no volboot store")]
    Damaged {
        /// The file.
        path: String,
        /// What redb says.
        #[source]
        source: Box<redb::Error>,
    },
}

impl OpenError {
    /// Whether it stays so until somebody has done something: no later try ends otherwise, and each may copy the file.
    pub fn stays(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::Copy { .. } | Self::Migration { .. })
    }
}

/// Records in a redb file.
pub struct RedbStore {
    database: Arc<Database>,
    writer: mpsc::Sender<Job>,
    latest: watch::Receiver<Revision>,
    failed: watch::Receiver<Option<StoreError>>,
}

impl RedbStore {
    /// Opens the file, or makes it, with the directory it stands in.
    ///
    /// Blocks: a fraction of a millisecond after an orderly stop; after any other, until the whole file has been
    /// checked (0.24 s at 135 MB). A file of an older schema is migrated, for which it takes its size in room beside it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, schema::STEPS)
    }

    fn open_with(path: &Path, steps: &[Step]) -> Result<Self, OpenError> {
        Self::over(open_file(path)?, path, steps)
    }

    fn over(mut database: Database, path: &Path, steps: &[Step]) -> Result<Self, OpenError> {
        let (name, known) = (path.display().to_string(), schema::version(steps));
        let damaged = |error: redb::Error| OpenError::Damaged { path: name.clone(), source: Box::new(error) };
        let state = read_meta(&database).map_err(damaged)?;
        if let Some(found) = state.schema.filter(|found| !(1..=known).contains(found)) {
            return Err(OpenError::Newer { path: name, found, known });
        }
        if state.schema.is_some() && !state.clean {
            let intact = database.check_integrity().map_err(|error| damaged(error.into()))?;
            if !intact {
                tracing::warn!(path = name, "the store was repaired after an unclean stop");
            }
        }
        schema::migrate(&database, path, state.schema, steps)?;
        mark(&database, false).map_err(damaged)?;

        let database = Arc::new(database);
        let (writer, jobs) = mpsc::channel(QUEUE);
        let (told, latest) = watch::channel(state.revision);
        let (failure, failed) = watch::channel(None);
        Writer::spawn(Arc::clone(&database), state.revision, told, failure, jobs)
            .map_err(|source| OpenError::File { path: name, source })?;
        Ok(Self { database, writer, latest, failed })
    }

    async fn ask<T, E: From<StoreError>>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Job,
    ) -> Result<T, E> {
        let gone = || E::from(StoreError::Unavailable("it was closed".into()));
        let (answer, answered) = oneshot::channel();
        self.writer.send(job(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Runs a read here if it is a short one, else where blocking does not matter.
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
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let mut found = Vec::new();
    for entry in records.range::<&str>((from, Bound::Unbounded))?.take(limit) {
        let (key, value) = entry?;
        if !key.value().starts_with(prefix) {
            break;
        }
        found.push(record(key.value(), value.value()));
    }
    Ok(found)
}

fn get(database: &Database, keys: &[String]) -> Result<Vec<Option<Record>>, redb::Error> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        found.push(records.get(key.as_str())?.map(|value| record(key, value.value())));
    }
    Ok(found)
}

fn changes(database: &Database, after: Revision, limit: usize) -> Result<Changes, redb::Error> {
    let read = database.begin_read()?;
    let latest = read.open_table(META)?.get(REVISION)?.map_or(0, |value| value.value());
    if after < latest.saturating_sub(KEPT_WRITES) {
        return Ok(Changes::Forgotten(latest));
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
    Ok(Changes::Since(whole_writes(changes.into_iter(), limit)))
}

impl Store for RedbStore {
    fn get<'a>(&'a self, keys: &'a [String]) -> Answering<'a, Vec<Option<Record>>> {
        let keys = keys.to_vec();
        Box::pin(self.read(keys.len(), move |database| get(database, &keys)))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Answering<'a, Vec<Record>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        Box::pin(self.read(limit, move |database| list(database, &prefix, after.as_deref(), limit)))
    }

    fn write(&self, batch: Batch) -> Answering<'_, Revision, WriteError> {
        Box::pin(self.ask(|answer| Job::Write(batch, answer)))
    }

    fn changes(&self, after: Revision, limit: usize) -> Answering<'_, Changes> {
        Box::pin(self.read(limit, move |database| changes(database, after, limit)))
    }

    fn changed(&self, after: Revision) -> Answering<'_, Revision> {
        Box::pin(wait_for(self.latest.clone(), after))
    }

    fn close(&self) -> Answering<'_, ()> {
        Box::pin(self.ask(Job::Close))
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        let mut failed = self.failed.clone();
        Box::pin(async move {
            match failed.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
                Ok(Some(failure)) => failure,
                // The thread has ended: after an orderly close nobody asks any more.
                _ => StoreError::Unavailable("its writer has ended".into()),
            }
        })
    }
}

fn open_file(path: &Path) -> Result<Database, OpenError> {
    let name = path.display().to_string();
    let file = |path: String| move |source| OpenError::File { path, source };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(file(directory.display().to_string()))?;
    }
    let handle = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(file(name.clone()))?;
    sync_directory_of(path).map_err(file(name.clone()))?;
    let opened = FileBackend::new(handle)
        .and_then(|file| Builder::new().set_cache_size(CACHE).create_with_backend(file));
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(name),
        error => OpenError::Damaged { path: name, source: Box::new(error.into()) },
    })
}

/// A file that was just made is found after a loss of power only if its directory was written too.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

struct Meta {
    schema: Option<u64>,
    revision: Revision,
    clean: bool,
}

fn read_meta(database: &Database) -> Result<Meta, redb::Error> {
    let table = match database.begin_read()?.open_table(META) {
        Ok(table) => table,
        // A new file.
        Err(TableError::TableDoesNotExist(_)) => return Ok(Meta { schema: None, revision: 0, clean: true }),
        Err(error) => return Err(error.into()),
    };
    let value =
        |name| -> Result<Option<u64>, redb::Error> { Ok(table.get(name)?.map(|value| value.value())) };
    Ok(Meta {
        schema: value(SCHEMA)?,
        revision: value(REVISION)?.unwrap_or(0),
        clean: value(CLOSED_CLEANLY)? == Some(1),
    })
}

/// Writes down whether the file is closed in order, and makes what a new file lacks.
fn mark(database: &Database, clean: bool) -> Result<(), redb::Error> {
    let write = begin(database)?;
    {
        let mut meta = write.open_table(META)?;
        meta.insert(CLOSED_CLEANLY, u64::from(clean))?;
        write.open_table(RECORDS)?;
        write.open_table(CHANGES)?;
    }
    write.commit()?;
    Ok(())
}

fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    write.set_two_phase_commit(true);
    write.set_quick_repair(true);
    Ok(write)
}

fn record(key: &str, (revision, value): (Revision, &[u8])) -> Record {
    Record { key: key.to_owned(), revision, value: value.to_vec() }
}

fn unavailable(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        error @ redb::Error::Corrupted(_) => StoreError::Damaged(error.to_string()),
        error => StoreError::Unavailable(error.to_string()),
    }
}
