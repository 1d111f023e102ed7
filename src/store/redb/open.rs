//! Opens a store on its disk: for writing, or over an overlay that leaves the disk unchanged.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::{Builder, Database, DatabaseError, StorageBackend};

use super::direct::{DirectBackend, DiskHealth};
use super::disk::Disk;
use super::file::{CACHE, Meta, read_meta, write_clean_flag};
use super::migration::{self, Copy};
use super::overlay::OverlayBackend;
use crate::store::contract::{OpenError, Revision};
use crate::store::schema::{self, Step};

/// An open database.
pub(super) struct OpenStore {
    pub(super) database: Arc<Database>,
    pub(super) revision: Revision,
    /// `None` over an overlay.
    pub(super) health: Option<Arc<DiskHealth>>,
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

/// Whether the whole file is checked after an unclean stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IntegrityCheck {
    /// At start.
    AfterUncleanStop,
    /// In a process that has checked the file before.
    Skipped,
}

/// Why a store cannot be opened for writing.
pub(super) struct WritableError {
    pub(super) error: OpenError,
    /// The failure of the disk, if that is the cause.
    pub(super) disk_failure: Option<String>,
}

impl Source {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    /// Opens the store for writing, and creates it if it is missing.
    pub(super) fn open_writable(&self, check: IntegrityCheck) -> Result<OpenStore, WritableError> {
        let health = Arc::new(DiskHealth::default());
        let opened = self.disk.open_writable().and_then(|disk| {
            let backend = DirectBackend::new(disk, Arc::clone(&health));
            self.open(backend, check, Copy::Kept)
        });
        match opened {
            Ok((database, meta)) => {
                let database = Arc::new(database);
                Ok(OpenStore { database, revision: meta.revision, health: Some(health) })
            }
            Err(error) => {
                health.retire();
                let disk_failure = health.failure().or_else(|| find_io_cause(&error));
                Err(WritableError { error, disk_failure })
            }
        }
    }

    /// Opens an existing store for reading. Repairs and migrations happen in memory.
    pub(super) fn open_read_only(&self, check: IntegrityCheck) -> Result<OpenStore, OpenError> {
        let unavailable =
            |source: io::Error| OpenError::Unavailable { location: self.location(), source: source.into() };
        let disk = self.disk.open_read_only()?;
        if disk.len().map_err(unavailable)? == 0 {
            return Err(unavailable(io::Error::other("the file is empty")));
        }
        let overlay = OverlayBackend::new(disk).map_err(unavailable)?;
        let (database, meta) = self.open(overlay, check, Copy::NotNeeded)?;
        Ok(OpenStore { database: Arc::new(database), revision: meta.revision, health: None })
    }

    /// Opens the database on a backend: checks the schema and the file, migrates, and marks the file as open.
    fn open(
        &self,
        backend: impl StorageBackend,
        check: IntegrityCheck,
        copy: Copy,
    ) -> Result<(Database, Meta), OpenError> {
        let error = |error: redb::Error| open_error(self.location(), error);
        let database = Builder::new().set_cache_size(CACHE).create_with_backend(backend);
        let mut database = database.map_err(|database_error| match database_error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(self.location()),
            database_error => error(database_error.into()),
        })?;
        let meta = read_meta(&database).map_err(error)?;
        if let Some(schema) = meta.schema {
            schema::check(self.steps, schema, &self.location())?;
        }
        if check == IntegrityCheck::AfterUncleanStop && meta.schema.is_some() && !meta.clean {
            let intact = database.check_integrity().map_err(|damage| error(damage.into()))?;
            if !intact {
                tracing::warn!(path = self.location(), "store repaired after an unclean stop");
            }
        }
        migration::migrate(&database, &self.path, &meta, self.steps, copy)?;
        write_clean_flag(&database, false).map_err(error)?;
        Ok((database, meta))
    }
}

/// Tells damage from a failure of the disk.
fn open_error(location: String, error: redb::Error) -> OpenError {
    let is_damage = match &error {
        redb::Error::Io(error) => is_damage(error),
        redb::Error::PreviousIo => false,
        _ => true,
    };
    let source = error.into();
    if is_damage {
        OpenError::Damaged { location, source }
    } else {
        OpenError::Unavailable { location, source }
    }
}

/// Whether the error is about the content: no redb file, or a truncated one.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
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
