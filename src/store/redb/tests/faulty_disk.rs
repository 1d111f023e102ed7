//! [`FaultyDisk`]: a disk in memory that refuses writes or reads when a test says so.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::super::creation::create_tables;
use super::super::disk::Disk;
use super::super::file::begin_write;
use super::*;

/// The kernel's page size.
const PAGE: usize = 4096;

/// A disk in memory whose writes fail from a chosen one on. It survives its stores.
#[derive(Debug, Default)]
pub(super) struct FaultyDisk {
    bytes: InMemoryBackend,
    faults: Mutex<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    /// How many more writes, changes of the length and syncs succeed. `None`: all.
    remaining: Option<usize>,
    /// Whether reads fail.
    unreadable: bool,
}

impl FaultyDisk {
    pub(super) fn fail_after(&self, operations: usize) {
        self.faults.lock().remaining = Some(operations);
    }

    pub(super) fn mend(&self) {
        self.faults.lock().remaining = None;
    }

    pub(super) fn set_unreadable(&self, unreadable: bool) {
        self.faults.lock().unreadable = unreadable;
    }

    fn change(&self) -> io::Result<()> {
        match &mut self.faults.lock().remaining {
            None => Ok(()),
            Some(0) => Err(io::ErrorKind::StorageFull.into()),
            Some(remaining) => {
                *remaining -= 1;
                Ok(())
            }
        }
    }
}

/// The disk as a backend.
#[derive(Debug)]
struct FaultyBackend(Arc<FaultyDisk>);

impl StorageBackend for FaultyBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.0.faults.lock().unreadable {
            return Err(io::Error::other("bad sector"));
        }
        self.0.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.change()?;
        self.0.bytes.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.change()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Err(error) = self.0.change() {
            // A full disk takes the first pages of a write, and never a part of a page: Linux reserves the space of
            // a page before it copies the data (iomap_write_begin, ext4_write_begin).
            self.0.bytes.write(offset, &data[..data.len() / 2 / PAGE * PAGE])?;
            return Err(error);
        }
        self.0.bytes.write(offset, data)
    }
}

/// The disk's place. Each start of a store has its own.
#[derive(Debug)]
pub(super) struct FaultyPlace(pub(super) Arc<FaultyDisk>);

impl FaultyPlace {
    fn open(&self) -> Arc<dyn StorageBackend> {
        Arc::new(FaultyBackend(Arc::clone(&self.0)))
    }
}

impl Disk for FaultyPlace {
    fn open_existing(&self) -> Result<Option<Arc<dyn StorageBackend>>, OpenError> {
        Ok(Some(self.open()))
    }

    fn open_writable(&self) -> Result<Arc<dyn StorageBackend>, OpenError> {
        Ok(self.open())
    }

    fn create(&self, schema: u64) -> Result<(), OpenError> {
        let create = || -> Result<(), redb::Error> {
            let database = Database::builder().create_with_backend(FaultyBackend(Arc::clone(&self.0)))?;
            let write = begin_write(&database)?;
            create_tables(&write, schema, 0)?;
            Ok(write.commit()?)
        };
        create().map_err(|error| {
            self.0.bytes.set_len(0).expect("is emptied");
            OpenError::Unavailable { location: "test".into(), source: error.into() }
        })
    }
}
