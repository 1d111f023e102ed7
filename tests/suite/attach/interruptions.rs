//! Interrupted work at every step: the next boot or the reconciler completes it, and foreign attachments stay.

use std::time::Duration;

use volboot::attach::Windows;
use volboot::model::{Attachment, AttachmentState, VolumeTarget};

use super::instances::WINDOWS;
use super::{LIMIT, Site, attach_with_windows, wait_until};
use crate::fake_cinder::{Fault, Operation};

/// Interrupts a boot at one call, restarts, and boots again. Only the store and Cinder keep their state.
async fn interrupt_at(operation: Operation, fault: Fault) {
    let mut site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let mut machine = site.add_machine("web-1", &["root"]).await;
    site.cinder.inject_fault(operation, fault, 1);
    machine.expect_wait(Some(("a", 1))).await;

    site.restart(&mut [&mut machine]);
    machine.boot(Some(("b", 1))).await;
    assert_eq!(site.cinder.status("root"), "in-use", "{operation:?} {fault:?}");
    let attachments = site.cinder.attachments("root");
    assert_eq!(attachments.len(), 1, "{operation:?} {fault:?}: {attachments:?}");
    assert_eq!(attachments[0].1, "attached", "{operation:?} {fault:?}");
}

#[tokio::test]
async fn the_next_boot_completes_interrupted_work() {
    for operation in [Operation::List, Operation::Reserve, Operation::Export, Operation::Complete] {
        for fault in [Fault::DoneButFailed, Fault::Status(500)] {
            interrupt_at(operation, fault).await;
        }
    }
}

/// The record that a crash would leave behind while Cinder has not answered this call.
async fn record_during(operation: Operation) -> Attachment {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    site.cinder.inject_fault(operation, Fault::Hang, 1);
    machine.expect_wait(Some(("a", 1))).await;
    site.record(&machine).await
}

#[tokio::test]
async fn each_record_is_written_before_the_call_that_it_describes() {
    let (reserve, export, complete) = tokio::join!(
        record_during(Operation::Reserve),
        record_during(Operation::Export),
        record_during(Operation::Complete),
    );
    assert_eq!((reserve.state, &reserve.cinder_id), (AttachmentState::Intended, &None));
    assert!(!reserve.pending_export);

    assert_eq!(export.state, AttachmentState::Reserved);
    assert!(export.cinder_id.is_some() && export.pending_export && export.connector.is_some());
    assert!(export.connection.is_none());

    assert_eq!(complete.state, AttachmentState::Reserved);
    assert!(complete.pending_export && complete.connection.is_some() && complete.resolved_at.is_some());
    assert_eq!(complete.initiator, complete.connector.map(|connector| connector.initiator));
}

#[tokio::test]
async fn foreign_reservations_are_not_adopted() {
    let mut site = Site::open();
    site.cinder.add_volume("golden", |volume| volume.multiattach = true);
    let unnamed = site.cinder.reserve_for_another("golden", None);
    let server = site.cinder.reserve_for_another("golden", Some("4f2b1c1e-0000-4000-8000-000000000001"));
    let mut machine = site.add_machine("web-1", &["golden"]).await;
    site.cinder.inject_fault(Operation::Reserve, Fault::DoneButFailed, 1);
    machine.expect_wait(None).await;
    site.restart(&mut [&mut machine]);
    machine.boot(None).await;

    let attachments = site.cinder.attachments("golden");
    assert_eq!(attachments.len(), 3, "{attachments:?}");
    for foreign in [unnamed, server] {
        assert!(attachments.contains(&(foreign, "reserved")), "{attachments:?}");
    }
    assert_eq!(attachments.iter().filter(|attachment| attachment.1 == "attached").count(), 1);
}

/// Whether the volume is multi-attachable decides about the repetition, and Cinder does not say so.
#[tokio::test]
async fn a_create_is_not_repeated_without_knowing_the_volume() {
    let site = Site::open();
    site.cinder.add_volume("golden", |volume| volume.multiattach = true);
    let machine = site.add_machine("web-1", &["golden"]).await;
    site.cinder.inject_fault(Operation::Reserve, Fault::Slow(Duration::from_secs(4)), 1);
    machine.expect_wait(Some(("a", 1))).await;
    site.cinder.inject_fault(Operation::Volume, Fault::Status(500), 1);
    machine.expect_wait(Some(("a", 2))).await;
    wait_until("the request arrives", || !site.cinder.attachments("golden").is_empty()).await;
    machine.boot(Some(("a", 3))).await;
    let attachments = site.cinder.attachments("golden");
    assert!(matches!(attachments.as_slice(), [(_, "attached")]), "{attachments:?}");
}

