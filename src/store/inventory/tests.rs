//! The guarantees of the inventory beyond the store's contract: uniqueness, list order, and no leftovers.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan};
use uuid::Uuid;

use super::*;
use crate::model::{Node, StorageInterface, VolumeConnector, VolumeTarget};
use crate::store::{
    Batch, ChangeSet, Cluster, Freshness, MemoryStore, ResourceKind, Revision, Snapshot, StoreAccess,
    StoreFuture, StoreInfo, WriteError,
};

fn inventory() -> (Arc<MemoryStore>, Inventory) {
    let store = Arc::new(MemoryStore::default());
    (Arc::clone(&store), Inventory::new(store))
}

fn second(n: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + n.seconds()
}

fn node(n: u128) -> Node {
    Node::new(Uuid::from_u128(n), "manual-management", StorageInterface::External, second(n as i64))
}

fn node_with_name(n: u128, name: &str) -> Node {
    Node { name: Some(name.into()), ..node(n) }
}

fn port(n: u128, node: u128, last: u8) -> Port {
    let address = Mac::new([0x52, 0x54, 0, 0, 0, last]);
    Port::new(Uuid::from_u128(n), Uuid::from_u128(node), address, second(n as i64))
}

fn target(n: u128, node: u128, boot_index: i64) -> VolumeTarget {
    VolumeTarget::new(Uuid::from_u128(n), Uuid::from_u128(node), boot_index, "v", second(n as i64))
}

fn connector(n: u128, node: u128, kind: &str, id: &str) -> VolumeConnector {
    VolumeConnector::new(Uuid::from_u128(n), Uuid::from_u128(node), kind, id, second(n as i64))
}

fn duplicate(result: Result<(), InventoryError>) -> UniqueKey {
    match result {
        Err(InventoryError::Duplicate(unique)) => unique,
        other => panic!("expected a duplicate, got {other:?}"),
    }
}

#[tokio::test]
async fn finds_a_record_by_each_unique_value() {
    let (_, inventory) = inventory();
    inventory.create(&node_with_name(1, "web")).await.expect("creates");
    inventory.create(&port(2, 1, 0xaa)).await.expect("creates");
    let by_name: Versioned<Node> =
        inventory.find(&UniqueKey::NodeName("web".into())).await.expect("reads").expect("exists");
    assert_eq!(by_name.value, node_with_name(1, "web"));
    let by_uuid: Versioned<Node> = inventory.get(Uuid::from_u128(1)).await.expect("reads").expect("exists");
    assert_eq!(by_uuid, by_name);
    let macs = [0xbb, 0xaa, 0xcc].map(|last| Mac::new([0x52, 0x54, 0, 0, 0, last]));
    assert_eq!(inventory.find_ports(&macs).await.expect("reads"), [port(2, 1, 0xaa)]);
    assert_eq!(inventory.find_ports(&macs[2..]).await.expect("reads"), []);
}

#[tokio::test]
async fn refuses_duplicates_and_names_the_value() {
    let (_, inventory) = inventory();
    for n in 1..=2 {
        inventory.create(&node_with_name(n, &format!("node-{n}"))).await.expect("creates");
    }
    let uuid = inventory.create(&node_with_name(1, "other")).await;
    assert_eq!(duplicate(uuid), UniqueKey::Uuid(ResourceKind::Node, Uuid::from_u128(1)));
    let name = inventory.create(&node_with_name(3, "node-1")).await;
    assert_eq!(duplicate(name), UniqueKey::NodeName("node-1".into()));

    inventory.create(&port(4, 1, 0xaa)).await.expect("creates");
    let mac = inventory.create(&port(5, 2, 0xaa)).await;
    assert_eq!(duplicate(mac), UniqueKey::Address(Mac::new([0x52, 0x54, 0, 0, 0, 0xaa])));

    inventory.create(&connector(6, 1, "iqn", "a/b")).await.expect("creates");
    inventory.create(&connector(7, 2, "iqn/a", "b")).await.expect("is a different pair");
    assert!(inventory.create(&connector(8, 2, "iqn", "a/b")).await.is_err());

    inventory.create(&target(9, 1, 0)).await.expect("creates");
    inventory.create(&target(10, 2, 0)).await.expect("belongs to another node");
    assert_eq!(
        duplicate(inventory.create(&target(11, 1, 0)).await),
        UniqueKey::BootIndex(Uuid::from_u128(1), 0)
    );

    let duplicate_name = inventory
        .update(Uuid::from_u128(2), |old: &Node, _| {
            Ok::<_, Infallible>(Node { name: Some("node-1".into()), ..old.clone() })
        })
        .await;
    assert!(matches!(
        duplicate_name,
        Err(UpdateError::Inventory(InventoryError::Duplicate(UniqueKey::NodeName(_))))
    ));
}

