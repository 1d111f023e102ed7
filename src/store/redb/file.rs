//! The redb file: tables, metadata, opening and transactions.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, Durability, ReadableDatabase, StorageBackend, TableDefinition, TableError,
    WriteTransaction,
};

use crate::store::contract::{OpenError, Revision, StoreError};
use crate::store::panics::{CatchDrop, catch_panic};

/// Key → (revision, value).
pub(in crate::store) const RECORDS: TableDefinition<&str, (Revision, &[u8])> =
    TableDefinition::new("records");
/// Revision → the keys that the write put or deleted.
pub(in crate::store) const CHANGES: TableDefinition<Revision, Vec<&str>> = TableDefinition::new("changes");
/// Metadata of the file, under the keys below.
pub(in crate::store) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The schema of keys and values. A file with an older schema is migrated, with a newer schema refused.
pub(in crate::store) const SCHEMA: &str = "schema";
/// The revision of the last write.
pub(in crate::store) const REVISION: &str = "revision";
/// 1 after a clean close, 0 while the file is open.
pub(super) const CLOSED_CLEANLY: &str = "closed cleanly";

/// Memory for the page cache. redb's own default is 1 GiB; ten thousand nodes need a few MiB.
pub(super) const CACHE: usize = 16 << 20;

/// Opens the database on a backend; an empty one becomes an empty database.
pub(in crate::store) fn open_database(
    backend: impl StorageBackend,
    location: &str,
) -> Result<CatchDrop<Database>, OpenError> {
    run(|| Ok(CatchDrop::new(Builder::new().set_cache_size(CACHE).create_with_backend(backend)?)))
        .map_err(|error| open_error(location, error))
}

/// The reason why a file cannot be opened.
pub(in crate::store) fn open_error(location: &str, error: redb::Error) -> OpenError {
    let location = location.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => OpenError::InUse(location),
        error @ redb::Error::PreviousIo => OpenError::Unavailable { location, source: error.into() },
        // A failing disk or network file system may recover. The two kinds are the content's: redb reports a file that
        // is no database as invalid data.
        redb::Error::Io(source)
            if !matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            OpenError::Unavailable { location, source: source.into() }
        }
        error => OpenError::Damaged { location, source: error.into() },
    }
}

/// The path with a suffix appended to the file's name.
pub(in crate::store) fn append_to_name(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes a new file's directory entry durable: without this sync, the file may vanish in a power failure.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// The file's metadata.
pub(super) struct Meta {
    pub(super) schema: Option<u64>,
    pub(super) revision: Revision,
    pub(super) clean: bool,
}

pub(super) fn read_meta(database: &Database) -> Result<Meta, redb::Error> {
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
pub(super) fn write_clean_flag(database: &Database, clean: bool) -> Result<(), redb::Error> {
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
pub(in crate::store) fn begin_write(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    write.set_two_phase_commit(true);
    write.set_quick_repair(true);
    Ok(write)
}

/// Runs an operation on the database. A panic of redb is damage: the pages do not have the content that redb wrote.
pub(in crate::store) fn run<T>(operation: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    catch_panic(operation).unwrap_or_else(|panic| Err(redb::Error::Corrupted(panic)))
}

/// Whether the database refuses all further operations.
pub(super) fn needs_reopening(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed)
}

pub(in crate::store) fn unavailable(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(cause) => StoreError::Damaged(cause),
        error => StoreError::Unavailable(error.to_string()),
    }
}
