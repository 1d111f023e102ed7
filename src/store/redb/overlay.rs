//! [`OverlayBackend`]: reads from a disk, and keeps all writes in memory.
//!
//! redb writes to a file even when it only opens it: a header, and a repair after an unclean stop. With an overlay, an
//! integrity check leaves the file unchanged, and a store on a full or read-only disk opens nevertheless.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::RwLock;
use redb::StorageBackend;

/// The unit in which writes are kept.
const PAGE: u64 = 4096;
/// The most pages in memory: 64 MiB. Only the migration of a large store in memory needs more than a few.
const MAX_PAGES: usize = 16 << 10;

/// A disk with changes in memory, lost when dropped.
#[derive(Debug)]
pub(crate) struct OverlayBackend {
    disk: Arc<dyn StorageBackend>,
    changes: RwLock<Changes>,
}

struct Changes {
    len: u64,
    /// The bytes that are still the disk's. Later ones are zero unless written.
    disk_len: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl std::fmt::Debug for Changes {
    /// Leaves out the pages, which hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} pages", self.pages.len())
    }
}

impl OverlayBackend {
    pub(crate) fn new(disk: Arc<dyn StorageBackend>) -> io::Result<Self> {
        let len = disk.len()?;
        Ok(Self { disk, changes: RwLock::new(Changes { len, disk_len: len, pages: BTreeMap::new() }) })
    }

    /// Reads from the disk alone, with zeros after its end.
    fn read_disk(&self, disk_len: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let available = disk_len.saturating_sub(offset).min(out.len() as u64) as usize;
        let (present, absent) = out.split_at_mut(available);
        absent.fill(0);
        if present.is_empty() { Ok(()) } else { self.disk.read(offset, present) }
    }
}

/// Splits a range at page borders: each page's number, the range within the page, and the range within the buffer.
fn split(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let start = (at % PAGE) as usize;
        let count = (PAGE as usize - start).min(len - done);
        let part = (at / PAGE, start..start + count, done..done + count);
        done += count;
        Some(part)
    })
}

impl StorageBackend for OverlayBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes.read().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changes = self.changes.read();
        if offset.saturating_add(out.len() as u64) > changes.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if changes.pages.range(offset / PAGE..=(offset + out.len() as u64) / PAGE).next().is_none() {
            return self.read_disk(changes.disk_len, offset, out);
        }
        for (number, within, part) in split(offset, out.len()) {
            let out = &mut out[part];
            match changes.pages.get(&number) {
                Some(page) => out.copy_from_slice(&page[within]),
                None => self.read_disk(changes.disk_len, number * PAGE + within.start as u64, out)?,
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changes = self.changes.write();
        if len < changes.len {
            changes.disk_len = changes.disk_len.min(len);
            drop(changes.pages.split_off(&len.div_ceil(PAGE)));
            if let Some(page) = changes.pages.get_mut(&(len / PAGE)) {
                page[(len % PAGE) as usize..].fill(0);
            }
        }
        changes.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changes = self.changes.write();
        if offset.saturating_add(data.len() as u64) > changes.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, part) in split(offset, data.len()) {
            if !changes.pages.contains_key(&number) {
                if changes.pages.len() >= MAX_PAGES {
                    return Err(io::Error::new(io::ErrorKind::StorageFull, "too many changes in memory"));
                }
                let mut page = vec![0; PAGE as usize].into_boxed_slice();
                self.read_disk(changes.disk_len, number * PAGE, &mut page)?;
                changes.pages.insert(number, page);
            }
            if let Some(page) = changes.pages.get_mut(&number) {
                page[within].copy_from_slice(&data[part]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    fn read(backend: &dyn StorageBackend, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0xff; len];
        backend.read(offset, &mut out).expect("reads");
        out
    }

    #[test]
    fn reads_show_the_disk_with_all_changes_and_the_disk_stays_unchanged() {
        const LEN: usize = 3 * PAGE as usize + 100;
        let disk = Arc::new(InMemoryBackend::new());
        disk.set_len(LEN as u64).expect("grows");
        disk.write(0, &[1; LEN]).expect("writes");
        let overlay = OverlayBackend::new(Arc::clone(&disk) as _).expect("opens");
        // The model: the same operations on plain bytes.
        let mut model = vec![1; LEN];
        let page = PAGE as usize;
        for (offset, len) in [(10, 20), (page - 5, 10), (2 * page, page), (LEN - 7, 7)] {
            overlay.write(offset as u64, &vec![2; len]).expect("writes");
            model[offset..offset + len].fill(2);
            assert_eq!(read(&overlay, 0, LEN), model);
        }
        for len in [LEN + page, page + 50, 2 * page, 2 * page + 60, 30, LEN] {
            overlay.set_len(len as u64).expect("changes the length");
            model.resize(len, 0);
            assert_eq!(overlay.len().expect("a length"), len as u64);
            assert_eq!(read(&overlay, 0, len), model, "length {len}");
        }
        assert!(overlay.read(LEN as u64 - 1, &mut [0; 2]).is_err());
        assert!(overlay.write(LEN as u64 - 1, &[0; 2]).is_err());
        assert_eq!(read(&*disk, 0, LEN), [1; LEN]);
    }
}
