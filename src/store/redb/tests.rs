//! The guarantees of the redb store beyond the contract: durability after every kind of stop, and file permissions.

mod failures;
mod faulty_disk;

use std::time::{Duration, Instant};

use super::file::SCHEMA;
use super::*;
use crate::store::schema::Step;

/// How long a dropped store may still hold its file.
const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn site() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.redb");
    (directory, path)
}

#[tokio::test]
async fn writes_survive_a_clean_and_an_unclean_stop() {
    let (_directory, path) = site();
    for (round, clean) in [true, false, true].into_iter().enumerate() {
        let store = reopen(&path).await;
        let records = store.list("", None, 9).await.expect("lists");
        assert_eq!(records.len(), round, "before round {round}");
        let revision = store.write(Batch::default().put(format!("k{round}"), "v")).await.expect("writes");
        assert_eq!(revision, round as u64 + 1, "revisions continue");
        if clean {
            store.close().await.expect("closes");
        }
    }
}

/// Opens a file that a dropped store's writer thread may still hold for a moment.
pub(super) async fn reopen(path: &Path) -> RedbStore {
    reopen_with(path, schema::STEPS).await
}

/// Opens the file like [`reopen`], with these migration steps.
pub(super) async fn reopen_with(path: &Path, steps: &'static [Step]) -> RedbStore {
    open(path, steps).await.expect("opens")
}

/// Tries to open the file until it is not in use.
pub(super) async fn open(path: &Path, steps: &'static [Step]) -> Result<RedbStore, OpenError> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match RedbStore::open_source(Source::new(path, steps), |_| {}) {
            Err(OpenError::InUse(_)) if Instant::now() < deadline => tokio::task::yield_now().await,
            result => return result,
        }
    }
}

#[tokio::test]
async fn the_place_is_the_path_and_the_size_that_of_the_file() {
    let (_directory, path) = site();
    let info = RedbStore::open(&path).expect("opens").info().await.expect("reads");
    let bytes = fs::metadata(&path).expect("exists").len();
    assert_eq!(info, StoreInfo { location: path.display().to_string(), bytes: Some(bytes) });
}

#[test]
fn only_the_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let (_directory, path) = site();
    let _store = RedbStore::open(&path).expect("opens");
    assert_eq!(fs::metadata(&path).expect("exists").permissions().mode() & 0o777, 0o600);
}

#[test]
fn refuses_a_file_with_a_newer_schema() {
    let (_directory, path) = site();
    let database = Database::create(&path).expect("is created");
    let write = database.begin_write().expect("begins");
    let newer = schema::version(schema::STEPS) + 1;
    write.open_table(META).expect("opens").insert(SCHEMA, newer).expect("is put");
    write.commit().expect("is written");
    drop(database);
    let error = RedbStore::open(&path).err().expect("is refused");
    assert!(matches!(error, OpenError::Newer { schema, .. } if schema == newer), "{error}");
}

#[test]
fn leaves_other_files_unchanged() {
    let (_directory, path) = site();
    let text = "my own notes\n".repeat(1000);
    fs::write(&path, &text).expect("is written");
    let error = RedbStore::open(&path).err().expect("is refused");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("text"), text);
}

#[test]
fn refuses_to_open_a_store_in_use() {
    let (_directory, path) = site();
    let _first = RedbStore::open(&path).expect("opens");
    assert!(matches!(RedbStore::open(&path), Err(OpenError::InUse(_))));
}
