//! Damage to a cleanly closed file: every copy opens with all records, or not at all, and no copy causes a panic.
//!
//! `VOLBOOT_DAMAGED_COPIES=200` sets the number of copies for each kind of damage.

use std::ops::Range;

use super::current::SHORT_READ;
use super::tests::{open, reopen, site};
use super::*;

/// The records of the store, which fill several hundred pages.
const RECORDS: usize = 2000;
const PAGE: usize = 4096;

/// A generator of positions and bytes, the same in each run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        number ^ (number >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("fits")
    }
}

/// Writes the records in several commits, closes the store, and returns the file's bytes.
async fn write_store(path: &Path) -> Vec<u8> {
    let store = write_records(path).await;
    store.close().await.expect("closes");
    drop(store);
    let bytes = wait_for_close(path).await;
    assert!(bytes.len() > 100 * PAGE, "{} bytes", bytes.len());
    bytes
}

/// The same without closing: the file's bytes are those that `kill -9` leaves.
async fn write_unclosed_store(path: &Path) -> Vec<u8> {
    let store = write_records(path).await;
    let bytes = fs::read(path).expect("reads");
    store.close().await.expect("closes");
    bytes
}

async fn write_records(path: &Path) -> RedbStore {
    let store = reopen(path).await;
    for part in 0..20 {
        let batch = (part..RECORDS).step_by(20).fold(Batch::default(), |batch, n| {
            batch.put(format!("node/{n:05}"), format!("{{\"name\": \"node-{n}\", \"extra\": \"{n:0200}\"}}"))
        });
        store.write(batch).await.expect("writes");
    }
    store
}

/// Reads the file once no store has it open.
async fn wait_for_close(path: &Path) -> Vec<u8> {
    loop {
        let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("exists");
        if file.try_lock().is_ok() {
            return fs::read(path).expect("reads");
        }
        tokio::task::yield_now().await;
    }
}

/// Every damage, by its number.
fn damage(bytes: &mut Vec<u8>, kind: usize, numbers: &mut Numbers) -> String {
    let length = bytes.len();
    let page = |numbers: &mut Numbers, pages: Range<usize>| {
        let start = (pages.start + numbers.below(pages.len())) * PAGE;
        start..start + PAGE
    };
    let used = 1..length / PAGE;
    match kind {
        0 => {
            let at = numbers.below(length);
            bytes[at] ^= 1 << numbers.below(8);
            format!("a bit of byte {at}")
        }
        1 => {
            let page = page(numbers, used);
            bytes[page.clone()].fill(0);
            format!("zeros at {page:?}")
        }
        2 => {
            let page = page(numbers, used);
            bytes[page.clone()].fill_with(|| numbers.next().to_le_bytes()[0]);
            format!("noise at {page:?}")
        }
        3 => {
            let (from, to) = (page(numbers, used.clone()), page(numbers, used));
            bytes.copy_within(from.clone(), to.start);
            format!("{from:?} copied to {to:?}")
        }
        4 => {
            let at = numbers.below(320);
            bytes[at] = numbers.next().to_le_bytes()[0];
            format!("byte {at} of the header")
        }
        5 => {
            let at = numbers.below(320);
            bytes[at..320].fill_with(|| numbers.next().to_le_bytes()[0]);
            format!("noise in the header from {at}")
        }
        _ => {
            bytes.truncate(numbers.below(length));
            format!("cut to {} bytes", bytes.len())
        }
    }
}

#[tokio::test]
async fn a_damaged_file_is_served_whole_or_not_at_all() {
    let (_directory, path) = site();
    let bytes = write_store(&path).await;
    check_damaged_copies(&path, &bytes).await;
}

#[tokio::test]
async fn a_file_that_was_damaged_after_a_kill_is_served_whole_or_not_at_all() {
    let (_directory, path) = site();
    let bytes = write_unclosed_store(&path).await;
    check_damaged_copies(&path, &bytes).await;
}

/// Opens damaged copies of these bytes: each has all records of the store at `path`, or is refused and unchanged.
async fn check_damaged_copies(path: &Path, bytes: &[u8]) {
    let copies: u64 =
        std::env::var("VOLBOOT_DAMAGED_COPIES").map_or(5, |text| text.parse().expect("a number"));
    let expected = reopen(path).await.list("", None, RECORDS + 1).await.expect("lists");
    assert_eq!(expected.len(), RECORDS);
    let copy = path.with_file_name("copy.redb");
    let (mut refused, mut served) = (0, 0);
    for kind in 0..7 {
        for seed in 0..copies {
            let mut damaged = bytes.to_vec();
            let what = damage(&mut damaged, kind, &mut Numbers(seed));
            fs::write(&copy, &damaged).expect("writes");
            match open(&copy, schema::STEPS).await {
                Ok(store) => {
                    served += 1;
                    let records = store.list("", None, RECORDS + 1).await.expect("lists");
                    assert!(records == expected, "{} records after damage: {what}", records.len());
                    store.write(Batch::default().put("new", "1")).await.expect("writes");
                    store.close().await.expect("closes");
                    drop(store);
                    wait_for_close(&copy).await;
                }
                Err(OpenError::Damaged { .. }) => {
                    refused += 1;
                    assert!(fs::read(&copy).expect("reads") == damaged, "the file was changed after: {what}");
                }
                Err(error) => panic!("{error} after damage: {what}"),
            }
        }
    }
    println!("{refused} damaged copies refused, {served} served with all records");
    assert!(refused > 0 && served > 0);
}

