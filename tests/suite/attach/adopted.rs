//! Attachments that an Ironic created for the node: used and deleted like volboot's own.

use std::time::Duration;

use volboot::model::{Node, Ownership};

use super::borrowed::count_changes;
use super::{LIMIT, Site, TestMachine, advance_clock, wait_until};
use crate::fake_cinder::ADMIN;

/// A node whose volume was attached by an Ironic: for the node's UUID, without a host.
async fn open_with_ironics_attachment() -> (Site, TestMachine, String) {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    let node = machine.node.uuid.to_string();
    let attachment = site.cinder.attach_for_server("root", &node, None, Some("ironic_mountpoint"));
    (site, machine, attachment)
}

#[tokio::test]
async fn an_attachment_of_an_ironic_is_adopted_and_deleted_at_the_undeployment() {
    let (mut site, machine, attachment) = open_with_ironics_attachment().await;
    site.start_reconciler();
    let note = format!("volume root is attached by server {} (this node's instance)", machine.node.uuid);
    assert_eq!(site.check_with_notes(&machine).await, (Vec::new(), vec![note]));
    machine.boot(None).await;
    assert_eq!(count_changes(&site.cinder.take_calls()), 0);
    assert_eq!(site.record(&machine).await.ownership, Ownership::Adopted);
    assert_eq!(site.cinder.device(&attachment).as_deref(), Some("ironic_mountpoint"));
    let change = |node: &Node, _: Option<&Node>| Ok::<_, ()>(Node { undeployed: true, ..node.clone() });
    site.inventory.update(machine.node.uuid, change).await.expect("the record is updated");
    wait_until("the volume is available", || site.cinder.status("root") == "available").await;
    assert_eq!(site.cinder.attachments("root"), []);
}

#[tokio::test]
async fn an_adopted_attachment_stays_recorded_while_nova_is_away() {
    let (mut site, machine, attachment) = open_with_ironics_attachment().await;
    machine.boot(None).await;
    site.cinder.set_nova_away(true);
    site.start_reconciler();
    let change = |node: &Node, _: Option<&Node>| Ok::<_, ()>(Node { undeployed: true, ..node.clone() });
    site.inventory.update(machine.node.uuid, change).await.expect("the record is updated");
    let obstacle = format!(
        "Cinder does not delete the attachment of server {}: before that it asks Nova, which probably does not answer",
        machine.node.uuid
    );
    let records = site.records();
    let explained = async {
        loop {
            let all = records.list_all().await.expect("the store is readable");
            if all.iter().any(|record| record.obstacle.as_deref() == Some(&obstacle)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, explained).await.expect("the record says why");
    assert_eq!(site.cinder.attachments("root"), [(attachment, "attached")]);

    // The backend is not to blame: other volumes of its type are attached.
    site.cinder.add_volume("data", |_| {});
    let another = site.add_machine("web-2", &["data"]).await;
    another.boot(None).await;

    site.cinder.set_nova_away(false);
    let retried = async {
        while site.cinder.status("root") != "available" {
            advance_clock(Duration::from_secs(600)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(36_000), retried).await.expect("it is tried again");
}

#[tokio::test]
async fn the_disk_of_a_virtual_machine_with_the_nodes_uuid_is_refused() {
    for (host, device) in [(Some("compute-1"), None), (None, Some("/dev/vda"))] {
        let site = Site::open();
        site.cinder.set_rights(ADMIN);
        site.cinder.add_volume("root", |_| {});
        let machine = site.add_machine("web-1", &["root"]).await;
        let node = machine.node.uuid.to_string();
        site.cinder.attach_for_server("root", &node, host, device);
        let reason = machine.expect_refusal().await;
        assert!(reason.starts_with(&format!("volume root is in use by server {node}")), "{reason}");
        assert_eq!(count_changes(&site.cinder.take_calls()), 0);
    }
}
