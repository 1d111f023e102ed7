//! Schema migration: the schema number of a store file, and the steps from an older number to this version's.
//!
//! A change of the record format that an older file lacks is a [`Step`] at the end of [`STEPS`], with a file in
//! `tests/golden/store`. All steps of a file and the new number are one transaction, so the file is never between two
//! schemas. Before that, a back-up is put beside the file, for a downgrade: the older version cannot read migrated
//! records.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::{Database, WriteTransaction};

use super::{META, OpenError, SCHEMA, begin_write, sync_directory_of};

/// Migrates the records from one schema to the next. The caller commits or aborts the transaction.
pub(super) type Step = fn(&WriteTransaction) -> Result<(), StepError>;
/// The error of a failed step.
pub(super) type StepError = Box<dyn Error + Send + Sync>;

/// From schema 1 to 2, from 2 to 3, and so on.
pub(super) const STEPS: &[Step] = &[];

/// The schema after all steps.
pub(super) const fn version(steps: &[Step]) -> u64 {
    1 + steps.len() as u64
}

/// Migrates a file to the newest schema. A new file (`present` is `None`) has the newest schema already.
pub(super) fn migrate(
    database: &Database,
    path: &Path,
    present: Option<u64>,
    steps: &[Step],
) -> Result<(), OpenError> {
    let to = version(steps);
    let first = present.unwrap_or(to);
    if present == Some(to) {
        return Ok(());
    }
    let copy = present.map(|schema| back_up(path, schema)).transpose()?;
    let migration_error = |from, to| {
        let path = path.display().to_string();
        move |source| OpenError::Migration { path, from, to, source }
    };
    let write = begin_write(database).map_err(|error| migration_error(first, to)(error.into()))?;
    for (step, from) in steps.iter().zip(1..).skip_while(|(_, from)| *from < first) {
        // A dropped transaction changes nothing.
        step(&write).map_err(migration_error(from, from + 1))?;
    }
    commit(write, to).map_err(|error| migration_error(first, to)(error.into()))?;
    if let Some(copy) = copy {
        let (path, copy) = (path.display(), copy.display());
        tracing::info!(%path, from = first, to, %copy, "store migrated; the previous file is kept as a copy");
    }
    Ok(())
}

/// Writes the schema number and commits.
fn commit(write: WriteTransaction, schema: u64) -> Result<(), redb::Error> {
    write.open_table(META)?.insert(SCHEMA, schema)?;
    Ok(write.commit()?)
}