/// The flags of the header have no checksum. A wrong one may select the older commit.
#[tokio::test]
async fn no_bit_of_the_flags_hides_a_record() {
    let (_directory, path) = site();
    let bytes = write_store(&path).await;
    check_flags(&path, &bytes).await;
}

/// After a kill, the older commit lacks an acknowledged write.
#[tokio::test]
async fn no_bit_of_the_flags_hides_a_record_after_a_kill() {
    let (_directory, path) = site();
    let bytes = write_unclosed_store(&path).await;
    check_flags(&path, &bytes).await;
}

/// A damaged transaction id makes a commit look older than the one before.
#[tokio::test]
async fn no_byte_of_a_transaction_id_hides_a_record_after_a_kill() {
    let (_directory, path) = site();
    let bytes = write_unclosed_store(&path).await;
    for start in [168, 296] {
        let ids = (start..start + 8).flat_map(|at| [(at, bytes[at] ^ 1), (at, bytes[at] ^ 0x82)]);
        check_header_bytes(&path, &bytes, ids).await;
    }
}

async fn check_flags(path: &Path, bytes: &[u8]) {
    assert!(check_header_bytes(path, bytes, (0..16).map(|flags| (9, flags))).await > 0);
}

/// Opens copies with one changed byte; returns how many are served, with all records.
async fn check_header_bytes(path: &Path, bytes: &[u8], changes: impl Iterator<Item = (usize, u8)>) -> usize {
    let copy = path.with_file_name("copy.redb");
    let mut served = 0;
    for (at, byte) in changes {
        let mut damaged = bytes.to_vec();
        damaged[at] = byte;
        fs::write(&copy, damaged).expect("writes");
        match open(&copy, schema::STEPS).await {
            Ok(store) => {
                let records = store.list("", None, RECORDS + 1).await.expect("lists");
                assert_eq!(records.len(), RECORDS, "{byte:#010b} at {at}");
                served += 1;
                store.close().await.expect("closes");
                drop(store);
                wait_for_close(&copy).await;
            }
            Err(error) => {
                assert!(matches!(error, OpenError::Damaged { .. }), "{byte:#010b} at {at}: {error}");
            }
        }
    }
    served
}

#[tokio::test]
async fn an_empty_file_beside_a_trace_of_a_store_is_damaged() {
    for trace in ["history.redb", "store.redb.schema-1"] {
        let (directory, path) = site();
        fs::write(&path, "").expect("writes");
        fs::write(directory.path().join(trace), "").expect("writes");
        let error = RedbStore::open(&path).err().expect("is refused");
        assert!(matches!(&error, OpenError::Damaged { .. }), "{error}");
        assert!(error.is_permanent());
        let cause = std::error::Error::source(&error).expect("has a cause").to_string();
        assert!(cause.contains(trace), "{cause}");
        assert_eq!(fs::metadata(&path).expect("exists").len(), 0);
        // An operator who removes the file wants a new store.
        fs::remove_file(&path).expect("is removed");
        RedbStore::open(&path).expect("opens");
    }
    let (_directory, path) = site();
    fs::write(&path, "").expect("writes");
    RedbStore::open(&path).expect("opens");
}

#[tokio::test]
async fn an_interrupted_creation_leaves_no_damaged_store() {
    let (directory, path) = site();
    let unfinished = directory.path().join("store.redb.new");
    fs::write(&unfinished, "part of a header").expect("writes");
    drop(RedbStore::open(&path).expect("opens"));
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_panic_of_redb_while_serving_is_an_error_and_a_failure() {
    let (_directory, path) = site();
    let store = reopen(&path).await;
    for records in [1, SHORT_READ + 1] {
        let result = store.read(records, |_| -> Result<(), redb::Error> { panic!("page 3") }).await;
        assert!(matches!(result, Err(StoreError::Damaged(cause)) if cause == "page 3"));
    }
    assert!(matches!(store.wait_for_failure().await, StoreError::Damaged(_)));
}

#[tokio::test]
async fn a_page_that_redb_finds_damaged_while_serving_is_a_failure() {
    let (_directory, path) = site();
    let store = reopen(&path).await;
    let corrupted = |_: &Database| Err::<(), _>(redb::Error::Corrupted("page 3".into()));
    assert!(matches!(store.read(1, corrupted).await, Err(StoreError::Damaged(_))));
    assert!(matches!(store.wait_for_failure().await, StoreError::Damaged(_)));
}
