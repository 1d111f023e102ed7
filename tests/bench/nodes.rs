//! A store with many nodes, as test data for the benchmarks.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;
use volboot::model::{Node, Port, Properties, StorageInterface, VolumeConnector, VolumeTarget};
use volboot::store::{Inventory, RedbStore, Store};

use crate::history;

/// Creates nodes, each with a port, a connector and a volume.
pub(crate) async fn fill(path: &Path, nodes: u32) {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(path).expect("the store opens"));
    let inventory = Inventory::new(Arc::clone(&store));
    for chunk in (0..nodes).collect::<Vec<_>>().chunks(64) {
        // Concurrently, for group commits of the writer.
        let tasks = chunk.iter().map(|n| tokio::spawn(enroll(inventory.clone(), *n)));
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("the node is created");
        }
    }
    store.close().await.expect("the store closes");
}

async fn enroll(inventory: Inventory, n: u32) {
    let properties = |value| serde_json::from_value::<Properties>(value).expect("a JSON object");
    let uuid = Uuid::new_v4();
    let created_at = Timestamp::now();
    let mut node = Node::new(uuid, "manual-management", StorageInterface::External, created_at);
    node.name = Some(format!("node-{n}"));
    node.properties = properties(json!({"capabilities": "iscsi_boot:True"}));
    inventory.create(&node).await.expect("the record is created");
    let port = Port::new(uuid, uuid, history::mac(n), created_at);
    inventory.create(&port).await.expect("the record is created");
    let iqn = format!("iqn.2017-08.org.openstack.{uuid}");
    let connector = VolumeConnector::new(uuid, uuid, "iqn", &iqn, created_at);
    inventory.create(&connector).await.expect("the record is created");
    let target = VolumeTarget {
        properties: properties(json!({
            "target_portal": "192.0.2.1:3260",
            "target_iqn": format!("iqn.2010-10.org.openstack:volume-{uuid}"),
            "target_lun": 1,
            "auth_username": "JsJkmLmqUFUbpCuSyqUZ",
            "auth_password": "M9nFz6rQ3wT8kLp2",
        })),
        ..VolumeTarget::new(uuid, uuid, 0, &uuid.to_string(), created_at)
    };
    inventory.create(&target).await.expect("the record is created");
}
