//! [`Mirror`]: the last known records of a shared store, in a local redb file with the tables of a store.
//!
//! Records keep the revisions of the shared store. One commit holds the changes of some writes and the last revision, so
//! the mirror always shows one revision. Such a commit is not durable: a crash loses the last seconds, which the shared
//! store sends again. A durable commit follows at intervals ([`Mirror::flush_blocking`]).
//!
//! The file can be deleted at any time. A file that cannot be read is replaced by a new one.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::backends::FileBackend;
use redb::{
    Database, Durability, ReadableDatabase, ReadableTableMetadata, TableDefinition, TableError,
    WriteTransaction,
};
use tokio::sync::watch;
use uuid::Uuid;

use super::contract::{Change, ChangeSet, OpenError, Record, Revision, Snapshot, StoreError};
use super::local::{RETAINED_WRITES, take_whole_writes};
use super::panics::CatchDrop;
use super::redb::{
    CHANGES_TABLE, META_TABLE, RECORDS_TABLE, REVISION_KEY, RedbSnapshot, append_to_name, begin_write,
    get_records, list_records, open_database, open_error, run, unavailable,
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
/// The most records of a read on an async thread.
const SHORT_READ: usize = 128;

/// One write of the shared store.
#[derive(Debug)]
pub(super) struct MirroredWrite {
    pub(super) revision: Revision,
    /// Key and new value; `None`: deleted.
    pub(super) changes: Vec<(String, Option<Vec<u8>>)>,
}

/// The local copy.
pub(super) struct Mirror {
    path: PathBuf,
    id: String,
    database: Arc<CatchDrop<Database>>,
    /// The last applied revision; 0: nothing was ever loaded.
    latest: watch::Sender<Revision>,
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
        Ok(Self { path: path.to_owned(), id, database: Arc::new(database), latest })
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

    /// Applies writes, in the order of their revisions. An applied write is skipped.
    pub(super) fn apply_blocking(&self, writes: &[MirroredWrite]) -> Result<(), StoreError> {
        let known = self.revision();
        let applied = run(|| {
            let mut write = self.database.begin_write()?;
            write.set_durability(Durability::None)?;
            let mut revision = known;
            for new in writes.iter().filter(|write| write.revision > known) {
                apply(&write, new)?;
                revision = new.revision;
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
        source: &str,
    ) -> Result<(), StoreError> {
        let finish = || {
            {
                let mut meta = load.0.open_table(META_TABLE)?;
                meta.insert(REVISION_KEY, revision)?;
                meta.insert(FEED_START, revision)?;
                load.0.open_table(IDENTITY_TABLE)?.insert(SOURCE, source)?;
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
        self.read(limit, move |database| read_changes(database, after, limit)).await
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

fn read_changes(database: &Database, after: Revision, limit: usize) -> Result<ChangeSet, redb::Error> {
    let read = database.begin_read()?;
    let meta = read.open_table(META_TABLE)?;
    let latest = meta.get(REVISION_KEY)?.map_or(0, |value| value.value());
    let start = meta.get(FEED_START)?.map_or(0, |value| value.value());
    // A later revision than the latest is one of a store that was replaced by a backup.
    if after < start || after > latest {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn put(revision: Revision, key: &str) -> MirroredWrite {
        MirroredWrite { revision, changes: vec![(key.to_owned(), Some(b"v".to_vec()))] }
    }

    #[tokio::test]
    async fn a_mirror_keeps_records_and_feed_over_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = directory.path().join("new/volboot.redb");
        let mirror = Mirror::open_blocking(&store).expect("opens");
        assert!(mirror.get(&["a".into()]).await.is_err(), "nothing was loaded");
        let load = mirror.begin_load().expect("begins");
        let old = Record { key: "a".into(), revision: 40, value: b"1".to_vec() };
        load.insert(std::slice::from_ref(&old)).expect("inserts");
        mirror.finish_load(load, 41, "cluster-1").expect("ends");
        // Revisions have gaps.
        mirror.apply_blocking(&[put(50, "b"), put(60, "c")]).expect("applies");
        mirror.apply_blocking(&[put(60, "c")]).expect("skips");
        let feed = |revision, key: &str| Change { revision, key: key.to_owned() };
        let all = ChangeSet::Since(vec![feed(50, "b"), feed(60, "c")]);
        assert_eq!(mirror.changes(41, 9).await.expect("reads"), all);
        assert_eq!(mirror.changes(40, 9).await.expect("reads"), ChangeSet::Compacted(60));
        assert_eq!(mirror.changes(61, 9).await.expect("reads"), ChangeSet::Compacted(60));
        mirror.flush_blocking(UNIX_EPOCH + Duration::from_secs(7)).expect("flushes");
        let id = mirror.id().to_owned();
        drop(mirror);
        let mirror = Mirror::open_blocking(&store).expect("opens");
        assert_eq!((mirror.id(), mirror.revision()), (id.as_str(), 60));
        let (source, heard) = mirror.source().expect("reads");
        assert_eq!(source.as_deref(), Some("cluster-1"));
        assert_eq!(heard, Some(UNIX_EPOCH + Duration::from_secs(7)));
        assert_eq!(mirror.get(&["a".into()]).await.expect("reads"), [Some(old)]);
        assert_eq!(mirror.changes(50, 9).await.expect("reads"), ChangeSet::Since(vec![feed(60, "c")]));
    }

    #[tokio::test]
    async fn an_unreadable_mirror_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = directory.path().join("volboot.redb");
        fs::write(append_to_name(&store, ".mirror"), "no database").expect("writes");
        assert_eq!(Mirror::open_blocking(&store).expect("opens").revision(), 0);
    }
}
