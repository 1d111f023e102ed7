//! Attachments that Nova created for the node's instance: found, exported at each boot, and never deleted.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;
use volboot::attach::Windows;
use volboot::boot::Boot;
use volboot::model::{
    Attachment, AttachmentState, BootAnswer, BootOutcome, BootRequest, ConnectionSource, Mac, Node,
    Ownership, StorageInterface, VolumeConnector, VolumeTarget,
};

use super::{Site, TestMachine, attach_with_windows, wait_until};
use crate::fake_cinder::{ADMIN, Fault, MEMBER, Operation, Rights};

pub(super) const SERVER: Uuid = Uuid::from_u128(0x4f2b_1c1e_0000_4000_8000_0000_0000_0001);
pub(super) const ADDRESS: &str = "192.0.2.50";

/// A site whose user is an administrator of another project, with a volume that Nova attached for a server.
pub(super) struct NovaSite {
    pub(super) site: Site,
    pub(super) machine: TestMachine,
    pub(super) attachment: String,
}

impl NovaSite {
    pub(super) async fn open() -> Self {
        Self::with_host(Some(ADDRESS)).await
    }

    async fn with_host(host: Option<&str>) -> Self {
        let site = Site::open();
        site.cinder.set_rights(ADMIN);
        site.cinder.add_volume("root", |_| {});
        let attachment = site.cinder.attach_for_server("root", &SERVER.to_string(), host, Some("/dev/sda"));
        let machine = site.add_machine_of_instance("web-1", SERVER).await;
        Self { site, machine, attachment }
    }

    /// Whether Nova's attachment is the volume's only one, and as Nova made it.
    pub(super) fn assert_attachment_is_kept(&self) {
        let site = &self.site;
        assert_eq!(site.cinder.attachments("root"), [(self.attachment.clone(), "attached")]);
        assert_eq!(site.cinder.device(&self.attachment).as_deref(), Some("/dev/sda"));
        assert_eq!(site.cinder.status("root"), "in-use");
    }

    async fn list_records(&self) -> Vec<Attachment> {
        self.site.records().list_all().await.expect("the store is readable")
    }
}

impl Site {
    /// Adds a node with the volume `root`, a storage address and an instance.
    async fn add_machine_of_instance(&self, name: &str, server: Uuid) -> TestMachine {
        let mut machine = self.add_machine(name, &["root"]).await;
        let now = jiff::Timestamp::now();
        let connector = VolumeConnector::new(Uuid::new_v4(), machine.node.uuid, "ip", ADDRESS, now);
        self.inventory.create(&connector).await.expect("the record is created");
        machine.connectors.push(connector);
        self.change_instance(&mut machine, |node| {
            node.instance_uuid = Some(server);
            node.instance_info = serde_json::from_value(json!({"display_name": "Web 1"})).expect("an object");
        })
        .await;
        machine
    }

    /// Changes a node, and the machine's copy of the record.
    async fn change_instance(&self, machine: &mut TestMachine, change: impl Fn(&mut Node)) {
        let update = |node: &Node, _: Option<&Node>| {
            let mut node = node.clone();
            change(&mut node);
            Ok::<_, ()>(node)
        };
        machine.node = self.inventory.update(machine.node.uuid, update).await.expect("the record is updated");
    }
}

/// The calls that would create or delete an attachment.
pub(super) fn count_changes(calls: &[Operation]) -> usize {
    calls.iter().filter(|call| matches!(call, Operation::Reserve | Operation::Delete)).count()
}