#[tokio::test]
async fn released_values_can_be_reused() {
    let (_, inventory) = inventory();
    inventory.create(&node_with_name(1, "a")).await.expect("creates");
    inventory
        .update(Uuid::from_u128(1), |old: &Node, _| Ok::<_, Infallible>(Node { name: None, ..old.clone() }))
        .await
        .expect("updates");
    inventory.create(&node_with_name(2, "a")).await.expect("the name is free");
    inventory.delete(Uuid::from_u128(2), |_: &Node, _| Ok::<_, Infallible>(())).await.expect("deletes");
    inventory.create(&node_with_name(3, "a")).await.expect("the name is free again");
}

#[tokio::test]
async fn lists_in_creation_order_and_continues_behind_a_marker() {
    let (_, inventory) = inventory();
    // Created out of order, two of them with the same timestamp.
    for n in [3, 1, 2] {
        inventory.create(&node(n)).await.expect("creates");
    }
    inventory.create(&Node { created_at: second(2), ..node(9) }).await.expect("creates");
    let page = |after: Option<Node>, limit| {
        let inventory = inventory.clone();
        async move {
            let nodes = inventory.list::<Node>(after.as_ref(), limit).await.expect("lists");
            nodes.into_iter().map(|node| node.value.uuid.as_u128()).collect::<Vec<_>>()
        }
    };
    assert_eq!(page(None, 9).await, [1, 2, 9, 3]);
    assert_eq!(page(None, 2).await, [1, 2]);
    assert_eq!(page(Some(node(2)), 2).await, [9, 3]);
    assert_eq!(page(Some(node(3)), 2).await, Vec::<u128>::new());
}

#[tokio::test]
async fn refuses_a_record_without_its_node() {
    let (store, inventory) = inventory();
    let orphan = inventory.create(&target(1, 7, 0)).await;
    assert!(matches!(orphan, Err(InventoryError::NodeNotFound(node)) if node == Uuid::from_u128(7)));
    assert_eq!(store.list("", None, 9).await.expect("lists"), []);
}

#[tokio::test]
async fn deletes_all_records_of_a_deleted_node() {
    let (store, inventory) = inventory();
    inventory.create(&node_with_name(1, "web")).await.expect("creates");
    inventory.create(&port(2, 1, 0xaa)).await.expect("creates");
    inventory.create(&connector(3, 1, "iqn", "x")).await.expect("creates");
    inventory.create(&target(4, 1, 0)).await.expect("creates");
    let result = inventory.delete(Uuid::from_u128(1), |_: &Node, _| Err("busy")).await;
    assert!(matches!(result, Err(UpdateError::Refused("busy"))));
    assert_eq!(inventory.list_all_of::<Port>(Uuid::from_u128(1)).await.expect("lists").len(), 1);
    inventory.delete(Uuid::from_u128(1), |_: &Node, _| Ok::<_, Infallible>(())).await.expect("deletes");
    assert_eq!(store.list("", None, 9).await.expect("lists"), []);
}

#[tokio::test]
async fn changes_a_node_and_deletes_its_records_of_one_type_atomically() {
    let (_, inventory) = inventory();
    inventory.create(&node(1)).await.expect("creates");
    inventory.create(&port(2, 1, 0xaa)).await.expect("creates");
    inventory.create(&target(3, 1, 0)).await.expect("creates");
    let uuid = Uuid::from_u128(1);
    let result = inventory.update_without::<VolumeTarget, _>(uuid, |_| Err("busy")).await;
    assert!(matches!(result, Err(UpdateError::Refused("busy"))));
    assert_eq!(inventory.list_all_of::<VolumeTarget>(uuid).await.expect("lists").len(), 1);
    let rename = |old: &Node| Ok::<_, Infallible>(Node { name: Some("n".into()), ..old.clone() });
    inventory.update_without::<VolumeTarget, _>(uuid, rename).await.expect("changes");
    assert_eq!(inventory.list_all_of::<VolumeTarget>(uuid).await.expect("lists"), []);
    assert_eq!(inventory.list_all_of::<Port>(uuid).await.expect("lists").len(), 1);
    let node: Option<Versioned<Node>> =
        inventory.find(&UniqueKey::NodeName("n".into())).await.expect("reads");
    assert!(node.is_some());
}

