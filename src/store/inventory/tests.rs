//! What the inventory promises beyond the store's contract: uniqueness, order, and nothing left over.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan};
use uuid::Uuid;

use super::*;
use crate::model::{Node, StorageInterface, VolumeConnector, VolumeTarget};
use crate::store::{Answering, Batch, Changes, Kind, MemoryStore, Revision, WriteError};

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

fn named(n: u128, name: &str) -> Node {
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

fn duplicate(result: Result<(), InventoryError>) -> Unique {
    match result {
        Err(InventoryError::Duplicate(unique)) => unique,
        other => panic!("expected a duplicate, got {other:?}"),
    }
}

#[tokio::test]
async fn a_record_is_found_by_all_it_alone_has() {
    let (_, inventory) = inventory();
    inventory.create(&named(1, "web")).await.expect("creates");
    inventory.create(&port(2, 1, 0xaa)).await.expect("creates");
    let by_name: Versioned<Node> =
        inventory.find(&Unique::NodeName("web".into())).await.expect("reads").expect("is there");
    assert_eq!(by_name.value, named(1, "web"));
    let by_uuid: Versioned<Node> = inventory.get(Uuid::from_u128(1)).await.expect("reads").expect("is there");
    assert_eq!(by_uuid, by_name);
    let macs = [0xbb, 0xaa, 0xcc].map(|last| Mac::new([0x52, 0x54, 0, 0, 0, last]));
    assert_eq!(inventory.ports(&macs).await.expect("reads"), [port(2, 1, 0xaa)]);
    assert_eq!(inventory.ports(&macs[2..]).await.expect("reads"), []);
}

#[tokio::test]
async fn what_only_one_may_have_is_refused_to_a_second_by_name() {
    let (_, inventory) = inventory();
    for n in 1..=2 {
        inventory.create(&named(n, &format!("node-{n}"))).await.expect("creates");
    }
    let again = inventory.create(&named(1, "other")).await;
    assert_eq!(duplicate(again), Unique::Uuid(Kind::Node, Uuid::from_u128(1)));
    let name = inventory.create(&named(3, "node-1")).await;
    assert_eq!(duplicate(name), Unique::NodeName("node-1".into()));

    inventory.create(&port(4, 1, 0xaa)).await.expect("creates");
    let mac = inventory.create(&port(5, 2, 0xaa)).await;
    assert_eq!(duplicate(mac), Unique::Address(Mac::new([0x52, 0x54, 0, 0, 0, 0xaa])));

    inventory.create(&connector(6, 1, "iqn", "a/b")).await.expect("creates");
    inventory.create(&connector(7, 2, "iqn/a", "b")).await.expect("is another");
    assert!(inventory.create(&connector(8, 2, "iqn", "a/b")).await.is_err());

    inventory.create(&target(9, 1, 0)).await.expect("creates");
    inventory.create(&target(10, 2, 0)).await.expect("is another node's");
    assert_eq!(
        duplicate(inventory.create(&target(11, 1, 0)).await),
        Unique::BootIndex(Uuid::from_u128(1), 0)
    );

    let renamed = inventory
        .update(Uuid::from_u128(2), |old: &Node, _| {
            Ok::<_, Infallible>(Node { name: Some("node-1".into()), ..old.clone() })
        })
        .await;
    assert!(matches!(renamed, Err(UpdateError::Inventory(InventoryError::Duplicate(Unique::NodeName(_))))));
}

#[tokio::test]
async fn what_was_given_up_may_be_taken() {
    let (_, inventory) = inventory();
    inventory.create(&named(1, "a")).await.expect("creates");
    inventory
        .update(Uuid::from_u128(1), |old: &Node, _| Ok::<_, Infallible>(Node { name: None, ..old.clone() }))
        .await
        .expect("updates");
    inventory.create(&named(2, "a")).await.expect("the name is free");
    inventory.delete(Uuid::from_u128(2), |_: &Node, _| Ok::<_, Infallible>(())).await.expect("deletes");
    inventory.create(&named(3, "a")).await.expect("the name is free again");
}

#[tokio::test]
async fn lists_are_in_the_order_of_creation_and_go_on_behind_a_marker() {
    let (_, inventory) = inventory();
    // Created out of order, and two in one moment.
    for n in [3, 1, 2] {
        inventory.create(&node(n)).await.expect("creates");
    }
    inventory.create(&Node { created_at: second(2), ..node(9) }).await.expect("creates");
    let page = |after: Option<Node>, limit| {
        let inventory = inventory.clone();
        async move {
            let found = inventory.list::<Node>(after.as_ref(), limit).await.expect("lists");
            found.into_iter().map(|node| node.value.uuid.as_u128()).collect::<Vec<_>>()
        }
    };
    assert_eq!(page(None, 9).await, [1, 2, 9, 3]);
    assert_eq!(page(None, 2).await, [1, 2]);
    assert_eq!(page(Some(node(2)), 2).await, [9, 3]);
    assert_eq!(page(Some(node(3)), 2).await, Vec::<u128>::new());
}

#[tokio::test]
async fn a_record_needs_its_node() {
    let (store, inventory) = inventory();
    let homeless = inventory.create(&target(1, 7, 0)).await;
    assert!(matches!(homeless, Err(InventoryError::NoNode(node)) if node == Uuid::from_u128(7)));
    assert_eq!(store.list("", None, 9).await.expect("lists"), []);
}

#[tokio::test]
async fn a_node_that_goes_leaves_nothing_behind() {
    let (store, inventory) = inventory();
    inventory.create(&named(1, "gone")).await.expect("creates");
    inventory.create(&port(2, 1, 0xaa)).await.expect("creates");
    inventory.create(&connector(3, 1, "iqn", "x")).await.expect("creates");
    inventory.create(&target(4, 1, 0)).await.expect("creates");
    let refused = inventory.delete(Uuid::from_u128(1), |_: &Node, _| Err("busy")).await;
    assert!(matches!(refused, Err(UpdateError::Refused("busy"))));
    assert_eq!(inventory.all_of::<Port>(Uuid::from_u128(1)).await.expect("lists").len(), 1);
    inventory.delete(Uuid::from_u128(1), |_: &Node, _| Ok::<_, Infallible>(())).await.expect("deletes");
    assert_eq!(store.list("", None, 9).await.expect("lists"), []);
}

#[tokio::test]
async fn a_node_loses_its_records_of_one_kind_in_the_moment_in_which_it_changes() {
    let (_, inventory) = inventory();
    inventory.create(&node(1)).await.expect("creates");
    inventory.create(&port(2, 1, 0xaa)).await.expect("creates");
    inventory.create(&target(3, 1, 0)).await.expect("creates");
    let uuid = Uuid::from_u128(1);
    let refused = inventory.update_without::<VolumeTarget, _>(uuid, |_| Err("busy")).await;
    assert!(matches!(refused, Err(UpdateError::Refused("busy"))));
    assert_eq!(inventory.all_of::<VolumeTarget>(uuid).await.expect("lists").len(), 1);
    let rename = |old: &Node| Ok::<_, Infallible>(Node { name: Some("n".into()), ..old.clone() });
    inventory.update_without::<VolumeTarget, _>(uuid, rename).await.expect("changes");
    assert_eq!(inventory.all_of::<VolumeTarget>(uuid).await.expect("lists"), []);
    assert_eq!(inventory.all_of::<Port>(uuid).await.expect("lists").len(), 1);
    let named: Option<Versioned<Node>> = inventory.find(&Unique::NodeName("n".into())).await.expect("reads");
    assert!(named.is_some());
}

#[tokio::test]
async fn a_record_that_moves_to_another_node_is_listed_there_alone() {
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
    assert_eq!(inventory.all_of::<VolumeTarget>(Uuid::from_u128(1)).await.expect("lists"), []);
    assert_eq!(inventory.all_of::<VolumeTarget>(Uuid::from_u128(2)).await.expect("lists"), [target(3, 2, 0)]);
    let nowhere = inventory.update(Uuid::from_u128(3), to(9)).await;
    assert!(matches!(nowhere, Err(UpdateError::Inventory(InventoryError::NoNode(_)))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_not_deleted_in_the_moment_in_which_it_gets_something() {
    for round in 0..200 {
        let (store, inventory) = inventory();
        inventory.create(&node(1)).await.expect("creates");
        let creating = tokio::spawn({
            let inventory = inventory.clone();
            async move { inventory.create(&port(2, 1, 0xaa)).await }
        });
        inventory.delete(Uuid::from_u128(1), |_: &Node, _| Ok::<_, Infallible>(())).await.expect("deletes");
        match creating.await.expect("runs") {
            Ok(()) | Err(InventoryError::NoNode(_)) => {}
            Err(error) => panic!("round {round}: {error}"),
        }
        assert_eq!(store.list("", None, 9).await.expect("lists"), [], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_at_once_are_all_kept() {
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
    let node: Versioned<Node> = inventory.get(Uuid::from_u128(1)).await.expect("reads").expect("is there");
    assert_eq!(node.value.extra.reveal().len(), 20);
}

/// A store in which something happens in the moment after a list of ports was read, once.
struct Interrupted {
    inner: MemoryStore,
    once: tokio::sync::Mutex<Option<Batch>>,
}

impl Store for Interrupted {
    fn get<'a>(&'a self, keys: &'a [String]) -> Answering<'a, Vec<Option<Record>>> {
        self.inner.get(keys)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Answering<'a, Vec<Record>> {
        Box::pin(async move {
            let found = self.inner.list(prefix, after, limit).await?;
            if prefix.starts_with("port-")
                && let Some(batch) = self.once.lock().await.take()
            {
                self.inner.write(batch).await.expect("writes");
            }
            Ok(found)
        })
    }

    fn write(&self, batch: Batch) -> Answering<'_, Revision, WriteError> {
        self.inner.write(batch)
    }

    fn changes(&self, after: Revision, limit: usize) -> Answering<'_, Changes> {
        self.inner.changes(after, limit)
    }

    fn changed(&self, after: Revision) -> Answering<'_, Revision> {
        self.inner.changed(after)
    }

    fn close(&self) -> Answering<'_, ()> {
        self.inner.close()
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        self.inner.failed()
    }
}

/// What a change of an inventory writes, found out on a copy of it.
async fn written(store: &MemoryStore, change: impl AsyncFnOnce(&Inventory)) -> Batch {
    let copy = Arc::new(MemoryStore::default());
    let before = store.list("", None, 99).await.expect("lists");
    let all =
        before.iter().fold(Batch::default(), |batch, record| batch.put(&record.key, record.value.clone()));
    copy.write(all).await.expect("writes");
    change(&Inventory::new(Arc::clone(&copy) as Arc<dyn Store>)).await;
    let after = copy.list("", None, 99).await.expect("lists");
    let gone = before.iter().filter(|old| after.iter().all(|new| new.key != old.key));
    let batch = gone.fold(Batch::default(), |batch, record| batch.delete(&record.key));
    after
        .into_iter()
        .filter(|record| record.revision > 1)
        .fold(batch, |b, record| b.put(record.key, record.value))
}

async fn interrupted(change: impl AsyncFnOnce(&Inventory)) -> Inventory {
    let inner = MemoryStore::default();
    let enrolled = written(&inner, async |inventory| {
        inventory.create(&node(1)).await.expect("creates");
        inventory.create(&node(2)).await.expect("creates");
        inventory.create(&port(3, 1, 0xaa)).await.expect("creates");
        inventory.create(&port(4, 1, 0xbb)).await.expect("creates");
    });
    inner.write(enrolled.await).await.expect("writes");
    let batch = written(&inner, change).await;
    let store = Interrupted { inner, once: tokio::sync::Mutex::new(Some(batch)) };
    Inventory::new(Arc::new(store))
}

#[tokio::test]
async fn a_record_that_has_just_moved_is_not_deleted_with_its_old_node() {
    let moves = async |inventory: &Inventory| {
        let there = |old: &Port, _: Option<&Node>| {
            Ok::<_, Infallible>(Port { node_uuid: Uuid::from_u128(2), ..old.clone() })
        };
        inventory.update(Uuid::from_u128(3), there).await.expect("moves");
    };
    let inventory = interrupted(moves).await;
    inventory.delete(Uuid::from_u128(1), |_: &Node, _| Ok::<_, Infallible>(())).await.expect("deletes");
    let left = inventory.list::<Port>(None, 9).await.expect("lists");
    assert_eq!(left.iter().map(|port| port.value.uuid.as_u128()).collect::<Vec<_>>(), [3]);
    assert_eq!(inventory.all_of::<Port>(Uuid::from_u128(2)).await.expect("lists").len(), 1);
    assert_eq!(inventory.ports(&[port(3, 1, 0xaa).address]).await.expect("reads").len(), 1);
}

#[tokio::test]
async fn a_page_is_full_even_if_a_record_goes_while_it_is_read() {
    let goes = async |inventory: &Inventory| {
        inventory.delete(Uuid::from_u128(3), |_: &Port, _| Ok::<_, Infallible>(())).await.expect("deletes");
    };
    let inventory = interrupted(goes).await;
    let page = inventory.list::<Port>(None, 1).await.expect("lists");
    assert_eq!(page.iter().map(|port| port.value.uuid.as_u128()).collect::<Vec<_>>(), [4]);
}
