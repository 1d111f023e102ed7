//! [`Mirror`]: the last known records of a shared store, in a local redb file with the tables of a store.
//!
//! Records keep the revisions of the shared store. One commit holds the changes of some writes and the last revision, so
//! the mirror always shows one revision. Such a commit is not durable: a crash loses the last seconds, which the shared
//! store sends again. A durable commit follows at intervals ([`Mirror::flush_blocking`]).
//!
//! The file can be deleted at any time. A file that cannot be read is replaced by a new one.

#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::backends::FileBackend;
use redb::{
    Database, Durability, ReadableDatabase, ReadableTableMetadata, TableDefinition, TableError,
    WriteTransaction,
};
use tokio::sync::watch;
use uuid::Uuid;

use super::contract::{Change, ChangeSet, OpenError, Record, Revision, Snapshot, StoreError};
use super::local::{RETAINED_WRITES, take_whole_writes, wait_for_revision};
use super::panics::CatchDrop;
use super::redb::{
    CHANGES_TABLE, META_TABLE, RECORDS_TABLE, REVISION_KEY, RedbSnapshot, SCHEMA_KEY, append_to_name,
    begin_write, get_records, list_records, open_database, open_error, run, unavailable,
};

/// The revision after which the change feed is complete.
const FEED_START: &str = "feed start";
/// The time of the last response of the shared store, in seconds since 1970.
const HEARD: &str = "heard";
/// Texts: the keys below.
const IDENTITY_TABLE: TableDefinition<&str, &str> = TableDefinition::new("identity");
/// The identity of the mirrored store.
const SOURCE: &str = "source";
/// The identity of the mirror.
const MIRROR: &str = "mirror";
/// The value of the shared store's tick at the mirror's revision.
const TICK: &str = "tick";
/// The most records of a read on an async thread.
const SHORT_READ: usize = 128;

/// One write of the shared store.
#[derive(Debug)]
pub(super) struct MirroredWrite {
    pub(super) revision: Revision,
    /// Key and new value; `None`: deleted.
    pub(super) changes: Vec<(String, Option<Vec<u8>>)>,
    /// The value that tells this write from all others, also those of another history with the same revision.
    pub(super) tick: Option<String>,
}

/// What a load reads beside the records.
pub(super) struct MirrorSource<'a> {
    /// The identity of the shared store.
    pub(super) identity: &'a str,
    /// The schema of its records.
    pub(super) schema: u64,
    /// The tick's value.
    pub(super) tick: &'a str,
}

/// The local copy.
pub(super) struct Mirror {
    path: PathBuf,
    id: String,
    database: Arc<CatchDrop<Database>>,
    /// The last applied revision; 0: nothing was ever loaded.
    latest: watch::Sender<Revision>,
    /// The highest revision before a load set the revision back; 0: none has, since the mirror was opened. A reader's
    /// position up to here may be one of the earlier history.
    ceiling: AtomicU64,
}

impl Mirror {
    /// Opens the mirror that belongs to a store's path, or creates it. An unreadable file is replaced.
    pub(super) fn open_blocking(store: &Path) -> Result<Self, OpenError> {
        let path = append_to_name(store, ".mirror");
        match Self::try_open(&path) {
            Err(OpenError::Damaged { source, .. }) => {
                tracing::warn!(path = %path.display(), error = %source, "mirror is damaged: replaced");
                fs::remove_file(&path).map_err(|error| io_error(&path, error))?;
                Self::try_open(&path)
            }
            opened => opened,
        }
    }

    /// Opens the mirror that belongs to a store's path, if there is one.
    pub(super) fn open_existing_blocking(store: &Path) -> Result<Option<Self>, OpenError> {
        let path = append_to_name(store, ".mirror");
        if path.exists() { Self::try_open(&path).map(Some) } else { Ok(None) }
    }

    fn try_open(path: &Path) -> Result<Self, OpenError> {
        let location = path.display().to_string();
        let error = |error: redb::Error| open_error(&location, error);
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            let created = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            created.map_err(|error| io_error(path, error))?;
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(|error| io_error(path, error))?;
        let backend = FileBackend::new(file).map_err(|cause| error(cause.into()))?;
        let database = open_database(backend, &location)?;
        let (id, revision) = run(|| prepare(&database)).map_err(error)?;
        let latest = watch::Sender::new(revision);
        let database = Arc::new(database);
        Ok(Self { path: path.to_owned(), id, database, latest, ceiling: AtomicU64::new(0) })
    }

    /// The mirror's identity: a new file has a new one.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last applied revision; 0: nothing was ever loaded.
    pub(super) fn revision(&self) -> Revision {
        *self.latest.borrow()
    }

