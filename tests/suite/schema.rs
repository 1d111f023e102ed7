//! Compatibility with stores of earlier versions: `tests/golden/store` has a file of records for each schema.
//!
//! The newest file is the exact output of this version. A change of the record format fails this test. A new field
//! goes into the newest file. Other changes need a migration step (`src/store/schema.rs` says which) and a new golden
//! file; older files stay unchanged. `1-first.txt` has an attachment with field names of the first versions, which
//! are still read as aliases.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;
use volboot::model::{
    Allocation, Attachment, AttachmentState, Chassis, ConductorGroup, ConnectorProperties, Node, Ownership,
    Port, PortGroup, PowerState, Properties, ProvisionState, StorageInterface, VolumeConnector, VolumeTarget,
};
use volboot::store::{Attachments, Batch, Inventory, MemoryStore, RedbStore, Resource, Store};

const NODE: Uuid = Uuid::from_u128(1);
const VOLUME: &str = "6f3c4a2e-1b2d-4c3e-9f40-5a6b7c8d9e0f";
const SECOND_VOLUME: &str = "7a4d5b3f-2c3e-4d4f-8a51-6b7c8d9e0f1a";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/store/{name}.txt"))
}

/// All records of a store, one per line: key and value. A value is JSON, empty, or the bytes of a UUID.
async fn records(store: &dyn Store) -> String {
    let all = store.list("", None, 1000).await.expect("lists");
    let line = |key: &str, value: &[u8]| match Uuid::from_slice(value) {
        Ok(uuid) => format!("{key}\t{uuid}\n"),
        Err(_) => format!("{key}\t{}\n", str::from_utf8(value).expect("text")),
    };
    all.iter().map(|record| line(&record.key, &record.value)).collect()
}

fn properties(value: serde_json::Value) -> Properties {
    serde_json::from_value(value).expect("an object")
}

/// One record of each type, with every field set.
struct Records {
    chassis: Chassis,
    node: Node,
    port: Port,
    group: PortGroup,
    connector: VolumeConnector,
    target: VolumeTarget,
    attachment: Attachment,
    /// A target whose attachment is borrowed, since schema 2.
    borrowed: (VolumeTarget, Attachment),
    /// Without a node, since schema 2: the instance of `node` is another one.
    allocation: Allocation,
}

