//! Failures of the disk: a failed write makes the store read-only, loses no acknowledged write, and ends with the
//! failure. A start on a full disk serves reads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

use super::super::disk::{Disk, FileDisk};
use super::super::file::RECORDS;
use super::super::file::{needs_reopening, run};
use super::faulty_disk::{FaultyDisk, FaultyPlace};
use super::*;
use crate::store::schema::STEPS;

fn start_on(disk: Arc<dyn Disk>, path: &Path, steps: &'static [Step]) -> Result<RedbStore, OpenError> {
    RedbStore::open_source(Source { disk, path: path.into(), steps, retry: Duration::from_millis(1) }, |_| {})
}

fn start(disk: &Arc<FaultyDisk>) -> Result<RedbStore, OpenError> {
    start_on(Arc::new(FaultyPlace(Arc::clone(disk))), Path::new("test"), STEPS)
}

async fn put(store: &RedbStore, key: &str, value: impl Into<Vec<u8>>) -> Result<Revision, WriteError> {
    store.write(Batch::default().put(key, value.into())).await
}

/// All records: each key and the length of its value.
async fn contents(store: &RedbStore) -> Vec<(String, usize)> {
    let records = store.list("", None, 1000).await.expect("lists");
    records.into_iter().map(|record| (record.key, record.value.len())).collect()
}

async fn wait_until_writable(store: &RedbStore) {
    let mut current = store.current.0.clone();
    let is_writable = current.wait_for(|generation| generation.access == StoreAccess::ReadWrite);
    tokio::time::timeout(LIMIT, is_writable).await.expect("in time").expect("the writer thread runs");
}

/// The number of disk operations of one write, with a margin: the loops below end there.
const MAX_OPERATIONS: usize = 300;

#[tokio::test]
async fn a_failure_at_any_write_makes_the_store_read_only_and_loses_nothing() {
    let mut failures = 0;
    for position in 0.. {
        assert!(position < MAX_OPERATIONS, "the write never succeeds");
        let disk = Arc::<FaultyDisk>::default();
        let store = start(&disk).expect("opens");
        let mut expected = Vec::new();
        for number in 0..3 {
            put(&store, &format!("k{number}"), vec![1; 100]).await.expect("writes");
            expected.push((format!("k{number}"), 100));
        }
        disk.fail_after(position);
        // Several values make the file grow.
        let result = put(&store, "k1", vec![1; 1 << 20]).await;
        let Err(error) = result else { break };
        failures += 1;
        let WriteError::Store(StoreError::ReadOnly(reason)) = &error else { panic!("{error:?}") };
        assert!(reason.starts_with("cannot write test: no storage space"), "{reason}");
        assert_eq!(store.access(), StoreAccess::ReadOnly("cannot write test: no storage space".into()));
        if reason.contains("did not confirm") {
            expected[1].1 = 1 << 20;
        }
        assert_eq!(contents(&store).await, expected, "position {position}");
        let refused = put(&store, "k4", "v").await;
        assert!(matches!(refused, Err(WriteError::Store(StoreError::ReadOnly(_)))), "{refused:?}");

        // A restart on the full disk shows the same records.
        drop(store);
        let store = start(&disk).expect("opens read-only");
        assert!(matches!(store.access(), StoreAccess::ReadOnly(_)), "position {position}");
        assert_eq!(contents(&store).await, expected, "position {position} after a restart");

        disk.mend();
        wait_until_writable(&store).await;
        put(&store, "k5", "later").await.expect("writes");
        expected.push(("k5".into(), 5));
        assert_eq!(contents(&store).await, expected, "position {position} after the recovery");
        store.close().await.expect("closes");
        drop(store);
        assert_eq!(contents(&start(&disk).expect("opens")).await, expected);
    }
    assert!(failures >= 5, "only {failures} positions");
}