#[tokio::test]
async fn a_volume_that_nova_attached_boots_and_each_boot_exports_it_again() {
    let nova = NovaSite::open().await;
    let NovaSite { site, machine, attachment } = &nova;
    let volumes = machine.boot(Some(("a", 1))).await;
    let path = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:volume-root";
    assert_eq!(volumes, [("root".into(), path.into(), ConnectionSource::Cinder)]);
    let calls = site.cinder.take_calls();
    assert_eq!(calls, [Operation::List, Operation::Volume, Operation::Export, Operation::Complete]);
    nova.assert_attachment_is_kept();
    let connector = site.cinder.connector(attachment);
    assert_eq!(connector["initiator"], "iqn.2017-08.org.openstack.web-1");
    assert_eq!((&connector["host"], &connector["ip"]), (&json!(ADDRESS), &json!(ADDRESS)));
    let record = site.record(machine).await;
    assert_eq!((record.ownership, record.state), (Ownership::Borrowed(SERVER), AttachmentState::Attached));
    assert_eq!(record.cinder_id.as_ref(), Some(attachment));

    // The portal moves between two boots: the next response has the new portal.
    site.cinder.move_portal("192.0.2.9:3260");
    let volumes = machine.boot(Some(("b", 1))).await;
    assert_eq!(volumes[0].1, "iscsi:192.0.2.9::3260:1:iqn.2010-10.org.openstack:volume-root");
    assert_eq!(site.cinder.take_calls(), [Operation::Export, Operation::Complete]);
    nova.assert_attachment_is_kept();
}

#[tokio::test]
async fn each_name_of_the_node_is_accepted_as_the_host_and_no_other() {
    for host in [ADDRESS, "web-1", "Web 1"] {
        let nova = NovaSite::with_host(Some(host)).await;
        nova.machine.boot(None).await;
        nova.assert_attachment_is_kept();
        assert_eq!(nova.site.cinder.connector(&nova.attachment)["host"], host, "the backend knows this host");
    }
    let nova = NovaSite::with_host(Some("compute-1")).await;
    let reason = format!(
        "volume root is in use by server {SERVER} on host \"compute-1\", which is neither the node's UUID, nor one of its \
         ip connectors, nor the name or an address in its instance_info"
    );
    assert_eq!(nova.machine.expect_refusal().await, reason, "the disk of a virtual machine");
    assert_eq!(nova.site.check(&nova.machine).await, [reason]);
    assert_eq!(count_changes(&nova.site.cinder.take_calls()), 0);
    nova.assert_attachment_is_kept();
    assert_eq!(nova.list_records().await, []);
}

#[tokio::test]
async fn an_attachment_with_the_nodes_uuid_as_host_is_accepted() {
    let site = Site::open();
    site.cinder.set_rights(ADMIN);
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine_of_instance("web-1", SERVER).await;
    let host = machine.node.uuid.to_string();
    let attachment = site.cinder.attach_for_server("root", &SERVER.to_string(), Some(&host), None);
    machine.boot(None).await;
    assert_eq!(site.record(&machine).await.cinder_id, Some(attachment));
    assert_eq!(count_changes(&site.cinder.take_calls()), 0);
}

#[tokio::test]
async fn a_hidden_host_is_refused_and_the_missing_right_is_named() {
    for rights in [MEMBER, Rights { sees_hosts: false, owns_volumes: false }] {
        let nova = NovaSite::open().await;
        nova.site.cinder.set_rights(rights);
        let reason = format!(
            "volume root is in use by server {SERVER}, whose host Cinder does not show: only a user with the role admin in \
             Cinder sees whether the host is this node"
        );
        assert_eq!(nova.machine.expect_refusal().await, reason);
        assert_eq!(nova.site.check(&nova.machine).await, [reason]);
        assert_eq!(count_changes(&nova.site.cinder.take_calls()), 0);
        nova.assert_attachment_is_kept();
    }
}

#[tokio::test]
async fn a_volume_of_another_server_stays_refused() {
    let mut nova = NovaSite::open().await;
    let another = Uuid::from_u128(7);
    nova.site.change_instance(&mut nova.machine, |node| node.instance_uuid = Some(another)).await;
    let reason = format!("volume root is in use by server {SERVER} and is not multi-attachable");
    assert_eq!(nova.machine.expect_refusal().await, reason);
    assert_eq!(nova.site.check(&nova.machine).await, [reason]);
    nova.site.change_instance(&mut nova.machine, |node| node.instance_uuid = None).await;
    nova.machine.expect_refusal().await;
    nova.assert_attachment_is_kept();
}