impl Records {
    fn new() -> Self {
        let now = "2026-11-24T12:00:00.5Z".parse().expect("a time");
        let id = Uuid::from_u128;
        let mut node = Node::new(NODE, "ipmi", StorageInterface::Cinder, now);
        node.updated_at = Some(now);
        node.name = Some("web-1".into());
        node.properties = properties(json!({"capabilities": "iscsi_boot:True", "cpus": 8}));
        node.driver_info = properties(json!({"ipmi_address": "192.0.2.7"}));
        node.extra = properties(json!({"rack": ["a", 1, null]}));
        node.chassis_uuid = Some(id(2));
        node.instance_uuid = Some(id(3));
        node.traits = ["CUSTOM_RACK_1", "HW_CPU_X86_VMX"].map(|name| name.parse().expect("a trait")).into();
        node.conductor_group = "rack-1".parse().expect("a group");
        node.automated_clean = Some(false);
        node.protected = true;
        node.protected_reason = Some("a database".into());
        node.owner = Some("d3f4c1b0a2".into());
        node.description = Some("the first of the row".into());
        node.target_power_state = Some(PowerState::Off);
        node.reservation = Some("boot-1".into());
        node.provision_state = ProvisionState::Active;
        node.provision_updated_at = Some(now);
        node.maintenance = true;
        node.maintenance_reason = Some("fan 3".into());
        let mut port = Port::new(id(4), NODE, "52:54:00:12:34:56".parse().expect("a MAC address"), now);
        port.physical_network = Some("physnet1".into());
        port.extra = properties(json!({"switch": "s1"}));
        let mut target = VolumeTarget::new(id(7), NODE, 0, VOLUME, now);
        target.properties = properties(json!({"target_portal": "192.0.2.1:3260", "target_lun": 1}));
        let mut attachment = Attachment::new(NODE, VOLUME, target.uuid, vec!["another".into()], now);
        attachment.id = id(8);
        attachment.state = AttachmentState::Attached;
        attachment.cinder_id = Some("0c5d7a3e-4f5a-4b6c-8d7e-9f0a1b2c3d4e".into());
        attachment.connector = Some(ConnectorProperties {
            initiator: "iqn.2017-08.org.openstack.web-1".into(),
            host: NODE.to_string(),
            ip: Some("192.0.2.50".into()),
            multipath: false,
            mountpoint: None,
        });
        attachment.connection =
            Some(properties(json!({"target_portals": ["192.0.2.1:3260", "192.0.2.2:3260"]})));
        attachment.initiator = Some("iqn.2017-08.org.openstack.web-1".into());
        attachment.resolved_at = Some(now);
        attachment.volume_type = Some("fast".into());
        let second_target = VolumeTarget::new(id(9), NODE, 1, SECOND_VOLUME, now);
        let existing = ("1d6e8b4f-5a6b-4c7d-8e9f-0a1b2c3d4e5f".into(), Ownership::Borrowed(id(3)));
        let connector = attachment.connector.clone().expect("a connector");
        let connector = ConnectorProperties { mountpoint: Some("/dev/sdb".into()), ..connector };
        let mut second =
            Attachment::of_another(NODE, SECOND_VOLUME, second_target.uuid, existing, connector, now);
        second.id = id(10);
        second.obstacle = Some("Nova does not answer".into());
        let chassis = json!({"uuid": id(2), "created_at": now, "description": "row 1", "extra": {"u": 42}});
        let group = json!({
            "uuid": id(5), "created_at": now, "node_uuid": NODE, "name": "bond", "mode": "802.3ad",
            "address": "52:54:00:12:34:57", "properties": {"miimon": 100}, "standalone_ports_supported": true,
        });
        let mut allocation = Allocation::new(id(11), "large", now);
        allocation.updated_at = Some(now);
        allocation.name = Some("db-1".into());
        allocation.traits = vec!["CUSTOM_SSD".parse().expect("a trait")];
        allocation.candidate_nodes = vec![NODE];
        allocation.extra = properties(json!({"ticket": 7}));
        allocation.last_error = Some("no available nodes".into());
        Self {
            chassis: serde_json::from_value(chassis).expect("a chassis"),
            node,
            port,
            group: serde_json::from_value(group).expect("a port group"),
            connector: VolumeConnector::new(id(6), NODE, "iqn", "iqn.2017-08.org.openstack.web-1", now),
            target,
            attachment,
            borrowed: (second_target, second),
            allocation,
        }
    }

    /// The same records as the versions with schema 1 wrote them: fields that came later have their defaults.
    fn of_schema_1() -> Self {
        let mut records = Self::new();
        let node = &mut records.node;
        node.traits.clear();
        node.conductor_group = ConductorGroup::default();
        node.automated_clean = None;
        node.target_power_state = None;
        node.reservation = None;
        node.protected = false;
        (node.protected_reason, node.owner, node.description) = (None, None, None);
        records.port.physical_network = None;
        records
    }

    async fn write(&self, store: &Arc<dyn Store>) {
        let inventory = Inventory::new(Arc::clone(store));
        inventory.create(&self.chassis).await.expect("creates");
        inventory.create(&self.node).await.expect("creates");
        inventory.create(&self.group).await.expect("creates");
        inventory.create(&self.port).await.expect("creates");
        inventory.create(&self.connector).await.expect("creates");
        inventory.create(&self.target).await.expect("creates");
        inventory.create(&self.allocation).await.expect("creates");
        inventory.create(&self.borrowed.0).await.expect("creates");
        let attachments = Attachments::new(Arc::clone(store));
        assert!(attachments.intend(&self.attachment).await.expect("writes"));
        assert!(attachments.intend(&self.borrowed.1).await.expect("writes"));
    }