#[tokio::test]
async fn a_failure_at_any_write_of_a_start_or_a_recovery_loses_nothing() {
    for position in 0..MAX_OPERATIONS {
        let disk = Arc::<FaultyDisk>::default();
        let store = start(&disk).expect("opens");
        put(&store, "a", "1").await.expect("writes");
        // An unclean stop.
        drop(store);
        disk.fail_after(position);
        let store = start(&disk).expect("opens");
        let is_read_only = store.access() != StoreAccess::ReadWrite;
        assert_eq!(contents(&store).await, [("a".to_owned(), 1)], "position {position}");
        // The attempts to recover fail at further positions.
        for further in 0..3 {
            disk.fail_after(further);
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert_eq!(contents(&store).await, [("a".to_owned(), 1)], "position {position}, {further}");
        }
        disk.mend();
        wait_until_writable(&store).await;
        // A recovery that took place before the last fault counts as well.
        if put(&store, "a", "22").await.is_err() {
            wait_until_writable(&store).await;
            put(&store, "a", "22").await.expect("writes");
        }
        assert_eq!(contents(&store).await, [("a".to_owned(), 2)]);
        if !is_read_only {
            assert!(position >= 3, "only {position} positions");
            return;
        }
    }
    panic!("the start never succeeds");
}