/// The first of two create requests arrives after the attachment of the second was deleted.
#[tokio::test]
async fn a_superseded_create_leaves_no_orphan_after_the_detachment() {
    let mut site = Site::open();
    let windows = Windows { late_request: Duration::from_secs(6), ..WINDOWS };
    site.attach = attach_with_windows(&site.store, &site.cinder, site.policy, windows);
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    site.start_reconciler();
    site.cinder.inject_fault(Operation::Reserve, Fault::Slow(Duration::from_secs(4)), 1);
    machine.expect_wait(Some(("a", 1))).await;
    machine.boot(Some(("a", 2))).await;
    let target = machine.targets[0].uuid;
    let deleted = site.inventory.delete(target, |_: &VolumeTarget, _| Ok::<_, ()>(())).await;
    deleted.expect("the target is deleted");
    wait_until("the volume is detached", || site.cinder.attachments("root").is_empty()).await;
    wait_until("the first request arrives", || site.cinder.status("root") == "reserved").await;
    wait_until("its attachment is deleted", || site.cinder.status("root") == "available").await;
    let no_record = async {
        while !site.records().list_all().await.expect("the store is readable").is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, no_record).await.expect("the record is deleted");
}

/// Two creates of one volume are interrupted, and neither attachment was there before the other create.
#[tokio::test]
async fn each_of_two_interrupted_creates_adopts_an_orphan() {
    let site = Site::open();
    site.cinder.add_volume("golden", |volume| volume.multiattach = true);
    let first = site.add_machine("web-1", &["golden"]).await;
    let second = site.add_machine("web-2", &["golden"]).await;
    // Twice as long as the client waits.
    site.cinder.inject_fault(Operation::Reserve, Fault::Slow(Duration::from_secs(4)), 1);
    first.expect_wait(Some(("a", 1))).await;
    site.cinder.inject_fault(Operation::Reserve, Fault::DoneButFailed, 1);
    second.expect_wait(Some(("b", 1))).await;
    wait_until("both requests arrived", || site.cinder.attachments("golden").len() == 2).await;

    let foreign = site.cinder.reserve_for_another("golden", None);
    let reason = first.expect_wait(Some(("a", 2))).await;
    assert!(reason.contains("may still take effect"), "one of three is another client's: {reason}");
    site.cinder.detach_by_hand(&foreign);
    for machine in [&first, &second] {
        machine.boot(Some(("c", 1))).await;
    }
    let attachments = site.cinder.attachments("golden");
    assert!(matches!(attachments.as_slice(), [(_, "attached"), (_, "attached")]), "{attachments:?}");
}

/// The orphan of an unwanted create is not adopted by another create while it is being deleted.
#[tokio::test]
async fn an_orphan_on_its_way_out_is_not_adopted() {
    let mut site = Site::open();
    site.cinder.add_volume("golden", |volume| volume.multiattach = true);
    let first = site.add_machine("web-1", &["golden"]).await;
    let second = site.add_machine("web-2", &["golden"]).await;
    site.cinder.inject_fault(Operation::Reserve, Fault::Status(500), 1);
    second.expect_wait(Some(("b", 1))).await;
    site.cinder.inject_fault(Operation::Reserve, Fault::DoneButFailed, 1);
    first.expect_wait(Some(("a", 1))).await;
    site.cinder.inject_fault(Operation::Delete, Fault::Slow(Duration::from_secs(4)), 1);
    let target = first.targets[0].uuid;
    let deleted = site.inventory.delete(target, |_: &VolumeTarget, _| Ok::<_, ()>(())).await;
    deleted.expect("the target is deleted");
    site.start_reconciler();
    wait_until("the orphan is being deleted", || site.cinder.take_calls().contains(&Operation::Delete)).await;
    let reason = second.expect_wait(Some(("b", 2))).await;
    assert!(reason.contains("may still take effect"), "{reason}");
    wait_until("the orphan is deleted", || site.cinder.attachments("golden").is_empty()).await;
}

/// While a create request is under way, another client attaches the volume for the node.
#[tokio::test]
async fn an_attachment_by_another_client_does_not_forget_the_late_create() {
    let site = Site::open();
    site.cinder.add_volume("golden", |volume| volume.multiattach = true);
    let machine = site.add_machine("web-1", &["golden"]).await;
    // Twice as long as the client waits.
    site.cinder.inject_fault(Operation::Reserve, Fault::Slow(Duration::from_secs(4)), 1);
    machine.expect_wait(Some(("a", 1))).await;
    let other = site.cinder.reserve_for_another("golden", Some(&machine.node.uuid.to_string()));
    site.cinder.attach_for_another(&other);
    let reason = machine.expect_wait(Some(("a", 2))).await;
    assert!(reason.contains("may still take effect"), "{reason}");
    wait_until("the request arrives", || site.cinder.attachments("golden").len() == 2).await;
    machine.boot(Some(("a", 3))).await;
    site.cinder.detach_by_hand(&other);
    let attachments = site.cinder.attachments("golden");
    assert!(matches!(attachments.as_slice(), [(_, "attached")]), "{attachments:?}");
}

#[tokio::test]
async fn a_refused_reservation_leaves_no_record() {
    let mut site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    // Another client reserves the volume between our list call and our reservation.
    site.cinder.inject_fault(Operation::Reserve, Fault::Status(400), 1);
    site.cinder.reserve_for_another("root", None);
    machine.expect_wait(None).await;
    site.restart(&mut []);
    site.start_reconciler();
    assert_eq!(site.records().list_all().await.expect("the store is readable"), []);
    assert_eq!(site.cinder.attachments("root").len(), 1);
}