    /// Compares with the records in a store of this schema.
    async fn assert_in(&self, store: &Arc<dyn Store>, schema: u32) {
        let inventory = Inventory::new(Arc::clone(store));
        let node = inventory.get::<Node>(NODE).await.expect("reads").expect("exists");
        assert_eq!(node.value, self.node);
        let chassis = inventory.get::<Chassis>(self.chassis.uuid).await.expect("reads").expect("exists");
        assert_eq!(chassis.value, self.chassis);
        assert_eq!(
            inventory.find_ports(&[self.port.address]).await.expect("reads"),
            std::slice::from_ref(&self.port)
        );
        assert_eq!(
            inventory.list_all_of::<PortGroup>(NODE).await.expect("reads"),
            std::slice::from_ref(&self.group)
        );
        assert_eq!(
            inventory.list_all_of::<VolumeConnector>(NODE).await.expect("reads"),
            std::slice::from_ref(&self.connector)
        );
        let mut targets = vec![self.target.clone()];
        let mut attachments = vec![self.attachment.clone()];
        if schema >= 2 {
            targets.push(self.borrowed.0.clone());
            attachments.push(self.borrowed.1.clone());
        }
        assert_eq!(inventory.list_all_of::<VolumeTarget>(NODE).await.expect("reads"), targets);
        let read = Attachments::new(Arc::clone(store)).list_by_node(NODE).await.expect("reads");
        assert_eq!(read, attachments);
        let allocations = inventory.list::<Allocation>(None, 9).await.expect("lists");
        let allocations: Vec<_> = allocations.into_iter().map(|record| record.value).collect();
        assert_eq!(allocations, if schema >= 2 { vec![self.allocation.clone()] } else { Vec::new() });
    }
}

#[tokio::test]
async fn writes_the_newest_schema() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    Records::new().write(&store).await;
    let output = records(store.as_ref()).await;
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(golden("2").parent().expect("a folder")).expect("is created");
        std::fs::write(golden("2"), &output).expect("writes");
    }
    assert_eq!(output, std::fs::read_to_string(golden("2")).expect("exists"));
}

#[tokio::test]
async fn reads_files_of_every_schema_and_version() {
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
    let mut batch = read_golden("2");
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
    records.assert_in(&store, 2).await;
    let written = store.wait_for_change(0).await.expect("reads");

    let inventory = Inventory::new(Arc::clone(&store));
    touch::<Chassis>(&inventory, records.chassis.uuid).await;
    touch::<Port>(&inventory, records.port.uuid).await;
    touch::<PortGroup>(&inventory, records.group.uuid).await;
    touch::<VolumeConnector>(&inventory, records.connector.uuid).await;
    touch::<VolumeTarget>(&inventory, records.target.uuid).await;
    touch::<Node>(&inventory, NODE).await;
    touch::<Allocation>(&inventory, records.allocation.uuid).await;
    let attachments = Attachments::new(Arc::clone(&store));
    attachments.change(&records.attachment, |it| it.pending_export = true).await.expect("changes");
    let kept = written_records(&*store, written).await;
    assert_eq!(kept.len(), 8, "one record of each type: {kept:?}");
    assert!(kept.iter().all(|(_, field)| *field == json!({"deep": [1, null]})), "{kept:?}");
}

#[tokio::test]
async fn a_released_attachment_keeps_the_fields_of_a_newer_version() {
    let store = store_of_newer_version().await;
    let written = store.wait_for_change(0).await.expect("reads");
    let release = |old: &Node| Ok::<_, Infallible>(Node { undeployed: true, ..old.clone() });
    let inventory = Inventory::new(Arc::clone(&store));
    inventory.update_without::<VolumeTarget, _>(NODE, release).await.expect("updates");
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
