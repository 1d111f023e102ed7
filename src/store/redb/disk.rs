//! [`Disk`]: where the bytes of a store are. [`FileDisk`] is the disk of a store in a file.
//!
//! The disk holds the lock for the whole process, through one open file. redb's own lock would end with each reopened
//! database, and another process could take the file meanwhile.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;
use redb::backends::FileBackend;

use super::creation::NewFile;
use super::file::append_to_name;
use crate::store::contract::OpenError;

/// The free space that a writable disk has at least. With less, the next writes would fail one after another.
const ROOM: usize = 256 << 10;

/// Where the bytes of a store are.
pub(super) trait Disk: Debug + Send + Sync {
    /// Opens the bytes of an existing store; for writing, if the disk permits that. `None`: there is no file.
    fn open_existing(&self) -> Result<Option<Arc<dyn StorageBackend>>, OpenError>;

    /// Opens the bytes of an existing store for reading and writing. Fails on a full disk.
    fn open_writable(&self) -> Result<Arc<dyn StorageBackend>, OpenError>;

    /// Creates an empty store with this schema, or leaves nothing behind.
    fn create(&self, schema: u64) -> Result<(), OpenError>;
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
}

impl FileDisk {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: Mutex::new(None) }
    }

    fn error(&self, source: io::Error) -> OpenError {
        OpenError::Unavailable { location: self.path.display().to_string(), source: source.into() }
    }

    fn open_read_write(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(&self.path)
    }

    /// Takes the lock of the open file: for writing an exclusive one, otherwise a shared one.
    fn lock(&self, handle: File, is_writable: bool) -> Result<OpenFile, OpenError> {
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
        Ok(OpenFile { handle, backend: Arc::new(backend), is_writable })
    }

    /// Checks that the disk has room and accepts writes, by a file that is removed again.
    fn check_room(&self) -> io::Result<()> {
        let path = append_to_name(&self.path, ".room");
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
    fn open_existing(&self) -> Result<Option<Arc<dyn StorageBackend>>, OpenError> {
        let mut open = self.open.lock();
        if let Some(file) = &*open {
            return Ok(Some(Arc::clone(&file.backend) as _));
        }
        let opened = match self.open_read_write() {
            Ok(handle) => Ok((handle, true)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // The lock of a writer needs a handle that can write; fcntl(2), EBADF.
            Err(_) => File::open(&self.path).map(|handle| (handle, false)),
        };
        let (handle, is_writable) = opened.map_err(|error| self.error(error))?;
        let file = self.lock(handle, is_writable)?;
        let backend = Arc::clone(&file.backend);
        *open = Some(file);
        Ok(Some(backend))
    }

    fn open_writable(&self) -> Result<Arc<dyn StorageBackend>, OpenError> {
        let mut open = self.open.lock();
        let backend = if let Some(file) = open.as_ref().filter(|file| file.is_writable) {
            Arc::clone(&file.backend)
        } else {
            let handle = self.open_read_write().map_err(|error| self.error(error))?;
            // An exclusive lock conflicts with the shared one of this process too.
            if let Some(file) = open.take() {
                file.handle.unlock().map_err(|error| self.error(error))?;
            }
            let file = self.lock(handle, true)?;
            let backend = Arc::clone(&file.backend);
            *open = Some(file);
            backend
        };
        self.check_room().map_err(|error| self.error(error))?;
        Ok(backend)
    }

    fn create(&self, schema: u64) -> Result<(), OpenError> {
        let mut open = self.open.lock();
        let file = NewFile::create(&self.path)?;
        self.check_room().map_err(|error| self.error(error))?;
        // Another process may have created the store since the check.
        if fs::metadata(&self.path).is_ok_and(|present| present.len() > 0) {
            return Err(OpenError::InUse(self.path.display().to_string()));
        }
        file.finish_empty(schema)?;
        // An empty file, which the new one has replaced.
        *open = None;
        Ok(())
    }
}