/// Cinder refuses the repetition of a create for a cause that passes, and the first request arrives after that.
#[tokio::test]
async fn a_refused_repetition_does_not_forget_the_late_create() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    // Twice as long as the client waits.
    site.cinder.inject_fault(Operation::Reserve, Fault::Slow(Duration::from_secs(4)), 1);
    machine.expect_wait(Some(("a", 1))).await;
    site.cinder.inject_fault(Operation::Reserve, Fault::Status(409), 1);
    machine.expect_wait(Some(("a", 2))).await;
    assert_eq!(site.cinder.attachments("root"), [], "the first request arrives later");
    wait_until("the first request arrives", || !site.cinder.attachments("root").is_empty()).await;
    machine.boot(Some(("a", 3))).await;
    let attachments = site.cinder.attachments("root");
    assert!(matches!(attachments.as_slice(), [(_, "attached")]), "{attachments:?}");
}

#[tokio::test]
async fn an_attachment_deleted_by_hand_is_created_again() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(None).await;
    let first = site.cinder.attachments("root")[0].0.clone();
    site.cinder.detach_by_hand(&first);
    machine.boot(None).await;
    let attachments = site.cinder.attachments("root");
    assert_eq!(attachments.len(), 1);
    assert_ne!(attachments[0].0, first);
    assert_eq!(site.cinder.status("root"), "in-use");
}

#[tokio::test]
async fn the_reconciler_completes_a_pending_export() {
    let mut site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(None).await;
    // The export takes effect without a response. The machine boots from the last known connection.
    site.cinder.inject_fault(Operation::Export, Fault::DoneButFailed, 1);
    machine.boot(None).await;
    assert_eq!(site.cinder.attachments("root")[0].1, "attaching");
    site.start_reconciler();
    wait_until("the attachment is completed", || site.cinder.status("root") == "in-use").await;
    let records = site.records();
    let no_pending_export = async {
        while records
            .list_all()
            .await
            .expect("the store is readable")
            .iter()
            .any(|record| record.pending_export)
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, no_pending_export).await.expect("no export stays pending");
}

#[tokio::test]
async fn reconciliation_in_the_wrong_project_keeps_the_record() {
    let mut site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(None).await;
    let attachment = site.cinder.attachments("root")[0].0.clone();
    site.cinder.inject_fault(Operation::Export, Fault::DoneButFailed, 1);
    machine.boot(None).await;

    for operation in [Operation::Show, Operation::Volume] {
        site.cinder.inject_fault(operation, Fault::Status(404), usize::MAX);
    }
    site.cinder.take_calls();
    site.start_reconciler();
    let mut calls = Vec::new();
    wait_until("the reconciler has run twice", || {
        calls.extend(site.cinder.take_calls());
        calls.iter().filter(|operation| **operation == Operation::Volume).count() > 1
    })
    .await;
    let record = site.record(&machine).await;
    assert_eq!(
        (record.cinder_id.as_ref(), record.connection),
        (Some(&attachment), None),
        "the connection is cleared"
    );

    site.cinder.clear_faults();
    wait_until("the attachment is completed", || site.cinder.status("root") == "in-use").await;
    assert_eq!(site.cinder.attachments("root"), [(attachment, "attached")]);
}

#[tokio::test]
async fn a_late_reservation_is_adopted() {
    let mut site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let mut machine = site.add_machine("web-1", &["root"]).await;
    // Longer than volboot's time-out: the reservation takes effect during the next try.
    site.cinder.inject_fault(Operation::Reserve, Fault::Slow(Duration::from_millis(2500)), 1);
    machine.expect_wait(Some(("a", 1))).await;
    site.restart(&mut [&mut machine]);
    machine.boot(Some(("b", 1))).await;
    let attachments = site.cinder.attachments("root");
    assert_eq!(attachments.len(), 1, "{attachments:?}");
    assert_eq!(attachments[0].1, "attached");
}

#[tokio::test]
async fn nodes_that_share_a_volume_do_not_adopt_from_each_other() {
    let mut site = Site::open();
    site.cinder.add_volume("golden", |volume| volume.multiattach = true);
    let mut first = site.add_machine("a", &["golden"]).await;
    let mut second = site.add_machine("b", &["golden"]).await;
    // The first attachment is created but not exported; the second is not created.
    site.cinder.inject_fault(Operation::Export, Fault::Status(500), 1);
    first.expect_wait(None).await;
    site.cinder.inject_fault(Operation::Reserve, Fault::Status(500), 1);
    second.expect_wait(None).await;
    site.restart(&mut [&mut first, &mut second]);
    site.start_reconciler();
    let records = site.records();
    let first_record = records.get(first.node.uuid, "golden").await.expect("the store is readable");
    let first_id = first_record.expect("the record exists").cinder_id;
    first.boot(Some(("x", 1))).await;
    let second_record = records.get(second.node.uuid, "golden").await.expect("the store is readable");
    assert_ne!(second_record.and_then(|record| record.cinder_id), first_id);
    assert_eq!(
        site.cinder.connector(&first_id.expect("the id is recorded"))["host"],
        first.node.uuid.to_string()
    );
}
