//! What the file promises beyond the contract: what is there after every kind of end, and whose it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redb::StorageBackend;

use super::*;

/// How long a store that is gone may hold its file.
const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn site() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.redb");
    (directory, path)
}

#[tokio::test]
async fn what_was_written_is_there_after_an_orderly_stop_and_after_any_other() {
    let (_kept, path) = site();
    for (round, orderly) in [true, false, true].into_iter().enumerate() {
        let store = reopen(&path).await;
        let found = store.list("", None, 9).await.expect("lists");
        assert_eq!(found.len(), round, "before round {round}");
        let revision = store.write(Batch::default().put(format!("k{round}"), "v")).await.expect("writes");
        assert_eq!(revision, round as u64 + 1, "revisions go on");
        if orderly {
            store.close().await.expect("closes");
        }
    }
}

/// Opens a file that the writer of a store which is gone may hold for a moment longer.
pub(super) async fn reopen(path: &Path) -> RedbStore {
    reopen_with(path, schema::STEPS).await
}

/// The same, by a version with these steps.
pub(super) async fn reopen_with(path: &Path, steps: &[Step]) -> RedbStore {
    open(path, steps).await.expect("opens")
}

/// What comes of opening it, once nobody else has it.
pub(super) async fn open(path: &Path, steps: &[Step]) -> Result<RedbStore, OpenError> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match RedbStore::open_with(path, steps) {
            Err(OpenError::InUse(_)) if Instant::now() < deadline => tokio::task::yield_now().await,
            opened => return opened,
        }
    }
}

/// A disk that can be told to be full.
#[derive(Debug)]
struct Disk {
    inner: redb::backends::InMemoryBackend,
    full: Arc<AtomicBool>,
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.write(offset, data)
    }
}

#[tokio::test]
async fn a_write_that_fails_is_refused_and_told() {
    let full = Arc::new(AtomicBool::new(false));
    let disk = Disk { inner: redb::backends::InMemoryBackend::new(), full: Arc::clone(&full) };
    let database = Builder::new().create_with_backend(disk).expect("is made");
    let store = RedbStore::over(database, Path::new("test"), schema::STEPS);
    let store = store.expect("opens");
    store.write(Batch::default().put("a", "1")).await.expect("writes");
    full.store(true, Ordering::SeqCst);
    let refused = store.write(Batch::default().put("a", "2")).await;
    assert!(matches!(refused, Err(WriteError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    assert!(matches!(store.failed().await, StoreError::Unavailable(_)));
}

#[test]
fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (_kept, path) = site();
    let _store = RedbStore::open(&path).expect("opens");
    assert_eq!(std::fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_of_a_later_schema_is_refused_by_name() {
    let (_kept, path) = site();
    let database = Database::create(&path).expect("is made");
    let write = database.begin_write().expect("begins");
    let later = schema::version(schema::STEPS) + 1;
    write.open_table(META).expect("opens").insert(SCHEMA, later).expect("is put");
    write.commit().expect("is written");
    drop(database);
    let error = RedbStore::open(&path).err().expect("is refused");
    assert!(matches!(error, OpenError::Newer { found, .. } if found == later), "{error}");
}

#[test]
fn what_is_no_store_is_left_as_it_was() {
    let (_kept, path) = site();
    let text = "my own notes\n".repeat(1000);
    std::fs::write(&path, &text).expect("is written");
    let error = RedbStore::open(&path).err().expect("is refused");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).expect("text"), text);
}

#[test]
fn a_store_in_use_is_not_opened_twice() {
    let (_kept, path) = site();
    let _first = RedbStore::open(&path).expect("opens");
    assert!(matches!(RedbStore::open(&path), Err(OpenError::InUse(_))));
}
