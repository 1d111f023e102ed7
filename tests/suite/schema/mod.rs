//! Compatibility with stores of earlier versions: `tests/golden/store` has a file of records for each schema.
//!
//! The newest file is the exact output of this version. A change of the record format fails this test. A new field
//! goes into the newest file. Other changes need a migration step (`src/store/schema.rs` says which) and a new golden
//! file; older files stay unchanged. `1-first.txt` has an attachment with field names of the first versions, which
//! are still read as aliases.

mod boot_records;
mod records;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;
use volboot::model::{
    Allocation, BootWindow, Chassis, FallbackState, Node, Port, PortGroup, PowerState, ProvisionState,
    VolumeConnector, VolumeTarget,
};
use volboot::store::{Attachments, Batch, Inventory, MemoryStore, RedbStore, Resource, Store, WindowChange};

use records::Records;

const NODE: Uuid = Uuid::from_u128(1);

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/store/{name}.txt"))
}

/// All records of a store, one per line: key and value. A value is JSON, empty, or the bytes of a UUID.
async fn list_records(store: &dyn Store) -> String {
    let all = store.list("", None, 1000).await.expect("lists");
    let line = |key: &str, value: &[u8]| match Uuid::from_slice(value) {
        Ok(uuid) => format!("{key}\t{uuid}\n"),
        Err(_) => format!("{key}\t{}\n", str::from_utf8(value).expect("text")),
    };
    all.iter().map(|record| line(&record.key, &record.value)).collect()
}

#[tokio::test]
async fn writes_the_newest_schema() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    Records::new().write(&store).await;
    let output = list_records(store.as_ref()).await;
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(golden("3").parent().expect("a folder")).expect("is created");
        std::fs::write(golden("3"), &output).expect("writes");
    }
    assert_eq!(output, std::fs::read_to_string(golden("3")).expect("exists"));
}

#[tokio::test]
async fn reads_files_of_every_schema_and_version() {
    assert_is_read("3", 3, Records::new()).await;
    assert_is_read("2", 2, Records::new()).await;
    assert_is_read("1", 1, Records::of_schema_1()).await;
    assert_is_read("1-first", 1, Records::of_schema_1()).await;
}

/// The records of a golden file, as one batch.
fn read_golden(name: &str) -> Batch {
    let text = std::fs::read_to_string(golden(name)).expect("exists");
    text.lines().fold(Batch::default(), |batch, line| {
        let (key, value) = line.split_once('\t').expect("key and value");
        let value = value.parse().map_or(value.as_bytes().to_vec(), |uuid: Uuid| uuid.as_bytes().to_vec());
        batch.put(key, value)
    })
}

async fn assert_is_read(name: &str, schema: u32, records: Records) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.redb");
    let batch = read_golden(name);
    let earlier = RedbStore::open(&path).expect("opens");
    earlier.write(batch).await.expect("writes");
    earlier.close().await.expect("closes");
    drop(earlier);
    let store: Arc<dyn Store> = loop {
        // The writer thread of the dropped store may still hold the file for a moment.
        match RedbStore::open(&path) {
            Err(volboot::store::OpenError::InUse(_)) => tokio::task::yield_now().await,
            result => break Arc::new(result.expect("opens")),
        }
    };
    records.assert_in(&store, schema).await;
}

/// A field that a newer version added to each record.
const NEWER: &str = "added_by_a_newer_version";

/// A store of a newer version: the newest golden file with one more field in each record.
async fn store_of_newer_version() -> Arc<dyn Store> {
    let mut batch = read_golden("3");
    for (_, value) in &mut batch.put {
        if let Ok(serde_json::Value::Object(mut record)) = serde_json::from_slice(value) {
            record.insert(NEWER.into(), json!({"deep": [1, null]}));
            *value = serde_json::to_vec(&record).expect("JSON");
        }
    }
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    store.write(batch).await.expect("writes");
    store
}

/// Updates a record without a change of its fields.
async fn touch<R: Resource>(inventory: &Inventory, uuid: Uuid) {
    let keep = |old: &R, _: Option<&Node>| Ok::<_, Infallible>(old.clone());
    inventory.update(uuid, keep).await.expect("updates");
}