    /// Follows the last applied revision. A load may set it back.
    pub(super) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.latest.subscribe()
    }

    /// Waits for a write after `after`, or until a load has set the revision back; returns the last applied revision.
    pub(super) async fn wait_for_change(&self, after: Revision) -> Result<Revision, StoreError> {
        let is_news = |latest: Revision| latest > after || (latest < after && self.may_be_earlier(after));
        wait_for_revision(self.latest.subscribe(), is_news).await
    }

    /// Whether a position of a reader may be one of the history before a load.
    fn may_be_earlier(&self, position: Revision) -> bool {
        position <= self.ceiling.load(Ordering::Acquire)
    }

    /// The schema of the records.
    pub(super) fn schema(&self) -> Result<u64, StoreError> {
        let read = || {
            let meta = self.database.begin_read()?.open_table(META_TABLE)?;
            Ok(meta.get(SCHEMA_KEY)?.map_or(0, |value| value.value()))
        };
        run(read).map_err(unavailable)
    }

    /// The identity of the mirrored store, and the time of its last response before the start.
    pub(super) fn source(&self) -> Result<(Option<String>, Option<SystemTime>), StoreError> {
        let read = || {
            let read = self.database.begin_read()?;
            let source = read.open_table(IDENTITY_TABLE)?.get(SOURCE)?.map(|value| value.value().to_owned());
            let heard = read.open_table(META_TABLE)?.get(HEARD)?.map(|value| value.value());
            Ok((source, heard.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))))
        };
        run(read).map_err(unavailable)
    }

    /// The tick's value at the mirror's revision.
    pub(super) fn tick(&self) -> Result<Option<String>, StoreError> {
        let read = || {
            let table = self.database.begin_read()?.open_table(IDENTITY_TABLE)?;
            Ok(table.get(TICK)?.map(|value| value.value().to_owned()))
        };
        run(read).map_err(unavailable)
    }

    /// Applies writes, in the order of their revisions. An applied write is skipped.
    pub(super) fn apply_blocking(&self, writes: &[MirroredWrite]) -> Result<(), StoreError> {
        let known = self.revision();
        let applied = run(|| {
            let mut write = self.database.begin_write()?;
            write.set_durability(Durability::None)?;
            let (mut revision, mut tick) = (known, None);
            for new in writes.iter().filter(|write| write.revision > known) {
                apply(&write, new)?;
                revision = new.revision;
                tick = new.tick.as_deref();
            }
            if revision > known {
                write.open_table(IDENTITY_TABLE)?.insert(TICK, tick.unwrap_or_default())?;
            }
            trim_feed(&write)?;
            write.open_table(META_TABLE)?.insert(REVISION_KEY, revision)?;
            write.commit()?;
            Ok(revision)
        });
        self.latest.send_replace(applied.map_err(unavailable)?);
        Ok(())
    }

    /// Begins to replace all records. Until the end, reads show the old ones.
    pub(super) fn begin_load(&self) -> Result<MirrorLoad, StoreError> {
        let begin = || {
            let write = begin_write(&self.database)?;
            write.open_table(RECORDS_TABLE)?.retain(|_, _| false)?;
            write.open_table(CHANGES_TABLE)?.retain(|_, _| false)?;
            Ok(MirrorLoad(write))
        };
        run(begin).map_err(unavailable)
    }

    /// Ends a load: the records are those of `source` at `revision`.
    pub(super) fn finish_load(
        &self,
        load: MirrorLoad,
        revision: Revision,
        source: &MirrorSource<'_>,
    ) -> Result<(), StoreError> {
        let before = self.revision();
        if revision < before {
            // Before the commit: no reader with an earlier position may take the loaded feed for a continuation.
            self.ceiling.fetch_max(before, Ordering::Release);
        }
        let finish = || {
            {
                let mut meta = load.0.open_table(META_TABLE)?;
                meta.insert(REVISION_KEY, revision)?;
                meta.insert(FEED_START, revision)?;
                meta.insert(SCHEMA_KEY, source.schema)?;
                let mut identity = load.0.open_table(IDENTITY_TABLE)?;
                identity.insert(SOURCE, source.identity)?;
                identity.insert(TICK, source.tick)?;
            }
            load.0.commit()?;
            Ok(())
        };
        run(finish).map_err(unavailable)?;
        self.latest.send_replace(revision);
        Ok(())
    }

    /// Makes all commits durable, and notes the time of the last response.
    pub(super) fn flush_blocking(&self, heard: SystemTime) -> Result<(), StoreError> {
        let seconds = heard.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let flush = || {
            let write = begin_write(&self.database)?;
            write.open_table(META_TABLE)?.insert(HEARD, seconds)?;
            write.commit()?;
            Ok(())
        };
        run(flush).map_err(unavailable)
    }

    pub(super) async fn get(&self, keys: &[String]) -> Result<Vec<Option<Record>>, StoreError> {
        let keys = keys.to_vec();
        self.read(keys.len(), move |database| get_records(database, &keys)).await
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.read(limit, move |database| list_records(database, &prefix, after.as_deref(), limit)).await
    }

    pub(super) async fn changes(&self, after: Revision, limit: usize) -> Result<ChangeSet, StoreError> {
        let may_be_earlier = self.may_be_earlier(after);
        self.read(limit, move |database| read_changes(database, after, limit, may_be_earlier)).await
    }

    pub(super) async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let snapshot = self.read(1, RedbSnapshot::new).await?;
        Ok(Box::new(snapshot) as Box<dyn Snapshot>)
    }

    /// Runs a short read on this thread, a long one on a blocking thread.
    async fn read<T: Send + 'static>(
        &self,
        records: usize,
        read: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.revision() == 0 {
            return Err(StoreError::Unavailable("no records were ever loaded from the shared store".into()));
        }
        if records <= SHORT_READ {
            return run(|| read(&self.database)).map_err(unavailable);
        }
        let database = Arc::clone(&self.database);
        let read = tokio::task::spawn_blocking(move || run(|| read(&database)).map_err(unavailable)).await;
        read.map_err(|error| StoreError::Unavailable(error.to_string())).flatten()
    }
}

