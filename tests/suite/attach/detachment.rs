//! Detachment: every change that takes a volume from a node detaches the volume, even after an outage of Cinder.

use volboot::model::{Node, StorageInterface, VolumeTarget};
use volboot::store::Inventory;

use super::{Site, TestMachine, wait_until};
use crate::fake_cinder::{Fault, Operation};

/// Boots a node, applies a change, and waits until its volume is detached.
async fn expect_detachment<E: std::fmt::Debug>(
    change: &str,
    apply: impl AsyncFnOnce(&Inventory, &TestMachine) -> Result<(), E>,
) {
    let mut site = Site::open();
    site.start_reconciler();
    site.cinder.add_volume("root", |_| {});
    site.cinder.add_volume("data", |_| {});
    let machine = site.add_machine("web-1", &["root", "data"]).await;
    machine.boot(None).await;
    assert_eq!(site.cinder.status("root"), "in-use");
    apply(&site.inventory, &machine).await.expect(change);
    wait_until(change, || site.cinder.status("root") == "available").await;
    assert_eq!(site.cinder.attachments("root"), []);
}

#[tokio::test]
async fn every_change_that_takes_a_volume_detaches_it() {
    expect_detachment("its target is deleted", async |inventory, machine| {
        inventory.delete(machine.targets[0].uuid, |_: &VolumeTarget, _| Ok::<_, ()>(())).await.map(drop)
    })
    .await;
    expect_detachment("the node is deleted", async |inventory, machine| {
        inventory.delete(machine.node.uuid, |_: &Node, _| Ok::<_, ()>(())).await.map(drop)
    })
    .await;
    expect_detachment("its target names another volume", async |inventory, machine| {
        let change = |target: &VolumeTarget, _: Option<&Node>| {
            Ok::<_, ()>(VolumeTarget { volume_id: "other".into(), ..target.clone() })
        };
        inventory.update(machine.targets[0].uuid, change).await.map(drop)
    })
    .await;
    expect_detachment("it is undeployed and loses its targets", async |inventory, machine| {
        let change = |node: &Node| Ok::<_, ()>(node.clone());
        inventory.undeploy_without_targets(machine.node.uuid, change).await.map(drop)
    })
    .await;
    expect_detachment("it is undeployed and keeps its targets", async |inventory, machine| {
        let change = |node: &Node, _: Option<&Node>| Ok::<_, ()>(Node { undeployed: true, ..node.clone() });
        inventory.update(machine.node.uuid, change).await.map(drop)
    })
    .await;
    expect_detachment("its volumes are no longer Cinder's", async |inventory, machine| {
        let change = |node: &Node, _: Option<&Node>| {
            Ok::<_, ()>(Node { storage_interface: StorageInterface::Noop, ..node.clone() })
        };
        inventory.update(machine.node.uuid, change).await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_failed_detachment_is_retried_after_a_restart() {
    let mut site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(None).await;
    let node = machine.node.uuid;
    site.inventory.delete(node, |_: &Node, _| Ok::<_, ()>(())).await.expect("the record is deleted");
    site.cinder.take_calls();
    site.cinder.inject_fault(Operation::Delete, Fault::Status(500), 2);
    site.restart(&mut []);
    site.start_reconciler();
    wait_until("the volume is available", || site.cinder.status("root") == "available").await;
    let deletes =
        site.cinder.take_calls().into_iter().filter(|operation| *operation == Operation::Delete).count();
    assert_eq!(deletes, 3);
    let records = site.records();
    let no_records = async {
        while !records.list_all().await.expect("the store is readable").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::LIMIT, no_records).await.expect("the records are deleted");
}

#[tokio::test]
async fn a_returned_volume_is_detached_before_it_is_attached_again() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let mut machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(None).await;
    let first = site.cinder.attachments("root")[0].0.clone();
    let target = machine.targets.remove(0);
    site.inventory
        .delete(target.uuid, |_: &VolumeTarget, _| Ok::<_, ()>(()))
        .await
        .expect("the record is deleted");
    site.inventory.create(&target).await.expect("the record is created");
    machine.targets.push(target);
    machine.boot(None).await;
    let attachments = site.cinder.attachments("root");
    assert_eq!(attachments.len(), 1);
    assert_ne!(attachments[0].0, first);
}

#[tokio::test]
async fn a_target_deleted_during_the_attachment_leaves_no_records() {
    let mut site = Site::open();
    site.start_reconciler();
    site.cinder.add_volume("root", |_| {});
    site.cinder.inject_fault(Operation::Reserve, Fault::Slow(std::time::Duration::from_secs(1)), 1);
    let machine = site.add_machine("web-1", &["root"]).await;
    let inventory = &site.inventory;
    let deletion = async {
        wait_until("the volume is being reserved", || site.cinder.take_calls().contains(&Operation::Reserve))
            .await;
        inventory.delete(machine.targets[0].uuid, |_: &VolumeTarget, _| Ok::<_, ()>(())).await
    };
    let (_, result) = tokio::join!(machine.request(None), deletion);
    result.expect("the record is deleted");
    let records = site.records();
    let no_records = async {
        while !records.list_all().await.expect("the store is readable").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::LIMIT, no_records).await.expect("the records are deleted");
    assert_eq!(site.cinder.attachments("root"), []);
    assert_eq!(site.cinder.status("root"), "available");
}

#[tokio::test]
async fn an_undelivered_result_is_dropped_with_its_volume() {
    let mut site = Site::open();
    site.start_reconciler();
    site.cinder.add_volume("root", |_| {});
    site.cinder.inject_fault(Operation::Export, Fault::Slow(std::time::Duration::from_secs(4)), 1);
    let mut machine = site.add_machine("web-1", &["root"]).await;
    machine.expect_wait(None).await;
    wait_until("the volume is attached", || site.cinder.status("root") == "in-use").await;
    // Before the result is delivered, the node loses the volume to another client.
    let target = machine.targets.remove(0);
    site.inventory
        .delete(target.uuid, |_: &VolumeTarget, _| Ok::<_, ()>(()))
        .await
        .expect("the record is deleted");
    wait_until("the volume is available", || site.cinder.status("root") == "available").await;
    site.cinder.reserve_for_another("root", None);
    site.inventory.create(&target).await.expect("the record is created");
    machine.targets.push(target);
    machine.expect_wait(None).await;
    let reason = machine.expect_wait(None).await;
    assert!(reason.starts_with("volume root is in state \"reserved\", held by attachment "), "{reason}");
}

#[tokio::test]
async fn a_volume_with_two_targets_is_detached_with_the_last_target() {
    let mut site = Site::open();
    site.start_reconciler();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root", "root"]).await;
    machine.boot(None).await;
    let delete = async |at: usize| {
        let target = machine.targets[at].uuid;
        site.inventory
            .delete(target, |_: &VolumeTarget, _| Ok::<_, ()>(()))
            .await
            .expect("the record is deleted");
    };
    delete(1).await;
    let records = site.records().list_all().await.expect("the store is readable");
    assert_eq!(records[0].state, volboot::model::AttachmentState::Attached);
    delete(0).await;
    wait_until("the volume is available", || site.cinder.status("root") == "available").await;
}
