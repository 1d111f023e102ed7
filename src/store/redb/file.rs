//! The redb file: tables, metadata and transactions.

use std::fs::File;
use std::io;
use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, TableDefinition, TableError, WriteTransaction};

use crate::store::contract::{Revision, StoreError};

/// Key → (revision, value).
pub(super) const RECORDS: TableDefinition<&str, (Revision, &[u8])> = TableDefinition::new("records");
/// Revision → the keys that the write put or deleted.
pub(super) const CHANGES: TableDefinition<Revision, Vec<&str>> = TableDefinition::new("changes");
/// Metadata of the file, under the keys below.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The schema of keys and values. A file with an older schema is migrated, with a newer schema refused.
pub(super) const SCHEMA: &str = "schema";
/// The revision of the last write.
pub(super) const REVISION: &str = "revision";
/// 1 after a clean close, 0 while the file is open.
pub(super) const CLOSED_CLEANLY: &str = "closed cleanly";

/// Memory for the page cache. redb's own default is 1 GiB; ten thousand nodes need a few MiB.
pub(super) const CACHE: usize = 16 << 20;

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
pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    write.set_two_phase_commit(true);
    write.set_quick_repair(true);
    Ok(write)
}

/// Whether the database refuses all further operations.
pub(super) fn needs_reopening(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed)
}

pub(super) fn unavailable(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        error @ redb::Error::Corrupted(_) => StoreError::Damaged(error.to_string()),
        error => StoreError::Unavailable(error.to_string()),
    }
}