#[tokio::test]
async fn lists_a_moved_record_under_its_new_node_only() {
    let (_, inventory) = inventory();
    for n in 1..=2 {
        inventory.create(&node(n)).await.expect("creates");
    }
    inventory.create(&target(3, 1, 0)).await.expect("creates");
    let to = |n| {
        move |old: &VolumeTarget, node: Option<&Node>| {
            assert_eq!(node.map(|node| node.uuid), Some(old.node_uuid));
            Ok::<_, Infallible>(VolumeTarget { node_uuid: Uuid::from_u128(n), ..old.clone() })
        }
    };
    inventory.update(Uuid::from_u128(3), to(2)).await.expect("moves");
    assert_eq!(inventory.list_all_of::<VolumeTarget>(Uuid::from_u128(1)).await.expect("lists"), []);
    assert_eq!(
        inventory.list_all_of::<VolumeTarget>(Uuid::from_u128(2)).await.expect("lists"),
        [target(3, 2, 0)]
    );
    let nowhere = inventory.update(Uuid::from_u128(3), to(9)).await;
    assert!(matches!(nowhere, Err(UpdateError::Inventory(InventoryError::NodeNotFound(_)))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_node_conflicts_with_creating_its_records() {
    for round in 0..200 {
        let (store, inventory) = inventory();
        inventory.create(&node(1)).await.expect("creates");
        let creating = tokio::spawn({
            let inventory = inventory.clone();
            async move { inventory.create(&port(2, 1, 0xaa)).await }
        });
        inventory.delete(Uuid::from_u128(1), |_: &Node, _| Ok::<_, Infallible>(())).await.expect("deletes");
        match creating.await.expect("runs") {
            Ok(()) | Err(InventoryError::NodeNotFound(_)) => {}
            Err(error) => panic!("round {round}: {error}"),
        }
        assert_eq!(store.list("", None, 9).await.expect("lists"), [], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loses_no_concurrent_change() {
    let (_, inventory) = inventory();
    inventory.create(&node(1)).await.expect("creates");
    let changes = (0..20).map(|n| {
        let inventory = inventory.clone();
        tokio::spawn(async move {
            let add = |old: &Node, _: Option<&Node>| {
                let mut extra = old.extra.reveal().clone();
                extra.insert(format!("k{n}"), n.into());
                Ok::<_, Infallible>(Node { extra: extra.into(), ..old.clone() })
            };
            inventory.update(Uuid::from_u128(1), add).await.map(|_| ())
        })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.expect("runs").expect("updates");
    }
    let node: Versioned<Node> = inventory.get(Uuid::from_u128(1)).await.expect("reads").expect("exists");
    assert_eq!(node.value.extra.reveal().len(), 20);
}

/// A store that applies a batch right after the first list of ports was read.
struct InterruptedStore {
    inner: MemoryStore,
    once: tokio::sync::Mutex<Option<Batch>>,
}

impl Store for InterruptedStore {
    fn get<'a>(&'a self, keys: &'a [String]) -> StoreFuture<'a, Vec<Option<Record>>> {
        self.inner.get(keys)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Record>> {
        Box::pin(async move {
            let page = self.inner.list(prefix, after, limit).await?;
            if prefix.starts_with("port-")
                && let Some(batch) = self.once.lock().await.take()
            {
                self.inner.write(batch).await.expect("writes");
            }
            Ok(page)
        })
    }

    fn write(&self, batch: Batch) -> StoreFuture<'_, Revision, WriteError> {
        self.inner.write(batch)
    }

    fn changes(&self, after: Revision, limit: usize) -> StoreFuture<'_, ChangeSet> {
        self.inner.changes(after, limit)
    }

    fn wait_for_change(&self, after: Revision) -> StoreFuture<'_, Revision> {
        self.inner.wait_for_change(after)
    }

    fn access(&self) -> StoreAccess {
        self.inner.access()
    }

    fn freshness(&self) -> Freshness {
        self.inner.freshness()
    }

    fn last_known(self: Arc<Self>) -> Arc<dyn Store> {
        self
    }

    fn cluster(&self) -> &dyn Cluster {
        self.inner.cluster()
    }

    fn snapshot(&self) -> StoreFuture<'_, Box<dyn Snapshot>> {
        self.inner.snapshot()
    }

    fn info(&self) -> StoreFuture<'_, StoreInfo> {
        self.inner.info()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.inner.close()
    }

    fn wait_for_failure(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        self.inner.wait_for_failure()
    }
}

/// Records the batch that a change of an inventory writes, on a copy of the store.
async fn record_batch(store: &MemoryStore, change: impl AsyncFnOnce(&Inventory)) -> Batch {
    let copy = Arc::new(MemoryStore::default());
    let before = store.list("", None, 99).await.expect("lists");
    let all =
        before.iter().fold(Batch::default(), |batch, record| batch.put(&record.key, record.value.clone()));
    copy.write(all).await.expect("writes");
    change(&Inventory::new(Arc::clone(&copy) as Arc<dyn Store>)).await;
    let after = copy.list("", None, 99).await.expect("lists");
    let deleted = before.iter().filter(|old| after.iter().all(|new| new.key != old.key));
    let batch = deleted.fold(Batch::default(), |batch, record| batch.delete(&record.key));
    after
        .into_iter()
        .filter(|record| record.revision > 1)
        .fold(batch, |b, record| b.put(record.key, record.value))
}

/// An inventory of two nodes and two ports, with a change right after the first list of ports.
async fn inventory_interrupted_by(change: impl AsyncFnOnce(&Inventory)) -> Inventory {
    let inner = MemoryStore::default();
    let setup = record_batch(&inner, async |inventory| {
        inventory.create(&node(1)).await.expect("creates");
        inventory.create(&node(2)).await.expect("creates");
        inventory.create(&port(3, 1, 0xaa)).await.expect("creates");
        inventory.create(&port(4, 1, 0xbb)).await.expect("creates");
    });
    inner.write(setup.await).await.expect("writes");
    let batch = record_batch(&inner, change).await;
    let store = InterruptedStore { inner, once: tokio::sync::Mutex::new(Some(batch)) };
    Inventory::new(Arc::new(store))
}

#[tokio::test]
async fn does_not_delete_a_moved_record_with_its_old_node() {
    let moves = async |inventory: &Inventory| {
        let there = |old: &Port, _: Option<&Node>| {
            Ok::<_, Infallible>(Port { node_uuid: Uuid::from_u128(2), ..old.clone() })
        };
        inventory.update(Uuid::from_u128(3), there).await.expect("moves");
    };
    let inventory = inventory_interrupted_by(moves).await;
    inventory.delete(Uuid::from_u128(1), |_: &Node, _| Ok::<_, Infallible>(())).await.expect("deletes");
    let ports = inventory.list::<Port>(None, 9).await.expect("lists");
    assert_eq!(ports.iter().map(|port| port.value.uuid.as_u128()).collect::<Vec<_>>(), [3]);
    assert_eq!(inventory.list_all_of::<Port>(Uuid::from_u128(2)).await.expect("lists").len(), 1);
    assert_eq!(inventory.find_ports(&[port(3, 1, 0xaa).address]).await.expect("reads").len(), 1);
}

#[tokio::test]
async fn fills_a_page_despite_a_concurrent_deletion() {
    let deletion = async |inventory: &Inventory| {
        inventory.delete(Uuid::from_u128(3), |_: &Port, _| Ok::<_, Infallible>(())).await.expect("deletes");
    };
    let inventory = inventory_interrupted_by(deletion).await;
    let page = inventory.list::<Port>(None, 1).await.expect("lists");
    assert_eq!(page.iter().map(|port| port.value.uuid.as_u128()).collect::<Vec<_>>(), [4]);
}