/// Copies the unchanged file to `volboot.redb.schema-1`. A rename at the end guarantees a complete copy under this
/// name.
fn back_up(path: &Path, schema: u64) -> Result<PathBuf, OpenError> {
    let beside = |suffix: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (copy, unfinished) = (beside(format!(".schema-{schema}")), beside(format!(".schema-{schema}.new")));
    let result = copy_file(path, &unfinished)
        .and_then(|()| fs::rename(&unfinished, &copy))
        .and_then(|()| sync_directory_of(path));
    if let Err(source) = result {
        // The unfinished copy may be what fills the disk. An error of the removal adds no information.
        let _ = fs::remove_file(&unfinished);
        let (path, copy) = (path.display().to_string(), copy.display().to_string());
        return Err(OpenError::Copy { path, copy, source });
    }
    Ok(copy)
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    // The copy holds the same secrets.
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

    /// A step: appends a letter to every value, and keeps the revisions.
    fn append(write: &WriteTransaction, letter: u8) -> Result<(), StepError> {
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
    const SECOND_FAILS: &[Step] = &[|write| append(write, b'x'), |_| Err("disk full".into())];
    const SECOND_IS_KILLED: &[Step] = &[|write| append(write, b'x'), |_| std::process::abort()];

    /// A file of schema 1 with two records.
    async fn write_schema_1(path: &Path) {
        let store = reopen_with(path, &[]).await;
        store.write(Batch::default().put("a", "1").put("b", "2")).await.expect("writes");
        store.close().await.expect("closes");
    }

    async fn records(store: &RedbStore) -> Vec<(String, u64, String)> {
        let all = store.list("", None, 9).await.expect("lists");
        let text = |value| String::from_utf8(value).expect("text");
        all.into_iter().map(|record| (record.key, record.revision, text(record.value))).collect()
    }

    fn expected(a: &str, b: &str) -> Vec<(String, u64, String)> {
        vec![("a".into(), 1, a.into()), ("b".into(), 1, b.into())]
    }

    fn copy_of(path: &Path) -> PathBuf {
        path.with_extension("redb.schema-1")
    }

    #[tokio::test]
    async fn migrates_an_older_file_step_by_step_once() {
        let (_directory, path) = site();
        write_schema_1(&path).await;
        for _ in 0..2 {
            let store = reopen_with(&path, TWO).await;
            assert_eq!(records(&store).await, expected("1xy", "2xy"));
            assert!(
                matches!(RedbStore::open(&path), Err(OpenError::InUse(_))),
                "the copy released the file's lock"
            );
            store.close().await.expect("closes");
        }
        let one = &TWO[..1];
        let error = open(&path, one).await.err().expect("is refused");
        let message = "has schema 3, this volboot supports up to 2: install the newer volboot again";
        assert_eq!(error.to_string(), format!("{} {message}", path.display()));
    }

    #[tokio::test]
    async fn keeps_a_copy_of_the_older_file_for_a_downgrade() {
        let (_directory, path) = site();
        write_schema_1(&path).await;
        // An unclean close, so that the next open checks the file first.
        drop(reopen(&path).await);
        fs::write(copy_of(&path), "of an earlier attempt").expect("is written");
        drop(reopen_with(&path, TWO).await);
        let copy = copy_of(&path);
        assert_eq!(fs::metadata(&copy).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(records(&reopen(&copy).await).await, expected("1", "2"));
        assert_eq!(fs::read_dir(path.parent().expect("has one")).expect("lists").count(), 2);
    }

    #[tokio::test]
    async fn a_new_file_has_the_newest_schema() {
        let (_directory, path) = site();
        for _ in 0..2 {
            let store = reopen_with(&path, TWO).await;
            assert_eq!(records(&store).await, []);
            store.close().await.expect("closes");
        }
        assert!(!copy_of(&path).exists());
    }

    async fn assert_unchanged_and_migratable(path: &Path) {
        let store = reopen(path).await;
        assert_eq!(records(&store).await, expected("1", "2"));
        store.close().await.expect("closes");
        drop(store);
        assert_eq!(records(&reopen_with(path, TWO).await).await, expected("1xy", "2xy"));
    }

    #[tokio::test]
    async fn a_failed_step_is_named_and_changes_nothing() {
        let (_directory, path) = site();
        write_schema_1(&path).await;
        let error = open(&path, SECOND_FAILS).await.err().expect("is refused");
        let message = format!("cannot migrate {} from schema 2 to 3; the file is unchanged", path.display());
        assert_eq!(error.to_string(), message);
        assert_eq!(error.source().expect("why").to_string(), "disk full");
        assert_unchanged_and_migratable(&path).await;
    }

    #[tokio::test]
    async fn a_kill_during_a_step_changes_nothing() {
        const KILLED: &str = "VOLBOOT_TEST_MIGRATES";
        if let Some(path) = std::env::var_os(KILLED) {
            // The child process, started below.
            drop(open(Path::new(&path), SECOND_IS_KILLED).await);
            return;
        }
        let (_directory, path) = site();
        write_schema_1(&path).await;
        let name = "store::redb::schema::tests::a_kill_during_a_step_changes_nothing";
        let this = std::env::current_exe().expect("has a name");
        let ended = Command::new(this).args(["--exact", name]).env(KILLED, &path).output().expect("runs");
        assert!(ended.status.signal().is_some(), "{ended:?}");
        assert!(copy_of(&path).exists(), "the child reached the steps");
        assert_unchanged_and_migratable(&path).await;
    }

    #[tokio::test]
    async fn does_not_migrate_without_a_copy() {
        let (_directory, path) = site();
        write_schema_1(&path).await;
        fs::create_dir(copy_of(&path)).expect("is made");
        let error = open(&path, TWO).await.err().expect("is refused");
        let (store, copy) = (path.display(), copy_of(&path));
        let copy = copy.display();
        assert_eq!(
            error.to_string(),
            format!("cannot migrate {store}: the back-up to {copy} failed; the file is unchanged")
        );
        assert_eq!(records(&reopen(&path).await).await, expected("1", "2"));
    }
}
