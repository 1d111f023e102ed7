//! The end: whatever takes a volume from a node has it detached, also if Cinder cannot be asked at that time.

use volboot::model::{Node, StorageInterface, VolumeTarget};
use volboot::store::Inventory;

use super::{Machine, Site, until};
use crate::fake_cinder::{Fault, Kind};

/// A node that has booted, and what happens to it then.
async fn after<E: std::fmt::Debug>(
    what: &str,
    happens: impl AsyncFnOnce(&Inventory, &Machine) -> Result<(), E>,
) {
    let mut site = Site::open();
    site.reconcile();
    site.cinder.volume("root", |_| {});
    site.cinder.volume("data", |_| {});
    let machine = site.machine("web-1", &["root", "data"]).await;
    machine.gets(None).await;
    assert_eq!(site.cinder.status("root"), "in-use");
    happens(&site.inventory, &machine).await.expect(what);
    until(what, || site.cinder.status("root") == "available").await;
    assert_eq!(site.cinder.attachments("root"), []);
}

#[tokio::test]
async fn whatever_takes_a_volume_from_a_node_detaches_it() {
    after("its target is deleted", async |inventory, machine| {
        inventory.delete(machine.targets[0].uuid, |_: &VolumeTarget, _| Ok::<_, ()>(())).await.map(drop)
    })
    .await;
    after("the node is deleted", async |inventory, machine| {
        inventory.delete(machine.node.uuid, |_: &Node, _| Ok::<_, ()>(())).await.map(drop)
    })
    .await;
    after("its target names another volume", async |inventory, machine| {
        let change = |target: &VolumeTarget, _: Option<&Node>| {
            Ok::<_, ()>(VolumeTarget { volume_id: "other".into(), ..target.clone() })
        };
        inventory.update(machine.targets[0].uuid, change).await.map(drop)
    })
    .await;
    after("it is undeployed and loses its targets", async |inventory, machine| {
        let change = |node: &Node| Ok::<_, ()>(node.clone());
        inventory.update_without::<VolumeTarget, _>(machine.node.uuid, change).await.map(drop)
    })
    .await;
    after("it is undeployed and keeps its targets", async |inventory, machine| {
        let change = |node: &Node, _: Option<&Node>| Ok::<_, ()>(Node { undeployed: true, ..node.clone() });
        inventory.update(machine.node.uuid, change).await.map(drop)
    })
    .await;
    after("its volumes are no longer Cinder's", async |inventory, machine| {
        let change = |node: &Node, _: Option<&Node>| {
            Ok::<_, ()>(Node { storage_interface: StorageInterface::Noop, ..node.clone() })
        };
        inventory.update(machine.node.uuid, change).await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_detached_now_is_detached_later_even_by_another_process() {
    let mut site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    machine.gets(None).await;
    let node = machine.node.uuid;
    site.inventory.delete(node, |_: &Node, _| Ok::<_, ()>(())).await.expect("deletes");
    site.cinder.calls();
    site.cinder.fault(Kind::Delete, Fault::Status(500), 2);
    site.restart(&mut []);
    site.reconcile();
    until("it is let go", || site.cinder.status("root") == "available").await;
    let deletes = site.cinder.calls().into_iter().filter(|kind| *kind == Kind::Delete).count();
    assert_eq!(deletes, 3);
    let records = site.records();
    let forgotten = async {
        while !records.all().await.expect("reads").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::LIMIT, forgotten).await.expect("it is forgotten");
}

#[tokio::test]
async fn a_volume_that_a_node_gets_back_is_first_let_go() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let mut machine = site.machine("web-1", &["root"]).await;
    machine.gets(None).await;
    let first = site.cinder.attachments("root")[0].0.clone();
    let target = machine.targets.remove(0);
    site.inventory.delete(target.uuid, |_: &VolumeTarget, _| Ok::<_, ()>(())).await.expect("deletes");
    site.inventory.create(&target).await.expect("creates");
    machine.targets.push(target);
    machine.gets(None).await;
    let attachments = site.cinder.attachments("root");
    assert_eq!(attachments.len(), 1);
    assert_ne!(attachments[0].0, first);
}

#[tokio::test]
async fn a_target_that_is_deleted_while_its_volume_is_attached_leaves_nothing() {
    let mut site = Site::open();
    site.reconcile();
    site.cinder.volume("root", |_| {});
    site.cinder.fault(Kind::Reserve, Fault::Slow(std::time::Duration::from_secs(1)), 1);
    let machine = site.machine("web-1", &["root"]).await;
    let inventory = &site.inventory;
    let meanwhile = async {
        until("it is being reserved", || site.cinder.calls().contains(&Kind::Reserve)).await;
        inventory.delete(machine.targets[0].uuid, |_: &VolumeTarget, _| Ok::<_, ()>(())).await
    };
    let (_, deleted) = tokio::join!(machine.asks(None), meanwhile);
    deleted.expect("deletes");
    let records = site.records();
    let forgotten = async {
        while !records.all().await.expect("reads").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::LIMIT, forgotten).await.expect("it is forgotten");
    assert_eq!(site.cinder.attachments("root"), []);
    assert_eq!(site.cinder.status("root"), "available");
}

#[tokio::test]
async fn what_was_fetched_and_taken_away_is_not_handed_out() {
    let mut site = Site::open();
    site.reconcile();
    site.cinder.volume("root", |_| {});
    site.cinder.fault(Kind::Export, Fault::Slow(std::time::Duration::from_secs(4)), 1);
    let mut machine = site.machine("web-1", &["root"]).await;
    machine.waits(None).await;
    until("it is attached", || site.cinder.status("root") == "in-use").await;
    // Nobody has fetched the answer yet; the volume goes, and somebody else takes it.
    let target = machine.targets.remove(0);
    site.inventory.delete(target.uuid, |_: &VolumeTarget, _| Ok::<_, ()>(())).await.expect("deletes");
    until("it is let go", || site.cinder.status("root") == "available").await;
    site.cinder.reserve_for_another("root", None);
    site.inventory.create(&target).await.expect("creates");
    machine.targets.push(target);
    machine.waits(None).await;
    let reason = machine.waits(None).await;
    assert!(reason.starts_with("volume root is in state \"reserved\" by attachment "), "{reason}");
}

#[tokio::test]
async fn a_volume_that_two_targets_name_is_let_go_with_the_last() {
    let mut site = Site::open();
    site.reconcile();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root", "root"]).await;
    machine.gets(None).await;
    let delete = async |at: usize| {
        let target = machine.targets[at].uuid;
        site.inventory.delete(target, |_: &VolumeTarget, _| Ok::<_, ()>(())).await.expect("deletes");
    };
    delete(1).await;
    let records = site.records().all().await.expect("reads");
    assert_eq!(records[0].state, volboot::model::AttachmentState::Attached);
    delete(0).await;
    until("it is let go", || site.cinder.status("root") == "available").await;
}
