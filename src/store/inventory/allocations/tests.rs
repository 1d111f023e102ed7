//! Allocations: reservation, failure, deletion, and what ends an allocation besides its deletion.

use std::convert::Infallible;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::model::{AllocationState, PowerState, ProvisionState, StorageInterface};
use crate::store::{MemoryStore, Store as _};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn node(n: u128) -> Node {
    Node {
        provision_state: ProvisionState::Available,
        power_state: Some(PowerState::Off),
        resource_class: Some("large".into()),
        ..Node::new(id(n), "manual-management", StorageInterface::External, NOW)
    }
}

/// A store with two available nodes.
async fn inventory() -> (Arc<MemoryStore>, Inventory) {
    let store = Arc::new(MemoryStore::default());
    let inventory = Inventory::new(Arc::clone(&store) as _);
    for n in [1, 2] {
        inventory.create(&node(n)).await.expect("creates");
    }
    (store, inventory)
}

fn named(n: u128, name: &str) -> Allocation {
    Allocation { name: Some(name.into()), ..Allocation::new(id(n), "large", NOW) }
}

async fn get_node(inventory: &Inventory, n: u128) -> Node {
    inventory.get(id(n)).await.expect("reads").expect("exists").value
}

async fn list(inventory: &Inventory) -> Vec<(u128, AllocationState)> {
    let all = inventory.list::<Allocation>(None, 9).await.expect("lists");
    all.into_iter().map(|record| (record.value.uuid.as_u128(), record.value.state())).collect()
}

/// Deletes an allocation without a check.
async fn delete(inventory: &Inventory, n: u128) -> Result<(), UpdateError<Infallible>> {
    inventory.deallocate(id(n), NOW, |_, _| Ok(())).await
}

#[tokio::test]
async fn an_allocation_reserves_a_node_until_it_is_deleted() {
    let (_, inventory) = inventory().await;
    let active = inventory.allocate(&named(0x10, "one"), NOW).await.expect("writes");
    assert_eq!(active.node_uuid, Some(id(1)), "the nearest UUID");
    assert_eq!(get_node(&inventory, 1).await.allocation(), Some(id(0x10)));
    let by_name = inventory.find::<Allocation>(&UniqueKey::AllocationName("one".into())).await;
    assert_eq!(by_name.expect("reads").expect("exists").value, active);
    assert_eq!(inventory.list_all_of::<Allocation>(id(1)).await.expect("lists"), [active]);

    let refusal = inventory.deallocate(id(0x10), NOW, |allocation, node| {
        assert_eq!((allocation.uuid, node.map(|node| node.uuid)), (id(0x10), Some(id(1))));
        Err("busy")
    });
    assert!(matches!(refusal.await, Err(UpdateError::Refused("busy"))));
    assert_eq!(list(&inventory).await, [(0x10, AllocationState::Active)]);

    delete(&inventory, 0x10).await.expect("deletes");
    let free = get_node(&inventory, 1).await;
    assert_eq!((free.instance_uuid, free.allocation_uuid), (None, None));
    assert!(matches!(delete(&inventory, 0x10).await, Err(UpdateError::NotFound)));
    inventory.allocate(&named(0x10, "one"), NOW).await.expect("UUID and name are free again");
}

#[tokio::test]
async fn a_failed_allocation_is_recorded_and_deleted_without_a_trace() {
    let (store, inventory) = inventory().await;
    let before = store.list("", None, 99).await.expect("lists");
    let small = Allocation { resource_class: "small".into(), ..named(0x10, "one") };
    let failed = inventory.allocate(&small, NOW).await.expect("writes");
    assert_eq!(failed.state(), AllocationState::Error);
    let elsewhere = Allocation { candidate_nodes: vec![id(9)], ..named(0x11, "two") };
    let failed = inventory.allocate(&elsewhere, NOW).await.expect("writes");
    assert!(failed.last_error.expect("a reason").contains("none of the requested nodes"));
    assert_eq!(list(&inventory).await, [(0x10, AllocationState::Error), (0x11, AllocationState::Error)]);
    for n in [0x10, 0x11] {
        delete(&inventory, n).await.expect("deletes");
    }
    assert_eq!(store.list("", None, 99).await.expect("lists"), before);
}

