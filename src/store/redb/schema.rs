//! How keys and values are to be read, as a number in the file, and what brings a file of an older number to ours.
//!
//! A change in how records are written that an older file does not have is a [`Step`] at the end of [`STEPS`], and a
//! file in `tests/golden/store`. All steps that a file needs, and its new number, are one transaction: there is no moment
//! at which it is between two schemas. Before that a copy of the file is put beside it, for whoever wants the older
//! version back; that one cannot read what ours has written.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::{Database, WriteTransaction};

use super::{META, OpenError, SCHEMA, begin, sync_directory_of};

/// Brings the records of one schema to the next, in a transaction that is not its own to end.
pub(super) type Step = fn(&WriteTransaction) -> Result<(), Failure>;
/// What a step failed with.
pub(super) type Failure = Box<dyn Error + Send + Sync>;

/// From schema 1 to 2, from 2 to 3, and so on.
pub(super) const STEPS: &[Step] = &[];

/// The schema to which these steps lead.
pub(super) const fn version(steps: &[Step]) -> u64 {
    1 + steps.len() as u64
}

/// Brings a file to the schema that the steps lead to. One that is new (`found` is none) is of that schema already.
pub(super) fn migrate(
    database: &Database,
    path: &Path,
    found: Option<u64>,
    steps: &[Step],
) -> Result<(), OpenError> {
    let to = version(steps);
    let first = found.unwrap_or(to);
    if found == Some(to) {
        return Ok(());
    }
    let copy = found.map(|found| keep_copy(path, found)).transpose()?;
    let failed = |from, to| {
        let path = path.display().to_string();
        move |source| OpenError::Migration { path, from, to, source }
    };
    let write = begin(database).map_err(|error| failed(first, to)(error.into()))?;
    for (step, from) in steps.iter().zip(1..).skip_while(|(_, from)| *from < first) {
        // A transaction that is dropped has changed nothing.
        step(&write).map_err(failed(from, from + 1))?;
    }
    commit(write, to).map_err(|error| failed(first, to)(error.into()))?;
    if let Some(copy) = copy {
        let (path, copy) = (path.display(), copy.display());
        tracing::info!(%path, from = first, to, %copy, "the store was migrated, and is kept as it was in a copy");
    }
    Ok(())
}

fn commit(write: WriteTransaction, schema: u64) -> Result<(), redb::Error> {
    write.open_table(META)?.insert(SCHEMA, schema)?;
    Ok(write.commit()?)
}

