//! [`RedbStore`]: the store in one local redb file.
//!
//! Short reads run on the calling thread: a handful of look-ups in cached pages takes microseconds, and redb's
//! readers never wait for the writer. Long reads move to a blocking thread. All writes go through one writer thread
//! with group commit. A commit is two-phase and synchronous: an acknowledged write survives a power failure, and the
//! next open needs no repair.
//!
//! A start checks the whole file, before the first answer and without a change to it ([`mod@integrity`]); damage ends the
//! start. A failure of the disk, such as a full one, makes the store read-only until the disk accepts writes again
//! ([`mod@recovery`]).
//!
//! Only the file's owner can read it: it holds CHAP secrets.

mod creation;
mod current;
#[cfg(test)]
mod damage;
mod direct;
mod disk;
mod file;
mod import;
mod integrity;
mod job;
mod migration;
mod open;
mod overlay;
mod progress;
mod read;
mod recovery;
mod snapshot;
mod stopped;
#[cfg(test)]
mod tests;
mod writer;

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable};
use tokio::sync::{mpsc, oneshot, watch};

use super::contract::{
    Batch, Change, ChangeSet, Freshness, OpenError, Record, Revision, Snapshot, Store, StoreAccess,
    StoreError, StoreFuture, StoreInfo, WriteError,
};
use super::local::{take_whole_writes, wait_for_revision};
use super::local_session::LocalSession;
use super::schema;
use super::session::Cluster;
use current::CurrentDatabase;
#[cfg(feature = "etcd")]
pub(super) use file::{
    CHANGES as CHANGES_TABLE, META as META_TABLE, RECORDS as RECORDS_TABLE, REVISION as REVISION_KEY,
    SCHEMA as SCHEMA_KEY, append_to_name, begin_write, open_database, open_error, run, unavailable,
};
use file::{CHANGES, META, REVISION};
pub use import::import;
use integrity::FileState;
use job::StoreJob;
use open::{OpenStore, Source};
pub(crate) use overlay::OverlayBackend;
pub use progress::ProgressHook;
use read::{get, list};
#[cfg(feature = "etcd")]
pub(super) use read::{get as get_records, list as list_records};
use recovery::{Recovery, describe_failure};
pub(super) use snapshot::RedbSnapshot;
pub use stopped::StoppedStore;
use writer::Writer;

/// The length of the write queue. With a full queue, callers wait.
const QUEUE: usize = 256;

/// A store in a redb file.
pub struct RedbStore {
    path: PathBuf,
    current: CurrentDatabase,
    writer: mpsc::Sender<StoreJob>,
    latest: watch::Receiver<Revision>,
    failure: watch::Sender<Option<StoreError>>,
    session: LocalSession,
}

impl RedbStore {
    /// Opens the file after an integrity check; creates file and directory if missing. On a full or read-only disk, an
    /// existing file is opened read-only.
    ///
    /// Blocks: the check reads the whole file. A file of an older schema is migrated, which needs the file's size in free
    /// disk space.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with_progress(path, |_| {})
    }

    /// Opens the file like [`RedbStore::open`], and reports the progress of a check that takes long.
    pub fn open_with_progress(path: &Path, hook: ProgressHook) -> Result<Self, OpenError> {
        Self::open_source(Source::new(path, schema::STEPS), hook)
    }

    fn open_source(source: Source, hook: ProgressHook) -> Result<Self, OpenError> {
        match source.verify(hook)? {
            FileState::Intact => {}
            FileState::IntactWith(flags) => source.select_commit(flags)?,
            FileState::New => source.disk.create(schema::version(source.steps))?,
        }
        let failure = match source.open_writable(|| {}) {
            Ok(open) => return Self::start(source, &open, StoreAccess::ReadWrite),
            Err(failure) => failure,
        };
        let Some(disk_failure) = failure.disk_failure else { return Err(failure.error) };
        let open = source.open_read_only()?;
        let reason = describe_failure(&source, &disk_failure);
        tracing::error!(
            reason,
            "store opened read-only: changes are refused, machines boot; retrying until the disk accepts writes"
        );
        Self::start(source, &open, StoreAccess::ReadOnly(reason))
    }

    /// Starts the writer thread.
    fn start(source: Source, open: &OpenStore, access: StoreAccess) -> Result<Self, OpenError> {
        let path = source.path.to_path_buf();
        let (writer, jobs) = mpsc::channel(QUEUE);
        let (latest_sender, latest) = watch::channel(open.revision);
        let failure = watch::Sender::new(None);
        let recovery = Recovery::new(source, open, access);
        let current = CurrentDatabase(recovery.subscribe());
        let session = LocalSession::default();
        let claims = Arc::clone(session.claims());
        Writer::spawn(open.revision, latest_sender, recovery, failure.clone(), claims, jobs).map_err(
            |source| OpenError::Unavailable { location: path.display().to_string(), source: source.into() },
        )?;
        Ok(Self { path, current, writer, latest, failure, session })
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

    async fn read<T: Send + 'static>(
        &self,
        records: usize,
        read: impl Fn(&Database) -> Result<T, redb::Error> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        let result = self.current.read(records, &self.writer, read).await;
        // No page is trusted until the next integrity check, at the start of the process.
        if let Err(StoreError::Damaged(cause)) = &result {
            let cause = format!("{}: {cause}", self.path.display());
            self.failure.send_replace(Some(StoreError::Damaged(cause)));
        }
        result
    }
}

fn changes(database: &Database, after: Revision, limit: usize) -> Result<ChangeSet, redb::Error> {
    let read = database.begin_read()?;
    let latest = read.open_table(META)?.get(REVISION)?.map_or(0, |value| value.value());
    let table = read.open_table(CHANGES)?;
    // An imported store has records without their changes.
    let oldest = table.first()?.map_or(latest + 1, |(revision, _)| revision.value());
    if after + 1 < oldest {
        return Ok(ChangeSet::Compacted(latest));
    }
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
        Box::pin(wait_for_revision(self.latest.clone(), move |latest| latest > after))
    }

    fn access(&self) -> StoreAccess {
        self.current.access()
    }

    fn freshness(&self) -> Freshness {
        Freshness::Fresh
    }

    fn last_known(self: Arc<Self>) -> Arc<dyn Store> {
        self
    }

    fn cluster(&self) -> &dyn Cluster {
        &self.session
    }

    fn snapshot(&self) -> StoreFuture<'_, Box<dyn Snapshot>> {
        Box::pin(async move {
            let snapshot = self.read(1, RedbSnapshot::new).await?;
            Ok(Box::new(snapshot) as Box<dyn Snapshot>)
        })
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
        Box::pin(async move {
            self.session.close();
            self.submit(StoreJob::Close).await
        })
    }

    fn wait_for_failure(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        let mut failure = self.failure.subscribe();
        Box::pin(async move {
            match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
                Ok(Some(error)) => error,
                // This store holds the sender.
                _ => StoreError::Unavailable("the store is closed".into()),
            }
        })
    }
}
