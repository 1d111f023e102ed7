//! 4: a request without an answer arrives after its repetition, when the sender has gone on.

use std::io::{BufReader, Cursor};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use volboot::config::EtcdConfig;
use volboot::store::{
    Batch, CopyStep, ExportReader, ImportError, ImportedRecords, MemoryStore, Store, export, import_into_etcd,
};

use crate::etcd::{Etcd, Options};
use crate::proxy::Proxy;
use crate::{open, run};

/// More records than one page of an import.
const RECORDS: usize = 1500;
/// The limit of the late request's way.
const LIMIT: Duration = Duration::from_secs(30);

async fn build_export() -> Vec<u8> {
    let store = MemoryStore::default();
    let batch = (0..RECORDS).fold(Batch::default(), |batch, n| batch.put(format!("attachment/{n:05}"), "{}"));
    store.write(batch).await.expect("writes");
    let mut bytes = Vec::new();
    export(&store, &mut bytes).await.expect("exports");
    bytes
}

/// Imports on a thread of its own. `at_step` is called after each step.
async fn import(
    config: EtcdConfig,
    path: PathBuf,
    export: Vec<u8>,
    mut at_step: impl FnMut(CopyStep) + Send + 'static,
) -> Result<ImportedRecords, ImportError> {
    let import = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let export = ExportReader::new(BufReader::new(Cursor::new(export))).expect("an export");
        let import = import_into_etcd(config, &path, export, &mut at_step);
        runtime.expect("a runtime").block_on(import)
    };
    tokio::task::spawn_blocking(import).await.expect("no panic")
}

/// The deletion of what an interrupted import has left arrives late, after the next import's first records.
#[test]
fn a_late_deletion_leaves_later_records_alone() {
    run(Options::default(), |etcd| async move {
        let path = etcd.directory("1").join("volboot.redb");
        let export = build_export().await;
        let half = export[..export.len() * 9 / 10].to_vec();
        let interrupted = import(etcd.config("/volboot/"), path.clone(), half, |_| {}).await;
        assert!(interrupted.is_err(), "the export ends early");
        let members: Vec<_> = (0..3).map(Etcd::client_address).collect();
        let (proxy, addresses) = Proxy::start_for_all(&members).await;
        // No other request names a record before the first one is written again.
        proxy.hold_request("/volboot/r/attachment/00000");
        let (written, mut steps) = tokio::sync::mpsc::unbounded_channel();
        let (go_on, delivered) = mpsc::channel();
        let at_step = move |step: CopyStep| {
            if step == CopyStep::Written(1000) {
                written.send(()).expect("the test waits");
                delivered.recv_timeout(LIMIT).expect("the late request is answered");
            }
        };
        let mut config = etcd.config("/volboot/");
        config.endpoints = addresses.iter().map(|address| format!("http://{address}")).collect();
        let importing = tokio::spawn(import(config, path, export, at_step));
        let deliver = async {
            steps.recv().await.expect("a page is written");
            proxy.take_held().expect("a deletion was held back").deliver().await;
            go_on.send(()).expect("the import waits");
        };
        tokio::time::timeout(LIMIT, deliver).await.expect("the import writes records");
        let imported = importing.await.expect("no panic").expect("no record is missing");
        assert_eq!(imported.records, RECORDS as u64);
        let store = open(etcd.config("/volboot/"), &etcd.directory("2")).await;
        assert_eq!(store.list("attachment/", None, 2 * RECORDS).await.expect("lists").len(), RECORDS);
    });
}
