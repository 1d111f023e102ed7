//! Creates the file of a new store under another name, and renames it once it is complete.
//!
//! A file under the store's name is therefore a whole store, whatever interrupts the creation: an empty file there is
//! no new store, but a damaged one.

use std::error::Error;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, WriteTransaction};

use super::file::{
    CHANGES, CLOSED_CLEANLY, META, RECORDS, REVISION, SCHEMA, append_to_name, begin_write, open_database,
    open_error, sync_directory_of,
};
use crate::store::contract::{OpenError, Revision};
use crate::store::panics::CatchDrop;

/// A database that is not yet a store.
pub(super) struct NewFile<'a> {
    path: &'a Path,
    unfinished: UnfinishedFile,
    database: CatchDrop<Database>,
}

/// A file under the name of an unfinished store, removed on drop. A finished one has another name.
struct UnfinishedFile(PathBuf);

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        // An error of the removal adds no information.
        let _ = fs::remove_file(&self.0);
    }
}

impl<'a> NewFile<'a> {
    /// Creates the directory, and an empty database under the name of an unfinished file.
    pub(super) fn create(path: &'a Path) -> Result<Self, OpenError> {
        let location = path.display().to_string();
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            let mut builder = DirBuilder::new();
            let created = builder.recursive(true).mode(0o700).create(directory);
            created.map_err(|error| unavailable(directory, error))?;
        }
        let unfinished = append_to_name(path, ".new");
        let file = lock_unfinished(&unfinished).map_err(|error| unavailable(path, error))?;
        let file = file.ok_or_else(|| OpenError::InUse(location.clone()))?;
        let unfinished = UnfinishedFile(unfinished);
        let backend = FileBackend::new(file).map_err(|error| open_error(&location, error.into()))?;
        let database = open_database(backend, &location)?;
        Ok(Self { path, unfinished, database })
    }

    /// Runs `fill` in one transaction, and gives the file its name.
    pub(super) fn finish<E: From<OpenError>>(
        self,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { path, unfinished, database } = self;
        let write = begin_write(&database).map_err(|error| unavailable(path, error))?;
        fill(&write)?;
        write.commit().map_err(|error| unavailable(path, error))?;
        give_to_owner_of_directory(&unfinished.0)
            .and_then(|()| fs::rename(&unfinished.0, path))
            .and_then(|()| sync_directory_of(path))
            .map_err(|error| unavailable(path, error))?;
        drop(database);
        Ok(())
    }

    /// Finishes the file of an empty store.
    pub(super) fn finish_empty(self, schema: u64) -> Result<(), OpenError> {
        let path = self.path;
        self.finish(|write| create_tables(write, schema, 0).map_err(|error| unavailable(path, error)))
    }
}

/// The error for a file or directory that cannot be created.
fn unavailable(path: &Path, error: impl Into<Box<dyn Error + Send + Sync>>) -> OpenError {
    OpenError::Unavailable { location: path.display().to_string(), source: error.into() }
}

/// Creates all tables, and writes schema and revision.
pub(super) fn create_tables(
    write: &WriteTransaction,
    schema: u64,
    revision: Revision,
) -> Result<(), redb::Error> {
    let mut meta = write.open_table(META)?;
    meta.insert(SCHEMA, schema)?;
    meta.insert(REVISION, revision)?;
    meta.insert(CLOSED_CLEANLY, 1)?;
    write.open_table(RECORDS)?;
    write.open_table(CHANGES)?;
    Ok(())
}

/// Opens the unfinished file, with the lock that redb takes too; `None` if another process creates the store.
fn lock_unfinished(unfinished: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(unfinished)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    // Before the lock, another process may have renamed the file.
    if fs::metadata(unfinished).map(|named| named.ino()).ok() != Some(file.metadata()?.ino()) {
        return Ok(None);
    }
    // Of an interrupted creation.
    file.set_len(0)?;
    Ok(Some(file))
}

/// Gives a file that root creates to the owner of the directory: root imports, but the service has a user of its own.
fn give_to_owner_of_directory(file: &Path) -> io::Result<()> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    let owner = fs::metadata(directory.unwrap_or(Path::new(".")))?;
    if fs::metadata(file)?.uid() != 0 || owner.uid() == 0 {
        return Ok(());
    }
    chown(file, Some(owner.uid()), Some(owner.gid()))
}