/// The keys of all records that were written after a revision, each with the newer version's field.
async fn written_records(store: &dyn Store, after: u64) -> Vec<(String, serde_json::Value)> {
    let all = store.list("", None, 1000).await.expect("lists");
    let written = all.into_iter().filter(|record| record.revision > after);
    let field = |value: &[u8]| match serde_json::from_slice(value) {
        Ok(serde_json::Value::Object(record)) => Some(record.get(NEWER).cloned().unwrap_or_default()),
        _ => None,
    };
    written.filter_map(|record| Some((record.key, field(&record.value)?))).collect()
}

#[tokio::test]
async fn reads_records_of_a_newer_version_and_keeps_their_new_fields() {
    let store = store_of_newer_version().await;
    let records = Records::new();
    records.assert_in(&store, 3).await;
    let written = store.wait_for_change(0).await.expect("reads");

    let inventory = Inventory::new(Arc::clone(&store));
    touch::<Chassis>(&inventory, records.chassis.uuid).await;
    touch::<Port>(&inventory, records.port.uuid).await;
    touch::<PortGroup>(&inventory, records.group.uuid).await;
    touch::<VolumeConnector>(&inventory, records.connector.uuid).await;
    touch::<VolumeTarget>(&inventory, records.target.uuid).await;
    touch::<Node>(&inventory, NODE).await;
    touch::<Allocation>(&inventory, records.allocation.uuid).await;
    let now = records.once.created_at;
    assert!(inventory.consume_boot_once(&records.once, "a-journey", now).await.expect("writes"));
    let attachments = Attachments::new(Arc::clone(&store));
    attachments.change(&records.attachment, |it| it.pending_export = true).await.expect("changes");
    let node = records.boots.node.uuid;
    let reset = |state: &mut FallbackState| state.reset("the node reported up");
    assert!(inventory.fallbacks().change(node, reset).await.expect("changes"));
    let extend = |window: Option<&BootWindow>| WindowChange::Write(window.expect("exists").extended(7), ());
    inventory.change_boot_window(node, extend).await.expect("changes");
    let kept = written_records(&*store, written).await;
    assert_eq!(kept.len(), 11, "one record of each type: {kept:?}");
    assert!(kept.iter().all(|(_, field)| *field == json!({"deep": [1, null]})), "{kept:?}");
}

#[tokio::test]
async fn a_released_attachment_keeps_the_fields_of_a_newer_version() {
    let store = store_of_newer_version().await;
    let written = store.wait_for_change(0).await.expect("reads");
    let release = |old: &Node| Ok::<_, Infallible>(Node { undeployed: true, ..old.clone() });
    let inventory = Inventory::new(Arc::clone(&store));
    inventory.undeploy_without_targets(NODE, release).await.expect("updates");
    let kept = written_records(&*store, written).await;
    assert_eq!(kept.len(), 2, "node and attachment: {kept:?}");
    assert!(kept.iter().all(|(_, field)| *field == json!({"deep": [1, null]})), "{kept:?}");
}

#[tokio::test]
async fn a_reserved_and_freed_node_keeps_the_fields_of_a_newer_version() {
    let (store, now) = (store_of_newer_version().await, "2026-11-24T12:00:01Z".parse().expect("a time"));
    let inventory = Inventory::new(Arc::clone(&store));
    let free = |old: &Node, _: Option<&Node>| {
        Ok::<_, Infallible>(Node {
            instance_uuid: None,
            maintenance: false,
            provision_state: ProvisionState::Available,
            power_state: Some(PowerState::Off),
            resource_class: Some("large".into()),
            ..old.clone()
        })
    };
    inventory.update(NODE, free).await.expect("updates");
    let new = Allocation::new(Uuid::from_u128(12), "large", now);
    let active = inventory.allocate(&new, now).await.expect("writes");
    assert_eq!(active.node_uuid, Some(NODE));
    let written = store.wait_for_change(0).await.expect("reads");
    inventory.deallocate(new.uuid, now, |_, _| Ok::<_, Infallible>(())).await.expect("deletes");
    let kept = written_records(&*store, written).await;
    assert_eq!(kept, [(format!("node/{NODE}"), json!({"deep": [1, null]}))]);
}