/// Copies the file as it is now, while nobody writes to it: `volboot.redb.schema-1`. What has that name is whole.
fn keep_copy(path: &Path, schema: u64) -> Result<PathBuf, OpenError> {
    let beside = |suffix: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (kept, unfinished) = (beside(format!(".schema-{schema}")), beside(format!(".schema-{schema}.new")));
    let copied = copy(path, &unfinished)
        .and_then(|()| fs::rename(&unfinished, &kept))
        .and_then(|()| sync_directory_of(path));
    if let Err(source) = copied {
        // It may be what fills the disk. That it cannot be removed either is no second reason.
        let _ = fs::remove_file(&unfinished);
        let (path, copy) = (path.display().to_string(), kept.display().to_string());
        return Err(OpenError::Copy { path, copy, source });
    }
    Ok(kept)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    // It holds the same secrets.
    let mut copy = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use redb::ReadableTable;

    use super::super::tests::{open, reopen, reopen_with, site};
    use super::super::{RECORDS, RedbStore};
    use super::*;
    use crate::store::{Batch, Store};

    /// Every value becomes longer by a letter, under its old revision.
    fn append(write: &WriteTransaction, letter: u8) -> Result<(), Failure> {
        let mut records = write.open_table(RECORDS)?;
        let mut all = Vec::new();
        for entry in records.iter()? {
            let (key, value) = entry?;
            let (revision, bytes) = value.value();
            all.push((key.value().to_owned(), revision, [bytes, &[letter]].concat()));
        }
        for (key, revision, bytes) in all {
            records.insert(key.as_str(), (revision, bytes.as_slice()))?;
        }
        Ok(())
    }

    const TWO: &[Step] = &[|write| append(write, b'x'), |write| append(write, b'y')];
    const SECOND_FAILS: &[Step] = &[|write| append(write, b'x'), |_| Err("no room for it".into())];
    const SECOND_IS_KILLED: &[Step] = &[|write| append(write, b'x'), |_| std::process::abort()];

    /// A file of schema 1 with two records.
    async fn written(path: &Path) {
        let store = reopen_with(path, &[]).await;
        store.write(Batch::default().put("a", "1").put("b", "2")).await.expect("writes");
        store.close().await.expect("closes");
    }

    async fn records(store: &RedbStore) -> Vec<(String, u64, String)> {
        let all = store.list("", None, 9).await.expect("lists");
        let text = |value| String::from_utf8(value).expect("text");
        all.into_iter().map(|record| (record.key, record.revision, text(record.value))).collect()
    }

    fn are(a: &str, b: &str) -> Vec<(String, u64, String)> {
        vec![("a".into(), 1, a.into()), ("b".into(), 1, b.into())]
    }

    fn copy_of(path: &Path) -> PathBuf {
        path.with_extension("redb.schema-1")
    }

    #[tokio::test]
    async fn an_older_file_is_brought_step_by_step_to_the_newest_schema_once() {
        let (_kept, path) = site();
        written(&path).await;
        for _ in 0..2 {
            let store = reopen_with(&path, TWO).await;
            assert_eq!(records(&store).await, are("1xy", "2xy"));
            assert!(
                matches!(RedbStore::open(&path), Err(OpenError::InUse(_))),
                "the copy took its lock away"
            );
            store.close().await.expect("closes");
        }
        let one = &TWO[..1];
        let error = open(&path, one).await.err().expect("is refused");
        let words = "has schema 3, this volboot knows up to 2: install the newer volboot again";
        assert_eq!(error.to_string(), format!("{} {words}", path.display()));
    }

    #[tokio::test]
    async fn the_file_as_it_was_is_kept_for_the_older_version() {
        let (_kept, path) = site();
        written(&path).await;
        // Not closed in order, so that it is checked before.
        drop(reopen(&path).await);
        fs::write(copy_of(&path), "of an earlier attempt").expect("is written");
        drop(reopen_with(&path, TWO).await);
        let copy = copy_of(&path);
        assert_eq!(fs::metadata(&copy).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(records(&reopen(&copy).await).await, are("1", "2"));
        assert_eq!(fs::read_dir(path.parent().expect("has one")).expect("lists").count(), 2);
    }

    #[tokio::test]
    async fn a_new_file_is_of_the_newest_schema() {
        let (_kept, path) = site();
        for _ in 0..2 {
            let store = reopen_with(&path, TWO).await;
            assert_eq!(records(&store).await, []);
            store.close().await.expect("closes");
        }
        assert!(!copy_of(&path).exists());
    }

    async fn is_as_it_was_and_can_be_migrated(path: &Path) {
        let store = reopen(path).await;
        assert_eq!(records(&store).await, are("1", "2"));
        store.close().await.expect("closes");
        drop(store);
        assert_eq!(records(&reopen_with(path, TWO).await).await, are("1xy", "2xy"));
    }

    #[tokio::test]
    async fn a_step_that_fails_is_named_and_changes_nothing() {
        let (_kept, path) = site();
        written(&path).await;
        let error = open(&path, SECOND_FAILS).await.err().expect("is refused");
        let words = "stays as it was: bringing it from schema 2 to 3 failed";
        assert_eq!(error.to_string(), format!("{} {words}", path.display()));
        assert_eq!(error.source().expect("why").to_string(), "no room for it");
        is_as_it_was_and_can_be_migrated(&path).await;
    }

    #[tokio::test]
    async fn a_kill_in_a_step_changes_nothing() {
        const KILLED: &str = "VOLBOOT_TEST_MIGRATES";
        if let Some(path) = std::env::var_os(KILLED) {
            // In the process that is started below.
            drop(open(Path::new(&path), SECOND_IS_KILLED).await);
            return;
        }
        let (_kept, path) = site();
        written(&path).await;
        let name = "store::redb::schema::tests::a_kill_in_a_step_changes_nothing";
        let this = std::env::current_exe().expect("has a name");
        let ended = Command::new(this).args(["--exact", name]).env(KILLED, &path).output().expect("runs");
        assert!(ended.status.signal().is_some(), "{ended:?}");
        assert!(copy_of(&path).exists(), "it came to the steps");
        is_as_it_was_and_can_be_migrated(&path).await;
    }

    #[tokio::test]
    async fn without_room_for_the_copy_nothing_is_migrated() {
        let (_kept, path) = site();
        written(&path).await;
        fs::create_dir(copy_of(&path)).expect("is made");
        let error = open(&path, TWO).await.err().expect("is refused");
        let (store, copy) = (path.display(), copy_of(&path));
        let copy = copy.display();
        assert_eq!(
            error.to_string(),
            format!("{store} is not migrated: it cannot be copied to {copy} first")
        );
        assert_eq!(records(&reopen(&path).await).await, are("1", "2"));
    }
}