#[tokio::test]
async fn a_reserved_volume_waits_for_nova() {
    let site = Site::open();
    site.cinder.set_rights(ADMIN);
    site.cinder.add_volume("root", |volume| volume.multiattach = true);
    let attachment = site.cinder.reserve_for_another("root", Some(&SERVER.to_string()));
    let machine = site.add_machine_of_instance("web-1", SERVER).await;
    let reason = format!(
        "volume root is in state \"reserved\", held by server {SERVER} (this node's instance): the Compute service has not \
         attached it yet"
    );
    assert_eq!(machine.expect_wait(Some(("a", 1))).await, reason);
    assert_eq!(site.check(&machine).await, [reason]);
    assert_eq!(site.cinder.attachments("root"), [(attachment, "reserved")], "none is created beside it");
}

#[tokio::test]
async fn validation_preview_and_answer_name_the_server() {
    let nova = NovaSite::open().await;
    let NovaSite { site, machine, .. } = &nova;
    let note = format!("volume root is attached by server {SERVER} (this node's instance)");
    let expected = (Vec::new(), vec![note.clone()]);
    assert_eq!(site.check_with_notes(machine).await, expected);
    site.add_port(machine, 1, true).await;
    let boot: Boot = site.boot(&[StorageInterface::Cinder]);
    let request = BootRequest::new(Mac::new([0x52, 0x54, 0, 0, 0, 1]));
    let preview = boot.preview(&request).await;
    let reason = format!("node web-1: {note}; the machine's boot request exports it");
    assert_eq!((preview.answer.outcome(), preview.answer.reason()), (BootOutcome::Wait, Some(&reason[..])));
    assert_eq!(count_changes(&site.cinder.take_calls()), 0);
    assert_eq!(nova.list_records().await, [], "neither creates a record");

    for decision in [boot.answer(&request).await, boot.preview(&request).await] {
        assert!(matches!(decision.answer, BootAnswer::Boot(_)), "{:?}", decision.answer);
        assert_eq!(decision.resolutions[0].server, Some(SERVER));
    }
    assert_eq!(site.check_with_notes(machine).await, expected);
    assert_eq!(boot.check(&machine.node).await.expect("reads").warnings, [note]);
}

/// Boots a node, takes its volume away by a change, and expects that Nova's attachment is untouched.
async fn expect_forgotten<E: std::fmt::Debug>(
    change: &str,
    apply: impl AsyncFnOnce(&Site, &TestMachine) -> Result<(), E>,
) {
    let mut nova = NovaSite::open().await;
    nova.site.start_reconciler();
    nova.machine.boot(None).await;
    nova.site.cinder.take_calls();
    apply(&nova.site, &nova.machine).await.expect(change);
    assert_eq!(nova.list_records().await, [], "{change}: no record is left");
    assert_eq!(nova.site.cinder.take_calls(), [], "{change}: nothing is left to do in Cinder");
    nova.assert_attachment_is_kept();
}

