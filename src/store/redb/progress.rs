//! [`CheckProgress`]: the progress of an integrity check that takes long. [`CountingBackend`] counts what the check reads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redb::StorageBackend;

/// The check's duration at which the first report is due. A check of ten thousand nodes takes less.
const FIRST_REPORT: Duration = Duration::from_millis(200);
/// The time between two reports.
const INTERVAL: Duration = Duration::from_secs(1);

/// Receives the percentage of the file that is checked.
pub type ProgressHook = fn(u8);

/// Counts the bytes that a check has read, and reports the percentage.
#[derive(Debug)]
pub(super) struct CheckProgress {
    path: String,
    file_bytes: u64,
    read_bytes: AtomicU64,
    started_at: Instant,
    /// Milliseconds from the start to the next report.
    next_report: AtomicU64,
    hook: ProgressHook,
}

impl CheckProgress {
    pub(super) fn new(path: String, file_bytes: u64, hook: ProgressHook) -> Self {
        Self {
            path,
            file_bytes,
            read_bytes: AtomicU64::new(0),
            started_at: Instant::now(),
            next_report: AtomicU64::new(to_millis(FIRST_REPORT)),
            hook,
        }
    }

    /// Adds bytes that were read.
    pub(super) fn add(&self, bytes: u64) {
        let read = self.read_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let elapsed = to_millis(self.started_at.elapsed());
        let due = self.next_report.load(Ordering::Relaxed);
        let next = elapsed + to_millis(INTERVAL);
        if elapsed < due
            || self.next_report.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let percent = calculate_percent(read, self.file_bytes);
        tracing::info!(path = self.path, percent, "checking the store");
        (self.hook)(percent);
    }
}

/// The percentage. A check reads each page once, and some pages again.
fn calculate_percent(read: u64, total: u64) -> u8 {
    u8::try_from(read.saturating_mul(100) / total.max(1)).unwrap_or(u8::MAX).min(99)
}

fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A disk that is read for an integrity check, under an overlay.
#[derive(Debug)]
pub(super) struct CountingBackend {
    disk: Arc<dyn StorageBackend>,
    progress: CheckProgress,
}

impl CountingBackend {
    pub(super) fn new(disk: Arc<dyn StorageBackend>, progress: CheckProgress) -> Self {
        Self { disk, progress }
    }
}

impl StorageBackend for CountingBackend {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)?;
        self.progress.add(out.len() as u64);
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_complete_only_at_its_end() {
        assert_eq!(calculate_percent(0, 200), 0);
        assert_eq!(calculate_percent(50, 200), 25);
        assert_eq!(calculate_percent(u64::MAX, 200), 99);
        assert_eq!(calculate_percent(0, 0), 0);
    }
}
