//! Nodes whose volumes are in Cinder, as test data for storms.

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;
use volboot::model::{Mac, Node, Port, Properties, StorageInterface, VolumeConnector, VolumeTarget};
use volboot::store::{Inventory, Store};

/// The MAC address of machine `n`.
pub(crate) fn mac(n: u32) -> Mac {
    let [_, a, b, c] = n.to_be_bytes();
    Mac::new([0x52, 0x54, 0, a, b, c])
}

/// The volume of machine `n`.
pub(crate) fn volume(n: u32) -> String {
    Uuid::from_u128(0x1000_0000 + u128::from(n)).to_string()
}

/// Creates these nodes, each with a port, a connector and a volume.
pub(crate) async fn fill(store: &Arc<dyn Store>, nodes: Range<u32>) {
    let inventory = Inventory::new(Arc::clone(store));
    let numbers: Vec<_> = nodes.collect();
    for chunk in numbers.chunks(64) {
        // Concurrently, for group commits of the writer.
        let tasks = chunk.iter().map(|&n| tokio::spawn(enroll(inventory.clone(), n)));
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("the node is created");
        }
    }
}

async fn enroll(inventory: Inventory, n: u32) {
    let (uuid, now) = (Uuid::new_v4(), Timestamp::now());
    let mut node = Node::new(uuid, "manual-management", StorageInterface::Cinder, now);
    let capabilities = json!({"capabilities": "iscsi_boot:True"});
    node.properties = serde_json::from_value::<Properties>(capabilities).expect("a JSON object");
    inventory.create(&node).await.expect("the record is created");
    inventory.create(&Port::new(Uuid::new_v4(), uuid, mac(n), now)).await.expect("the record is created");
    let name = format!("iqn.2017-08.org.openstack.{uuid}");
    let connector = VolumeConnector::new(Uuid::new_v4(), uuid, "iqn", &name, now);
    inventory.create(&connector).await.expect("the record is created");
    let target = VolumeTarget::new(Uuid::new_v4(), uuid, 0, &volume(n), now);
    inventory.create(&target).await.expect("the record is created");
}