#[tokio::test]
async fn reads_go_on_while_writes_fail_and_while_the_store_is_reopened() {
    let disk = Arc::<FaultyDisk>::default();
    let store = Arc::new(start(&disk).expect("opens"));
    for number in 0..300 {
        put(&store, &format!("k{number:03}"), "v").await.expect("writes");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|reader| {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // Short and long reads.
                    let limit = if reader % 2 == 0 { 100 } else { 1000 };
                    let count = store.list("k", None, limit).await.expect("reads").len();
                    assert_eq!(count, limit.min(300));
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for _ in 0..20 {
        disk.fail_after(1);
        put(&store, "k000", "w").await.expect_err("fails");
        disk.mend();
        wait_until_writable(&store).await;
        put(&store, "k001", "v").await.expect("writes");
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("no read failed");
    }
}

/// A long read may begin while the store is read-only, and last longer. Its pages are not those of later writes.
#[tokio::test]
async fn a_read_of_a_read_only_store_never_shows_later_writes() {
    let disk = Arc::<FaultyDisk>::default();
    let store = start(&disk).expect("opens");
    let fill = async |value: &str| {
        for number in 0..100 {
            put(&store, &format!("k{number:03}"), value.repeat(200_000)).await.expect("writes");
        }
    };
    fill("a").await;
    disk.fail_after(0);
    put(&store, "k000", "b").await.expect_err("fails");
    // The records exceed redb's cache: the read needs the disk later.
    let generation = store.current.0.borrow().clone();
    let read = generation.database.begin_read().expect("begins");
    disk.mend();
    wait_until_writable(&store).await;
    fill("c").await;
    fill("d").await;
    let values = run(|| {
        let records = read.open_table(RECORDS)?;
        let values = records.iter()?.map(|entry| Ok(entry?.1.value().1.to_vec()));
        values.collect::<Result<Vec<_>, redb::Error>>()
    });
    match values {
        Ok(values) => {
            assert!(values.iter().all(|value| *value == b"a".repeat(200_000)), "it shows later writes");
        }
        Err(error) => assert!(needs_reopening(&error), "{error}"),
    }
}

#[tokio::test]
async fn a_failed_read_is_repeated_on_the_reopened_store() {
    let disk = Arc::<FaultyDisk>::default();
    let store = start(&disk).expect("opens");
    put(&store, "a", "1").await.expect("writes");
    drop(store);
    let store = start(&disk).expect("opens");
    disk.set_unreadable(true);
    // The cache may still answer; a store whose disk cannot be read fails, and recovers.
    let _ = store.list("", None, 9).await;
    let _ = put(&store, "b", "1").await;
    disk.set_unreadable(false);
    assert_eq!(contents(&store).await[0], ("a".to_owned(), 1));
    wait_until_writable(&store).await;
    put(&store, "b", "1").await.expect("writes");
}

/// A file whose disk is full while the switch is on.
#[derive(Debug)]
struct SwitchedDisk {
    file: FileDisk,
    is_full: Arc<AtomicBool>,
}

impl SwitchedDisk {
    fn check(&self) -> Result<(), OpenError> {
        if self.is_full.load(Ordering::SeqCst) {
            let source = io::Error::from(io::ErrorKind::StorageFull).into();
            return Err(OpenError::Unavailable { location: "test".into(), source });
        }
        Ok(())
    }
}

impl Disk for SwitchedDisk {
    fn open_existing(&self) -> Result<Option<Arc<dyn StorageBackend>>, OpenError> {
        self.file.open_existing()
    }

    fn open_writable(&self) -> Result<Arc<dyn StorageBackend>, OpenError> {
        self.check()?;
        self.file.open_writable()
    }

    fn create(&self, schema: u64) -> Result<(), OpenError> {
        self.check()?;
        self.file.create(schema)
    }
}

#[tokio::test]
async fn an_older_store_on_a_full_disk_is_migrated_in_memory_first() {
    const APPEND: &[Step] = &[|records| {
        for (key, mut value) in records.list("")? {
            value.push(b'x');
            records.put(&key, &value)?;
        }
        Ok(())
    }];
    let (_directory, path) = site();
    let store = reopen_with(&path, &[]).await;
    put(&store, "a", "1").await.expect("writes");
    store.close().await.expect("closes");
    drop(store);
    // The dropped store may still write for a moment.
    let file = fs::File::open(&path).expect("exists");
    while file.try_lock().is_err() {
        tokio::task::yield_now().await;
    }
    let before = fs::read(&path).expect("reads");
    drop(file);
    let is_full = Arc::new(AtomicBool::new(true));
    let disk = SwitchedDisk { file: FileDisk::new(&path), is_full: Arc::clone(&is_full) };
    let store = start_on(Arc::new(disk), &path, APPEND).expect("opens read-only");
    assert_eq!(contents(&store).await, [("a".to_owned(), 2)]);
    assert!(fs::read(&path).expect("reads") == before, "the file is unchanged");
    assert!(!path.with_extension("redb.schema-1").exists());
    assert!(matches!(RedbStore::open(&path), Err(OpenError::InUse(_))), "the file is locked");
    is_full.store(false, Ordering::SeqCst);
    wait_until_writable(&store).await;
    assert_eq!(contents(&store).await, [("a".to_owned(), 2)], "migrated once");
    assert!(path.with_extension("redb.schema-1").exists());
}

#[tokio::test]
async fn a_damaged_file_on_a_full_disk_is_damaged() {
    let (_directory, path) = site();
    fs::write(&path, "my own notes\n".repeat(1000)).expect("is written");
    let is_full = Arc::new(AtomicBool::new(true));
    let error = start_on(Arc::new(SwitchedDisk { file: FileDisk::new(&path), is_full }), &path, STEPS).err();
    assert!(matches!(error, Some(OpenError::Damaged { .. })), "{error:?}");
}

#[tokio::test]
async fn a_new_store_on_a_full_disk_says_so() {
    let (_directory, path) = site();
    let is_full = Arc::new(AtomicBool::new(true));
    let error = start_on(Arc::new(SwitchedDisk { file: FileDisk::new(&path), is_full }), &path, STEPS).err();
    assert!(matches!(error, Some(OpenError::Unavailable { .. })), "{error:?}");
    assert!(!path.exists(), "no empty file is left behind");
    let disk = Arc::<FaultyDisk>::default();
    for position in 0..3 {
        disk.fail_after(position);
        let error = start(&disk).err();
        assert!(matches!(error, Some(OpenError::Unavailable { .. })), "{position}: {error:?}");
    }
}
