//! Migration of a redb file: the back-up, and all steps in one transaction.
//!
//! Before the steps, a copy of the file is put beside the file, for a downgrade: the older version cannot read
//! migrated records.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableTable, Table, WriteTransaction};

use super::file::{META, Meta, RECORDS, SCHEMA, append_to_name, begin_write, sync_directory_of};
use crate::store::contract::{OpenError, Revision};
use crate::store::schema::{self, Records, Step, StepError};

/// The copy of an older file, for a downgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copy {
    /// Beside the file.
    Kept,
    /// The migration is in memory, and the file stays unchanged.
    NotNeeded,
}

/// Migrates a file to the newest schema. A new file (without a schema) has the newest schema already.
pub(super) fn migrate(
    database: &Database,
    path: &Path,
    present: &Meta,
    steps: &[Step],
    copy: Copy,
) -> Result<(), OpenError> {
    let to = schema::version(steps);
    let first = present.schema.unwrap_or(to);
    if present.schema == Some(to) {
        return Ok(());
    }
    let older = present.schema.filter(|_| copy == Copy::Kept);
    let copy = older.map(|schema| back_up(path, schema)).transpose()?;
    let migration_error = |from, to| {
        let location = path.display().to_string();
        move |source| OpenError::Migration { location, from, to, source }
    };
    let redb_error = |error: redb::Error| migration_error(first, to)(error.into());
    let write = begin_write(database).map_err(redb_error)?;
    for (from, step) in schema::pending(steps, first) {
        // A dropped transaction changes nothing.
        run(step, &write, present.revision).map_err(migration_error(from, from + 1))?;
    }
    commit(write, to).map_err(redb_error)?;
    if let Some(copy) = copy {
        let (path, copy) = (path.display(), copy.display());
        tracing::info!(%path, from = first, to, %copy, "store migrated; the previous file is kept as a copy");
    }
    Ok(())
}

/// Runs one step.
fn run(step: Step, write: &WriteTransaction, revision: Revision) -> Result<(), StepError> {
    step(&mut FileRecords { table: write.open_table(RECORDS)?, revision })
}

/// The records of the file within the transaction.
struct FileRecords<'txn> {
    table: Table<'txn, &'static str, (Revision, &'static [u8])>,
    /// The revision of the last write, for new records. Changed records keep theirs.
    revision: Revision,
}

impl Records for FileRecords<'_> {
    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StepError> {
        let mut all = Vec::new();
        for entry in self.table.range(prefix..)? {
            let (key, value) = entry?;
            if !key.value().starts_with(prefix) {
                break;
            }
            all.push((key.value().to_owned(), value.value().1.to_vec()));
        }
        Ok(all)
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), StepError> {
        let old = self.table.get(key)?.map(|old| old.value().0);
        self.table.insert(key, (old.unwrap_or(self.revision), value))?;
        Ok(())
    }

    fn delete(&mut self, key: &str) -> Result<(), StepError> {
        self.table.remove(key)?;
        Ok(())
    }
}

/// Writes the schema number and commits.
fn commit(write: WriteTransaction, schema: u64) -> Result<(), redb::Error> {
    write.open_table(META)?.insert(SCHEMA, schema)?;
    Ok(write.commit()?)
}

/// Copies the unchanged file to `volboot.redb.schema-1`. A rename at the end guarantees a complete copy under this
/// name.
fn back_up(path: &Path, schema: u64) -> Result<PathBuf, OpenError> {
    let copy = append_to_name(path, &format!(".schema-{schema}"));
    let unfinished = append_to_name(&copy, ".new");
    let result = copy_file(path, &unfinished)
        .and_then(|()| fs::rename(&unfinished, &copy))
        .and_then(|()| sync_directory_of(path));
    if let Err(source) = result {
        // The unfinished copy may be what fills the disk. An error of the removal adds no information.
        let _ = fs::remove_file(&unfinished);
        let (location, copy) = (path.display().to_string(), copy.display().to_string());
        return Err(OpenError::BackUp { location, copy, source: source.into() });
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
    use std::error::Error;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::super::RedbStore;
    use super::super::tests::{open, reopen_with, site};
    use super::*;
    use crate::store::{Batch, Store};

    /// A step: appends a letter to every value.
    fn append(records: &mut dyn Records, letter: u8) -> Result<(), StepError> {
        for (key, mut value) in records.list("")? {
            value.push(letter);
            records.put(&key, &value)?;
        }
        Ok(())
    }

    const TWO: &[Step] = &[|records| append(records, b'x'), |records| append(records, b'y')];
    const SECOND_FAILS: &[Step] = &[|records| append(records, b'x'), |_| Err("disk full".into())];
    const SECOND_IS_KILLED: &[Step] = &[|records| append(records, b'x'), |_| std::process::abort()];

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
    async fn a_step_lists_a_prefix_and_creates_and_deletes_records() {
        const RENAME: &[Step] = &[|records| {
            for (key, value) in records.list("old/")? {
                records.put(&key.replace("old/", "new/"), &value)?;
                records.delete(&key)?;
            }
            records.delete("never existed")
        }];
        let (_directory, path) = site();
        let store = reopen_with(&path, &[]).await;
        let batch =
            ["old/1", "old", "old/2", "older"].iter().fold(Batch::default(), |b, key| b.put(*key, "v"));
        store.write(batch).await.expect("writes");
        store.write(Batch::default().put("z", "v")).await.expect("writes");
        drop(store);
        let got = records(&reopen_with(&path, RENAME).await).await;
        let keys = got.iter().map(|(key, revision, _)| (key.as_str(), *revision)).collect::<Vec<_>>();
        assert_eq!(keys, [("new/1", 2), ("new/2", 2), ("old", 1), ("older", 1), ("z", 2)]);
    }

    #[tokio::test]
    async fn keeps_a_copy_of_the_older_file_for_a_downgrade() {
        let (_directory, path) = site();
        write_schema_1(&path).await;
        // An unclean close, so that the next open checks the file first.
        drop(reopen_with(&path, &[]).await);
        fs::write(copy_of(&path), "of an earlier attempt").expect("is written");
        drop(reopen_with(&path, TWO).await);
        let copy = copy_of(&path);
        assert_eq!(fs::metadata(&copy).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(records(&reopen_with(&copy, &[]).await).await, expected("1", "2"));
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
        let store = reopen_with(path, &[]).await;
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
        let name = "store::redb::migration::tests::a_kill_during_a_step_changes_nothing";
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
        assert_eq!(records(&reopen_with(&path, &[]).await).await, expected("1", "2"));
    }
}