#[tokio::test]
async fn a_duplicate_uuid_or_name_is_refused_and_reserves_nothing() {
    let (_, inventory) = inventory().await;
    inventory.allocate(&named(0x10, "one"), NOW).await.expect("writes");
    let duplicate = async |allocation: Allocation| match inventory.allocate(&allocation, NOW).await {
        Err(InventoryError::Duplicate(key)) => key.to_string(),
        other => panic!("{other:?}"),
    };
    let uuid = format!("the UUID {}", id(0x10));
    assert_eq!(duplicate(named(0x10, "two")).await, uuid);
    assert_eq!(duplicate(named(0x11, "one")).await, "the name one");
    // A failure is no way around the rule.
    let small = |allocation| Allocation { resource_class: "small".into(), ..allocation };
    assert_eq!(duplicate(small(named(0x10, "two"))).await, uuid);
    assert_eq!(duplicate(small(named(0x11, "one"))).await, "the name one");
    assert_eq!(get_node(&inventory, 2).await.instance_uuid, None);

    let instance = |old: &Node, _: Option<&Node>| {
        Ok::<_, Infallible>(Node { instance_uuid: Some(id(0x20)), maintenance: true, ..old.clone() })
    };
    inventory.create(&node(3)).await.expect("creates");
    inventory.update(id(3), instance).await.expect("updates");
    let failed = inventory.allocate(&named(0x20, "three"), NOW).await.expect("writes");
    assert!(failed.last_error.expect("a reason").ends_with("is already associated with a node."));
    assert_eq!(get_node(&inventory, 2).await.instance_uuid, None);
}

#[tokio::test]
async fn an_allocation_ends_with_its_node_s_instance_and_with_its_node() {
    let (store, inventory) = inventory().await;
    let before = store.list("", None, 99).await.expect("lists").len();
    let without_instance = |old: &Node| Node { instance_uuid: None, ..old.clone() };
    let keep = |old: &Node, _: Option<&Node>| Ok::<_, Infallible>(Node { maintenance: true, ..old.clone() });
    let patch = |old: &Node, _: Option<&Node>| Ok::<_, Infallible>(without_instance(old));
    let undeploy = |old: &Node| Ok::<_, Infallible>(without_instance(old));

    inventory.allocate(&named(0x10, "one"), NOW).await.expect("writes");
    inventory.update(id(1), keep).await.expect("updates");
    assert_eq!(list(&inventory).await.len(), 1, "another change of the node keeps the allocation");
    inventory.update(id(1), patch).await.expect("updates");
    assert_eq!(list(&inventory).await, []);
    assert_eq!(store.list("", None, 99).await.expect("lists").len(), before);

    inventory.allocate(&named(0x10, "one"), NOW).await.expect("node 2 is free");
    inventory.undeploy_without_targets(id(2), undeploy).await.expect("updates");
    assert_eq!(list(&inventory).await, []);

    inventory.allocate(&named(0x10, "one"), NOW).await.expect("writes");
    inventory.delete(id(2), |_: &Node, _| Ok::<_, Infallible>(())).await.expect("deletes");
    assert_eq!(list(&inventory).await, []);
    let left = store.list("allocation", None, 99).await.expect("lists");
    assert_eq!(left, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_of_the_node_leaves_no_active_allocation() {
    for round in 0..100 {
        let (store, inventory) = inventory().await;
        let allocating = tokio::spawn({
            let inventory = inventory.clone();
            let only = Allocation { candidate_nodes: vec![id(1)], ..named(0x10, "one") };
            async move { inventory.allocate(&only, NOW).await }
        });
        inventory.delete(id(1), |_: &Node, _| Ok::<_, Infallible>(())).await.expect("deletes");
        allocating.await.expect("runs").expect("writes");
        let left = list(&inventory).await;
        assert!(left.iter().all(|(_, state)| *state == AllocationState::Error), "round {round}: {left:?}");
        let of_node = store.list("allocation-of", None, 9).await.expect("lists");
        assert_eq!(of_node, [], "round {round}");
    }
}