#[tokio::test]
async fn every_change_that_takes_a_borrowed_volume_forgets_its_record() {
    expect_forgotten("its target is deleted", async |site, machine| {
        let target = machine.targets[0].uuid;
        site.inventory.delete(target, |_: &VolumeTarget, _| Ok::<_, ()>(())).await.map(drop)
    })
    .await;
    expect_forgotten("the node is deleted", async |site, machine| {
        site.inventory.delete(machine.node.uuid, |_: &Node, _| Ok::<_, ()>(())).await.map(drop)
    })
    .await;
    expect_forgotten("it is undeployed and loses its targets", async |site, machine| {
        let change = |node: &Node| Ok::<_, ()>(Node { undeployed: true, ..node.clone() });
        site.inventory.undeploy_without_targets(machine.node.uuid, change).await.map(drop)
    })
    .await;
    expect_forgotten("its volumes are no longer Cinder's", async |site, machine| {
        let change = |node: &Node, _: Option<&Node>| {
            Ok::<_, ()>(Node { storage_interface: StorageInterface::External, ..node.clone() })
        };
        site.inventory.update(machine.node.uuid, change).await.map(drop)
    })
    .await;
    expect_forgotten("it loses its instance", async |site, machine| {
        let change =
            |node: &Node, _: Option<&Node>| Ok::<_, ()>(Node { instance_uuid: None, ..node.clone() });
        site.inventory.update(machine.node.uuid, change).await.map(drop)
    })
    .await;
    expect_forgotten("it gets another instance", async |site, machine| {
        let instance_uuid = Some(Uuid::from_u128(7));
        let change = |node: &Node, _: Option<&Node>| Ok::<_, ()>(Node { instance_uuid, ..node.clone() });
        site.inventory.update(machine.node.uuid, change).await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn an_own_attachment_outlives_the_instance() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let mut machine = site.add_machine_of_instance("web-1", SERVER).await;
    machine.boot(None).await;
    let attachments = site.cinder.attachments("root");
    site.change_instance(&mut machine, |node| node.instance_uuid = None).await;
    machine.boot(None).await;
    assert_eq!(site.record(&machine).await.ownership, Ownership::Own);
    assert_eq!(site.cinder.attachments("root"), attachments);
}

#[tokio::test]
async fn a_restart_after_each_call_continues_with_the_same_attachment() {
    for (operation, fault) in [
        (Operation::Volume, Fault::Status(503)),
        (Operation::Export, Fault::Status(503)),
        (Operation::Export, Fault::DoneButFailed),
        (Operation::Complete, Fault::Status(503)),
        (Operation::Complete, Fault::DoneButFailed),
    ] {
        let mut nova = NovaSite::open().await;
        nova.site.cinder.inject_fault(operation, fault, 1);
        nova.machine.request(Some(("a", 1))).await;
        nova.site.restart(&mut [&mut nova.machine]);
        nova.site.cinder.clear_faults();
        nova.machine.boot(Some(("a", 1))).await;
        assert_eq!(count_changes(&nova.site.cinder.take_calls()), 0, "{operation:?} {fault:?}");
        nova.assert_attachment_is_kept();
        assert_eq!(nova.site.record(&nova.machine).await.ownership, Ownership::Borrowed(SERVER));
    }
}

/// The create gives way once its request can no longer take effect.
#[tokio::test]
async fn an_interrupted_create_gives_way_to_novas_attachment() {
    let mut site = Site::open();
    site.cinder.set_rights(ADMIN);
    site.cinder.add_volume("root", |volume| volume.multiattach = true);
    let mut machine = site.add_machine_of_instance("web-1", SERVER).await;
    // The intent to create one is recorded, and Cinder creates none.
    site.cinder.inject_fault(Operation::Reserve, Fault::Status(503), 1);
    machine.request(Some(("a", 1))).await;
    assert_eq!(site.record(&machine).await.state, AttachmentState::Intended);
    let attachment =
        site.cinder.attach_for_server("root", &SERVER.to_string(), Some(ADDRESS), Some("/dev/sda"));
    site.restart(&mut [&mut machine]);
    let windows = Windows { late_request: Duration::from_secs(3), ..Windows::default() };
    site.attach = attach_with_windows(&site.store, &site.cinder, site.policy, windows);
    machine.attach = site.attach.clone();
    site.cinder.take_calls();
    let reason = machine.expect_wait(Some(("b", 1))).await;
    assert!(reason.contains("may still take effect"), "{reason}");
    machine.boot(Some(("b", 2))).await;
    assert_eq!(count_changes(&site.cinder.take_calls()), 0);
    assert_eq!(site.cinder.attachments("root"), [(attachment, "attached")]);
}

#[tokio::test]
async fn an_export_without_a_response_is_completed_before_the_record_is_forgotten() {
    let mut nova = NovaSite::open().await;
    nova.site.cinder.inject_fault(Operation::Export, Fault::DoneButFailed, 1);
    nova.machine.request(None).await;
    assert_eq!(nova.site.cinder.attachments("root"), [(nova.attachment.clone(), "attaching")]);
    nova.site.change_instance(&mut nova.machine, |node| node.instance_uuid = None).await;
    assert_eq!(nova.site.record(&nova.machine).await.state, AttachmentState::Detaching);
    nova.site.cinder.take_calls();
    nova.site.start_reconciler();
    wait_until("the attachment is complete", || nova.site.cinder.status("root") == "in-use").await;
    let records = nova.site.records();
    let no_records = async {
        while !records.list_all().await.expect("the store is readable").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::LIMIT, no_records).await.expect("the record is forgotten");
    assert_eq!(nova.site.cinder.take_calls(), [Operation::Show, Operation::Complete]);
    nova.assert_attachment_is_kept();
}

#[tokio::test]
async fn a_new_attachment_of_the_instance_replaces_the_old_one() {
    let nova = NovaSite::open().await;
    nova.machine.boot(Some(("a", 1))).await;
    nova.site.cinder.detach_by_hand(&nova.attachment);
    let server = SERVER.to_string();
    let second = nova.site.cinder.attach_for_server("root", &server, Some("web-1"), Some("/dev/sdb"));
    nova.machine.boot(Some(("b", 1))).await;
    assert_eq!(nova.site.record(&nova.machine).await.cinder_id, Some(second.clone()));
    assert_eq!(nova.site.cinder.device(&second).as_deref(), Some("/dev/sdb"));
    assert_eq!(count_changes(&nova.site.cinder.take_calls()), 0);
}

#[tokio::test]
async fn an_unbootable_connection_is_refused_and_the_attachment_kept() {
    let mut nova = NovaSite::open().await;
    nova.site.start_reconciler();
    nova.site.cinder.change_volume("root", |volume| volume.transport = "fibre_channel");
    let reason = nova.machine.expect_refusal().await;
    assert_eq!(reason, "volume root has transport \"fibre_channel\"; only iscsi can be booted");
    wait_until("the attachment is complete", || nova.site.cinder.status("root") == "in-use").await;
    nova.assert_attachment_is_kept();
    nova.site.cinder.take_calls();
    assert!(nova.machine.expect_refusal().await.starts_with(&reason), "the reason is remembered");
    assert!(!nova.site.cinder.take_calls().contains(&Operation::Export));
}

#[tokio::test]
async fn a_new_initiator_name_is_exported_through_the_same_attachment() {
    let mut nova = NovaSite::open().await;
    nova.machine.boot(None).await;
    nova.site.cinder.take_calls();
    nova.machine.connectors[0].connector_id = "iqn.2017-08.org.openstack.renamed".into();
    nova.machine.boot(None).await;
    assert_eq!(nova.site.cinder.take_calls(), [Operation::Export, Operation::Complete]);
    let connector = nova.site.cinder.connector(&nova.attachment);
    assert_eq!(connector["initiator"], "iqn.2017-08.org.openstack.renamed");
    nova.assert_attachment_is_kept();
}

#[tokio::test]
async fn the_last_known_connection_serves_while_cinder_is_away() {
    let nova = NovaSite::open().await;
    nova.machine.boot(Some(("a", 1))).await;
    nova.site.cinder.inject_faults(Fault::Status(503));
    let volumes = nova.machine.boot(Some(("b", 1))).await;
    assert!(matches!(volumes[0].2, ConnectionSource::LastKnown { .. }), "{volumes:?}");
}
