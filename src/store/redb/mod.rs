//! [`RedbStore`]: the store in one local redb file.
//!
//! Short reads run on the calling thread: a handful of look-ups in cached pages takes microseconds, and redb's
//! readers never wait for the writer. Long reads move to a blocking thread. All writes go through one writer thread
//! with group commit. A commit is two-phase and synchronous: an acknowledged write survives a power failure, and the
//! next open needs no repair.
//!
//! Only the file's owner can read it: it holds CHAP secrets.

mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::future::Future;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, TableDefinition, TableError,
    WriteTransaction, backends::FileBackend,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::contract::{
    Batch, Change, ChangeSet, Record, Revision, Store, StoreError, StoreFuture, StoreInfo, WriteError,
};
use super::feed::{RETAINED_WRITES, take_whole_writes, wait_for_revision};
use schema::Step;
use writer::{StoreJob, Writer};

/// Key → (revision, value).
const RECORDS: TableDefinition<&str, (Revision, &[u8])> = TableDefinition::new("records");
/// Revision → the keys that the write put or deleted.
const CHANGES: TableDefinition<Revision, Vec<&str>> = TableDefinition::new("changes");
/// Metadata of the file, under the keys below.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The schema of keys and values. A file with an older schema is migrated, with a newer schema refused.
const SCHEMA: &str = "schema";
/// The revision of the last write.
const REVISION: &str = "revision";
/// 1 after a clean close, 0 while the file is open.
const CLOSED_CLEANLY: &str = "closed cleanly";

/// Memory for the page cache. redb's own default is 1 GiB; ten thousand nodes need a few MiB.
const CACHE: usize = 16 << 20;
/// The most records of a read on an async thread: some tenths of a millisecond.
const SHORT_READ: usize = 128;
/// The length of the write queue. With a full queue, callers wait.
const QUEUE: usize = 256;

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused an operation.
    #[error("cannot open {path}")]
    File {
        /// The file, or its directory that cannot be created.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another process has opened the file.
    #[error("{0} is in use by another process: is volboot running already?")]
    InUse(String),
    /// A newer version of volboot wrote the file.
    #[error(
        "{path} has schema {schema}, this volboot supports up to {supported}: install the newer volboot again"
    )]
    Newer {
        /// The file.
        path: String,
        /// The file's schema.
        schema: u64,
        /// The newest schema of this version.
        supported: u64,
    },
    /// An older version wrote the file, and the back-up for a downgrade failed.
    #[error("cannot migrate {path}: the back-up to {copy} failed; the file is unchanged")]
    Copy {
        /// The file.
        path: String,
        /// The back-up.
        copy: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// An older version wrote the file, and a migration step failed.
    #[error("cannot migrate {path} from schema {from} to {to}; the file is unchanged")]
    Migration {
        /// The file.
        path: String,
        /// The schema before the failed step.
        from: u64,
        /// The schema after the failed step.
        to: u64,
        /// The cause.
        #[source]
        source: schema::StepError,
    },
    /// redb cannot read the file.
    #[error("{path} is damaged or not a volboot store")]
    Damaged {
        /// The file.
        path: String,
        /// redb's error.
        #[source]
        source: Box<redb::Error>,
    },
}

impl OpenError {
    /// Whether a retry without an operator's action is pointless. Each retry may also copy the whole file.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::Copy { .. } | Self::Migration { .. })
    }
}

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
        let (name, supported) = (path.display().to_string(), schema::version(steps));
        let damaged = |error: redb::Error| OpenError::Damaged { path: name.clone(), source: Box::new(error) };
        let meta = read_meta(&database).map_err(damaged)?;
        if let Some(schema) = meta.schema.filter(|schema| !(1..=supported).contains(schema)) {
            return Err(OpenError::Newer { path: name, schema, supported });
        }
        if meta.schema.is_some() && !meta.clean {
            let intact = database.check_integrity().map_err(|error| damaged(error.into()))?;
            if !intact {
                tracing::warn!(path = name, "store repaired after an unclean stop");
            }
        }
        schema::migrate(&database, path, meta.schema, steps)?;
        write_clean_flag(&database, false).map_err(damaged)?;

        let database = Arc::new(database);
        let (writer, jobs) = mpsc::channel(QUEUE);
        let (latest_sender, latest) = watch::channel(meta.revision);
        let (failure_sender, failure) = watch::channel(None);
        Writer::spawn(Arc::clone(&database), meta.revision, latest_sender, failure_sender, jobs)
            .map_err(|source| OpenError::File { path: name, source })?;
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
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let mut page = Vec::new();
    for entry in records.range::<&str>((from, Bound::Unbounded))?.take(limit) {
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
    let database = FileBackend::new(handle)
        .and_then(|file| Builder::new().set_cache_size(CACHE).create_with_backend(file));
    database.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(name),
        error => OpenError::Damaged { path: name, source: Box::new(error.into()) },
    })
}

/// Makes a new file's directory entry durable: without this sync, the file may vanish in a power failure.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// The file's metadata.
struct Meta {
    schema: Option<u64>,
    revision: Revision,
    clean: bool,
}

fn read_meta(database: &Database) -> Result<Meta, redb::Error> {
    let table = match database.begin_read()?.open_table(META) {
        Ok(table) => table,
        // A new file has no tables.
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

/// Writes whether the file is closed cleanly; creates missing tables in a new file.
fn write_clean_flag(database: &Database, clean: bool) -> Result<(), redb::Error> {
    let write = begin_write(database)?;
    {
        let mut meta = write.open_table(META)?;
        meta.insert(CLOSED_CLEANLY, u64::from(clean))?;
        write.open_table(RECORDS)?;
        write.open_table(CHANGES)?;
    }
    write.commit()?;
    Ok(())
}

/// Begins a durable transaction with two-phase commit.
fn begin_write(database: &Database) -> Result<WriteTransaction, redb::Error> {
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
