//! The guarantees of the inventory beyond the store's contract: uniqueness, list order, and no leftovers.

mod interruption;

use std::convert::Infallible;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan};
use uuid::Uuid;

use super::*;
use crate::model::{
    BootOnce, Fallback, FallbackSource, Node, OnceSource, StorageInterface, VolumeConnector, VolumeTarget,
};
use crate::store::{Batch, InterceptedStore, MemoryStore, ResourceKind};
use interruption::Interruption;

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
async fn an_undeployment_changes_a_node_and_deletes_its_targets_atomically() {
    let (_, inventory) = inventory();
    inventory.create(&node(1)).await.expect("creates");
    inventory.create(&port(2, 1, 0xaa)).await.expect("creates");
    inventory.create(&target(3, 1, 0)).await.expect("creates");
    let uuid = Uuid::from_u128(1);
    let result = inventory.undeploy_without_targets(uuid, |_| Err("busy")).await;
    assert!(matches!(result, Err(UpdateError::Refused("busy"))));
    assert_eq!(inventory.list_all_of::<VolumeTarget>(uuid).await.expect("lists").len(), 1);
    let rename = |old: &Node| Ok::<_, Infallible>(Node { name: Some("n".into()), ..old.clone() });
    inventory.undeploy_without_targets(uuid, rename).await.expect("changes");
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
    let interruption = Interruption { once: tokio::sync::Mutex::new(Some(batch)), schema: None };
    Inventory::new(Arc::new(InterceptedStore::new(Arc::new(inner), interruption)))
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

/// A port is deleted, and another node's port takes its address, while the first port's node is deleted.
#[tokio::test]
async fn does_not_delete_an_address_that_another_node_has_taken() {
    let inventory = inventory_interrupted_by(async |inventory| {
        let deleted = inventory.delete::<Port, Infallible>(Uuid::from_u128(3), |_, _| Ok(())).await;
        deleted.expect("deletes");
        inventory.create(&port(5, 2, 0xaa)).await.expect("creates");
    })
    .await;
    inventory.delete::<Node, Infallible>(Uuid::from_u128(1), |_, _| Ok(())).await.expect("deletes");
    let mac = Mac::new([0x52, 0x54, 0, 0, 0, 0xaa]);
    assert_eq!(inventory.find_ports(&[mac]).await.expect("reads"), [port(5, 2, 0xaa)]);
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

#[tokio::test]
async fn new_kinds_of_records_wait_for_the_upgrade_of_every_instance() {
    for (schema, is_upgraded) in [(2, false), (3, true)] {
        let interruption = Interruption { schema: Some(schema), ..Interruption::default() };
        let store = InterceptedStore::new(Arc::default(), interruption);
        let inventory = Inventory::new(Arc::new(store));
        inventory.create(&node(1)).await.expect("creates");
        let refuses = |error: &InventoryError| error.to_string().contains("until every instance is upgraded");
        let boot_once = BootOnce {
            uuid: Uuid::from_u128(9),
            created_at: second(0),
            node_uuid: Uuid::from_u128(1),
            source: OnceSource::Local,
            with_volumes: false,
            shared: false,
            expires_at: second(60),
            journey: None,
            consumed_at: None,
            earlier_volume: None,
        };
        let result = inventory.set_boot_once(&boot_once, None).await;
        assert!(result.as_ref().map_or_else(refuses, |_| false) != is_upgraded, "{schema}: {result:?}");
        let fallback = Fallback::new(FallbackSource::Volume("v".into()));
        let with_fallback = |node: &Node| Fallback::write(Some(&fallback), node.clone());
        let result = inventory.create(&with_fallback(&node(2))).await;
        assert!(result.as_ref().map_or_else(refuses, |()| false) != is_upgraded, "{schema}: {result:?}");
        let set = |old: &Node| Ok::<_, Infallible>(with_fallback(old));
        match inventory
            .set_fallback(Uuid::from_u128(1), FallbackBasis { since: Some(99), idle: None }, None, set)
            .await
        {
            Err(UpdateError::Inventory(error)) => assert!(!is_upgraded && refuses(&error), "{error}"),
            result => assert!(is_upgraded, "{result:?}"),
        }
    }
}