/// The replacement of all records, in one transaction.
pub(super) struct MirrorLoad(WriteTransaction);

impl MirrorLoad {
    /// Adds records.
    pub(super) fn insert(&self, records: &[Record]) -> Result<(), StoreError> {
        let insert = || {
            let mut table = self.0.open_table(RECORDS_TABLE)?;
            for record in records {
                table.insert(record.key.as_str(), (record.revision, record.value.as_slice()))?;
            }
            Ok(())
        };
        run(insert).map_err(unavailable)
    }
}

/// Creates missing tables; reads identity and revision.
fn prepare(database: &Database) -> Result<(String, Revision), redb::Error> {
    let read = database.begin_read()?;
    let known = match read.open_table(IDENTITY_TABLE) {
        Ok(table) => table.get(MIRROR)?.map(|value| value.value().to_owned()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(id) = known {
        let revision = read.open_table(META_TABLE)?.get(REVISION_KEY)?.map_or(0, |value| value.value());
        return Ok((id, revision));
    }
    drop(read);
    let id = Uuid::new_v4().to_string();
    let write = begin_write(database)?;
    write.open_table(IDENTITY_TABLE)?.insert(MIRROR, id.as_str())?;
    write.open_table(META_TABLE)?;
    write.open_table(RECORDS_TABLE)?;
    write.open_table(CHANGES_TABLE)?;
    write.commit()?;
    Ok((id, 0))
}

fn apply(write: &WriteTransaction, new: &MirroredWrite) -> Result<(), redb::Error> {
    let mut records = write.open_table(RECORDS_TABLE)?;
    for (key, value) in &new.changes {
        match value {
            Some(value) => drop(records.insert(key.as_str(), (new.revision, value.as_slice()))?),
            None => drop(records.remove(key.as_str())?),
        }
    }
    let keys: Vec<&str> = new.changes.iter().map(|(key, _)| key.as_str()).collect();
    write.open_table(CHANGES_TABLE)?.insert(new.revision, keys)?;
    Ok(())
}

/// Deletes the oldest changes. Revisions have gaps, so the number of writes counts.
fn trim_feed(write: &WriteTransaction) -> Result<(), redb::Error> {
    let mut changes = write.open_table(CHANGES_TABLE)?;
    let mut start = None;
    while changes.len()? > RETAINED_WRITES {
        start = changes.pop_first()?.map(|(revision, _)| revision.value());
    }
    if let Some(start) = start {
        write.open_table(META_TABLE)?.insert(FEED_START, start)?;
    }
    Ok(())
}

fn read_changes(
    database: &Database,
    after: Revision,
    limit: usize,
    may_be_earlier: bool,
) -> Result<ChangeSet, redb::Error> {
    let read = database.begin_read()?;
    let meta = read.open_table(META_TABLE)?;
    let latest = meta.get(REVISION_KEY)?.map_or(0, |value| value.value());
    let start = meta.get(FEED_START)?.map_or(0, |value| value.value());
    // A later revision than the latest is one of a store that was replaced by a backup.
    if after < start || after > latest || may_be_earlier {
        return Ok(ChangeSet::Compacted(latest));
    }
    let mut changes = Vec::new();
    for entry in read.open_table(CHANGES_TABLE)?.range(after + 1..)? {
        let (revision, keys) = entry?;
        let revision = revision.value();
        changes.extend(keys.value().into_iter().map(|key| Change { revision, key: key.to_owned() }));
        if changes.len() >= limit {
            break;
        }
    }
    Ok(ChangeSet::Since(take_whole_writes(changes.into_iter(), limit)))
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Unavailable { location: path.display().to_string(), source: source.into() }
}
