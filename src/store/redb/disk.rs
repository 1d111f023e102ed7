//! [`Disk`]: where the bytes of a store are. [`FileDisk`] is the disk of a store in a file.
//!
//! The disk holds the lock for the whole process, through one open file. redb's own lock would end with each reopened
//! database, and another process could take the file meanwhile.

use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;
use redb::backends::FileBackend;

use super::file::sync_directory_of;
use crate::store::contract::OpenError;

/// The free space that a writable disk has at least. With less, the next writes would fail one after another.
const ROOM: usize = 256 << 10;

/// Where the bytes of a store are.
pub(super) trait Disk: Debug + Send + Sync {
    /// Opens the bytes for reading and writing; creates them if they are missing. Fails on a full disk.
    fn open_writable(&self) -> Result<Arc<dyn StorageBackend>, OpenError>;

    /// Opens the bytes for reading.
    fn open_read_only(&self) -> Result<Arc<dyn StorageBackend>, OpenError>;

    /// Removes a file that [`Disk::open_writable`] created, and that holds no store yet.
    fn remove_created(&self);
}

/// A store's file.
#[derive(Debug)]
pub(super) struct FileDisk {
    path: PathBuf,
    open: Mutex<Option<OpenFile>>,
}

/// The open file, which holds the lock.
#[derive(Debug)]
struct OpenFile {
    handle: File,
    backend: Arc<FileBackend>,
    is_writable: bool,
    is_new: bool,
}

impl FileDisk {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: Mutex::new(None) }
    }

    fn error(&self, source: io::Error) -> OpenError {
        OpenError::Unavailable { location: self.path.display().to_string(), source: source.into() }
    }

    fn directory(&self) -> &Path {
        let directory = self.path.parent().filter(|directory| !directory.as_os_str().is_empty());
        directory.unwrap_or(Path::new("."))
    }

    /// Creates the directory of the file.
    fn create_directory(&self) -> Result<(), OpenError> {
        let directory = self.directory();
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|source| {
            OpenError::Unavailable { location: directory.display().to_string(), source: source.into() }
        })
    }

    /// Opens the file for writing, or creates it. Returns whether it is new.
    fn open_or_create(&self) -> io::Result<(File, bool)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        match options.create_new(true).open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Ok((options.create_new(false).open(&self.path)?, false))
            }
            created => Ok((created?, true)),
        }
    }

    /// Takes the lock of the open file: for writing an exclusive one, otherwise a shared one.
    fn lock(&self, handle: File, is_writable: bool, is_new: bool) -> Result<OpenFile, OpenError> {
        let locked = if is_writable { handle.try_lock() } else { handle.try_lock_shared() };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse(self.path.display().to_string()));
            }
            // A file system without locks.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(self.error(error)),
        }
        let backend = handle.try_clone().map_err(|error| self.error(error))?;
        let backend = FileBackend::new(backend).map_err(|error| self.error(io::Error::other(error)))?;
        Ok(OpenFile { handle, backend: Arc::new(backend), is_writable, is_new })
    }

    /// Checks that the disk has room and accepts writes, by a file that is removed again.
    fn check_room(&self) -> io::Result<()> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".room");
        let path = PathBuf::from(name);
        let mut file =
            match OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path) {
                // The store's file may be writable although its directory is not.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
                file => file?,
            };
        let written = file.write_all(&vec![0; ROOM]).and_then(|()| file.sync_data());
        // An error of the removal adds no information: the next check replaces the file.
        let _ = fs::remove_file(&path);
        written
    }
}

impl Disk for FileDisk {
    fn open_writable(&self) -> Result<Arc<dyn StorageBackend>, OpenError> {
        let mut open = self.open.lock();
        let Some(file) = open.as_ref().filter(|file| file.is_writable) else {
            self.create_directory()?;
            let (handle, is_new) = self.open_or_create().map_err(|error| self.error(error))?;
            // An exclusive lock conflicts with the shared one of this process too.
            if let Some(file) = open.take() {
                file.handle.unlock().map_err(|error| self.error(error))?;
            }
            let file = self.lock(handle, true, is_new)?;
            let backend = Arc::clone(&file.backend);
            *open = Some(file);
            self.check_room().map_err(|error| self.error(error))?;
            sync_directory_of(&self.path).map_err(|error| self.error(error))?;
            return Ok(backend);
        };
        self.check_room().map_err(|error| self.error(error))?;
        Ok(Arc::clone(&file.backend) as _)
    }

    fn open_read_only(&self) -> Result<Arc<dyn StorageBackend>, OpenError> {
        let mut open = self.open.lock();
        if let Some(file) = &*open {
            return Ok(Arc::clone(&file.backend) as _);
        }
        let handle = File::open(&self.path).map_err(|error| self.error(error))?;
        let file = self.lock(handle, false, false)?;
        let backend = Arc::clone(&file.backend);
        *open = Some(file);
        Ok(backend)
    }

    fn remove_created(&self) {
        let mut open = self.open.lock();
        if open.take_if(|file| file.is_new).is_some()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the unfinished store");
        }
    }
}
