//! Export and import: nothing is lost, and no damaged or foreign file becomes a store.

use std::error::Error;
use std::io::Cursor;
use std::path::Path;

use super::*;
use crate::store::{Batch, ChangeSet, ImportError, MemoryStore, OpenError, RedbStore, Store, import};

const SECRET: &str = "M9nFz6rQ3wT8kLp2";

/// A store with texts, bytes that are no UTF-8, an empty value, and more records than a page.
async fn store() -> MemoryStore {
    let store = MemoryStore::default();
    let numbered = (0..1200).fold(Batch::default(), |batch, n| batch.put(format!("n/{n:04}"), n.to_string()));
    store.write(numbered).await.expect("writes");
    let batch = Batch::default().put("bytes", vec![0, 0xFF, b'\n']).put("empty", "").put("quote\"\n", SECRET);
    store.write(batch).await.expect("writes");
    store.write(Batch::default().delete("n/0007")).await.expect("writes");
    store
}

async fn export_bytes(store: &dyn Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    export(store, &mut bytes).await.expect("exports");
    bytes
}

fn import_bytes(path: &Path, bytes: &[u8]) -> Result<u64, ImportError> {
    Ok(import(path, ExportReader::new(Cursor::new(bytes))?, || Ok(()))?.records)
}

fn path() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("new/store.redb");
    (directory, path)
}

#[tokio::test]
async fn an_import_restores_records_and_revisions() {
    let store = store().await;
    let bytes = export_bytes(&store).await;
    let (_directory, path) = path();
    assert_eq!(import_bytes(&path, &bytes).expect("imports"), 1202);
    let imported = RedbStore::open(&path).expect("opens");
    let (expected, got) = (store.list("", None, 2000).await, imported.list("", None, 2000).await);
    assert!(got.expect("lists") == expected.expect("lists"), "the records differ");
    assert!(export_bytes(&imported).await == bytes, "the second export differs");
    // The changes before the import are not known.
    assert_eq!(imported.changes(2, 9).await.expect("reads"), ChangeSet::Compacted(3));
    assert_eq!(imported.write(Batch::default().put("a", "")).await.expect("writes"), 4);
    assert!(matches!(imported.changes(3, 9).await.expect("reads"), ChangeSet::Since(all) if all.len() == 1));
}

#[tokio::test]
async fn an_import_needs_an_empty_store_that_is_not_in_use() {
    let bytes = export_bytes(&store().await).await;
    let (_directory, path) = path();
    let server = RedbStore::open(&path).expect("opens");
    assert!(matches!(import_bytes(&path, &bytes), Err(ImportError::Store(OpenError::InUse(_)))));
    server.write(Batch::default().put("a", "1")).await.expect("writes");
    server.close().await.expect("closes");
    drop(server);
    let error = loop {
        match import_bytes(&path, &bytes).expect_err("is refused") {
            // The writer thread of the dropped store may still hold the file for a moment.
            ImportError::Store(OpenError::InUse(_)) => tokio::task::yield_now().await,
            error => break error,
        }
    };
    assert!(matches!(error, ImportError::NotEmpty(_)), "{error}");
    let server = RedbStore::open(&path).expect("opens");
    assert_eq!(server.list("", None, 9).await.expect("lists").len(), 1);
    server.write(Batch::default().delete("a")).await.expect("writes");
    drop(server);
    while let Err(ImportError::Store(OpenError::InUse(_))) = import_bytes(&path, &bytes) {
        tokio::task::yield_now().await;
    }
    let restored = RedbStore::open(&path).expect("opens");
    assert_eq!(restored.list("", None, 2000).await.expect("lists").len(), 1202);
}

#[tokio::test]
async fn a_damaged_export_leaves_nothing_and_reveals_nothing() {
    let store = MemoryStore::default();
    store.write(Batch::default().put("a", SECRET).put("b", vec![0xFF])).await.expect("writes");
    let bytes = export_bytes(&store).await;
    let (directory, path) = path();
    let cut = (0..bytes.len()).map(|length| bytes[..length].to_vec());
    let changed = (0..bytes.len()).map(|at| {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        changed
    });
    let doubled = [bytes.as_slice(), bytes.as_slice()].concat();
    for damaged in cut.chain(changed).chain([doubled]) {
        let error = import_bytes(&path, &damaged).expect_err("is refused");
        let text = format!("{error} {:?}", error.source().map(ToString::to_string));
        assert!(!text.contains(SECRET), "{text}");
    }
    let left = std::fs::read_dir(directory.path().join("new")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "files are left");
}

#[tokio::test]
async fn a_newer_format_and_a_newer_schema_are_named() {
    let (_directory, path) = path();
    let header = |version, schema| {
        format!(
            "{{\"format\":\"volboot-export\",\"version\":{version},\"schema\":{schema},\"revision\":1}}\n"
        )
    };
    let error = import_bytes(&path, header(2, 1).as_bytes()).expect_err("is refused");
    assert!(matches!(error, ImportError::Export(ExportFormatError::Version(2))), "{error}");
    let error = import_bytes(&path, header(1, 99).as_bytes()).expect_err("is refused");
    assert!(matches!(error, ImportError::Store(OpenError::Newer { schema: 99, .. })), "{error}");
}

#[tokio::test]
async fn the_reader_names_the_failure_of_the_exporter() {
    let store = MemoryStore::default();
    let bytes = export_bytes(&store).await;
    let header = bytes.split_inclusive(|byte| *byte == b'\n').next().expect("a line");
    let failed = [header, b"{\"error\":\"disk on fire\"}\n"].concat();
    let (_directory, path) = path();
    let error = import_bytes(&path, &failed).expect_err("is refused");
    assert_eq!(error.to_string(), "the server cannot export the store: disk on fire");
}
