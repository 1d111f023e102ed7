//! [`DirectBackend`]: reads from and writes to a disk, and remembers the first failure.
//!
//! redb refuses every operation after a failure, with an error that no longer names the cause. A reopened store retires
//! the old backend. A reader may hold the old database: its drop must not write to the file, and it must not read pages
//! that the new database reuses. redb verifies no checksum then.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

/// A disk that is written to, or the disk below an overlay.
#[derive(Debug)]
pub(super) struct DirectBackend {
    disk: Arc<dyn StorageBackend>,
    health: Arc<DiskHealth>,
}

/// The state of a [`DirectBackend`], for its owner.
#[derive(Debug, Default)]
pub(super) struct DiskHealth(Mutex<Health>);

#[derive(Debug, Default)]
struct Health {
    failure: Option<String>,
    is_retired: bool,
}

impl DirectBackend {
    pub(super) fn new(disk: Arc<dyn StorageBackend>, health: Arc<DiskHealth>) -> Self {
        Self { disk, health }
    }

    fn run<T>(&self, operation: impl FnOnce(&dyn StorageBackend) -> io::Result<T>) -> io::Result<T> {
        if self.health.0.lock().is_retired {
            return Err(io::Error::other("the store was reopened"));
        }
        operation(&*self.disk).inspect_err(|error| {
            self.health.0.lock().failure.get_or_insert_with(|| error.to_string());
        })
    }
}

impl DiskHealth {
    /// The first failure of the disk.
    pub(super) fn failure(&self) -> Option<String> {
        self.0.lock().failure.clone()
    }

    /// Refuses all further operations.
    pub(super) fn retire(&self) {
        self.0.lock().is_retired = true;
    }
}

impl StorageBackend for DirectBackend {
    fn len(&self) -> io::Result<u64> {
        self.run(StorageBackend::len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.run(|disk| disk.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.run(|disk| disk.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.run(StorageBackend::sync_data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.run(|disk| disk.write(offset, data))
    }
}
