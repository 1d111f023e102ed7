//! Opens a store on its disk: for writing, or over an overlay that leaves the disk unchanged.
//!
//! At a start, [`Source::verify`] comes first. A recovery in the process has no such check: every commit is two-phase, so
//! redb returns to the last complete commit.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, StorageBackend};

use super::direct::{DirectBackend, DiskHealth};
use super::disk::{Disk, FileDisk};
use super::file::{Meta, open_database, open_error, read_meta, write_clean_flag};
use super::migration::{self, Copy};
use super::overlay::OverlayBackend;
use crate::store::contract::{OpenError, Revision};
use crate::store::panics::{CatchDrop, catch_panic};
use crate::store::schema::{self, Step};

/// The delay before the first attempt to open a read-only store for writing. It doubles twice.
const RETRY: Duration = Duration::from_secs(1);

/// An open database.
pub(super) struct OpenStore {
    pub(super) database: Arc<CatchDrop<Database>>,
    pub(super) revision: Revision,
    /// The disk that the database reads: directly, or below an overlay.
    pub(super) disk: Arc<DiskHealth>,
}

/// What is opened: the place of a store, and the migration steps.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) disk: Arc<dyn Disk>,
    /// The store's path, for messages and copies.
    pub(super) path: Arc<Path>,
    pub(super) steps: &'static [Step],
    /// The delay before the first attempt to open a read-only store for writing.
    pub(super) retry: Duration,
}

/// Why a store cannot be opened for writing.
pub(super) struct WritableError {
    pub(super) error: OpenError,
    /// The failure of the disk, if that is the cause.
    pub(super) disk_failure: Option<String>,
}

impl Source {
    /// A store in a file.
    pub(super) fn new(path: &Path, steps: &'static [Step]) -> Self {
        Self { disk: Arc::new(FileDisk::new(path)), path: path.into(), steps, retry: RETRY }
    }

    pub(super) fn location(&self) -> String {
        self.path.display().to_string()
    }

    /// Opens the store for writing. `before_changes` runs before the file may change, unless the disk refuses at once.
    pub(super) fn open_writable(&self, before_changes: impl FnOnce()) -> Result<OpenStore, WritableError> {
        let health = Arc::new(DiskHealth::default());
        let opened = self.disk.open_writable().and_then(|disk| {
            before_changes();
            self.open(DirectBackend::new(disk, Arc::clone(&health)), Copy::Kept)
        });
        match opened {
            Ok((database, meta)) => {
                let database = Arc::new(database);
                Ok(OpenStore { database, revision: meta.revision, disk: health })
            }
            Err(error) => {
                health.retire();
                let disk_failure = health.failure().or_else(|| find_io_cause(&error));
                Err(WritableError { error, disk_failure })
            }
        }
    }

    /// Opens an existing store for reading. Repairs and migrations happen in memory.
    pub(super) fn open_read_only(&self) -> Result<OpenStore, OpenError> {
        let unavailable =
            |source: io::Error| OpenError::Unavailable { location: self.location(), source: source.into() };
        let disk = self.disk.open_existing()?;
        let disk = disk.ok_or_else(|| unavailable(io::ErrorKind::NotFound.into()))?;
        if disk.len().map_err(unavailable)? == 0 {
            return Err(unavailable(io::Error::other("the file is empty")));
        }
        let health = Arc::new(DiskHealth::default());
        let disk = Arc::new(DirectBackend::new(disk, Arc::clone(&health)));
        let overlay = OverlayBackend::new(disk).map_err(unavailable)?;
        let (database, meta) = self.open(overlay, Copy::NotNeeded)?;
        Ok(OpenStore { database: Arc::new(database), revision: meta.revision, disk: health })
    }

    /// Opens the database on a backend: checks the schema, migrates, and marks the file as open.
    fn open(
        &self,
        backend: impl StorageBackend,
        copy: Copy,
    ) -> Result<(CatchDrop<Database>, Meta), OpenError> {
        let location = self.location();
        let open = || {
            let error = |error: redb::Error| open_error(&location, error);
            let database = open_database(backend, &location)?;
            let meta = read_meta(&database).map_err(error)?;
            if let Some(schema) = meta.schema {
                schema::check(self.steps, schema, &location)?;
            }
            migration::migrate(&database, &self.path, &meta, self.steps, copy)?;
            write_clean_flag(&database, false).map_err(error)?;
            Ok((database, meta))
        };
        catch_panic(open).unwrap_or_else(|panic| Err(open_error(&location, redb::Error::Corrupted(panic))))
    }
}

/// Whether the disk refuses a write, at present.
fn is_unwritable(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem | PermissionDenied | FileTooLarge)
        // EIO has no kind.
        || error.raw_os_error() == Some(nix::errno::Errno::EIO as i32)
}

/// The failure of the disk behind an error, if there is one.
fn find_io_cause(error: &OpenError) -> Option<String> {
    let source = match error {
        OpenError::Unavailable { source, .. }
        | OpenError::BackUp { source, .. }
        | OpenError::Migration { source, .. } => &**source,
        OpenError::InUse(_) | OpenError::Newer { .. } | OpenError::Damaged { .. } => return None,
    };
    let mut cause: Option<&(dyn Error + 'static)> = Some(source);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return is_unwritable(error).then(|| error.to_string());
        }
        cause = error.source();
    }
    None
}
