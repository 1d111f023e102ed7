//! Work that was broken off at every step: whoever comes next finishes it, and nothing of others is touched.

use super::{Site, until};
use crate::fake_cinder::{Fault, Kind};

/// What a process that dies knows is what it wrote; what Cinder did, it did.
async fn broken_off_at(kind: Kind, fault: Fault) {
    let mut site = Site::open();
    site.cinder.volume("root", |_| {});
    let mut machine = site.machine("web-1", &["root"]).await;
    site.cinder.fault(kind, fault, 1);
    machine.waits(Some(("a", 1))).await;

    site.restart(&mut [&mut machine]);
    machine.gets(Some(("b", 1))).await;
    assert_eq!(site.cinder.status("root"), "in-use", "{kind:?} {fault:?}");
    let attachments = site.cinder.attachments("root");
    assert_eq!(attachments.len(), 1, "{kind:?} {fault:?}: {attachments:?}");
    assert_eq!(attachments[0].1, "attached", "{kind:?} {fault:?}");
}

#[tokio::test]
async fn whatever_was_broken_off_is_finished_by_the_next_boot() {
    for kind in [Kind::List, Kind::Reserve, Kind::Export, Kind::Complete] {
        for fault in [Fault::DoneButFailed, Fault::Status(500)] {
            broken_off_at(kind, fault).await;
        }
    }
}

#[tokio::test]
async fn what_another_has_reserved_is_not_taken_for_ours() {
    let mut site = Site::open();
    site.cinder.volume("golden", |volume| volume.multiattach = true);
    let before = site.cinder.reserve_for_another("golden", None);
    let server = site.cinder.reserve_for_another("golden", Some("4f2b1c1e-0000-4000-8000-000000000001"));
    let mut machine = site.machine("web-1", &["golden"]).await;
    site.cinder.fault(Kind::Reserve, Fault::DoneButFailed, 1);
    machine.waits(None).await;
    site.restart(&mut [&mut machine]);
    machine.gets(None).await;

    let attachments = site.cinder.attachments("golden");
    assert_eq!(attachments.len(), 3, "{attachments:?}");
    for others in [before, server] {
        assert!(attachments.contains(&(others, "reserved")), "{attachments:?}");
    }
    assert_eq!(attachments.iter().filter(|attachment| attachment.1 == "attached").count(), 1);
}

#[tokio::test]
async fn a_reservation_that_cinder_refused_leaves_nothing_to_be_mistaken() {
    let mut site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    // Between our look at the volume and our reservation, another was quicker.
    site.cinder.fault(Kind::Reserve, Fault::Status(400), 1);
    site.cinder.reserve_for_another("root", None);
    machine.waits(None).await;
    site.restart(&mut []);
    site.reconcile();
    assert_eq!(site.records().all().await.expect("reads"), []);
    assert_eq!(site.cinder.attachments("root").len(), 1);
}

#[tokio::test]
async fn an_attachment_that_was_removed_by_hand_is_made_anew() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    machine.gets(None).await;
    let first = site.cinder.attachments("root")[0].0.clone();
    site.cinder.detach_by_hand(&first);
    machine.gets(None).await;
    let attachments = site.cinder.attachments("root");
    assert_eq!(attachments.len(), 1);
    assert_ne!(attachments[0].0, first);
    assert_eq!(site.cinder.status("root"), "in-use");
}

#[tokio::test]
async fn an_export_that_was_never_answered_is_completed_when_cinder_answers_again() {
    let mut site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    machine.gets(None).await;
    // It happened, and nobody heard of it; the machine boots from what is known and does not ask again.
    site.cinder.fault(Kind::Export, Fault::DoneButFailed, 1);
    machine.gets(None).await;
    assert_eq!(site.cinder.attachments("root")[0].1, "attaching");
    site.reconcile();
    until("it is completed", || site.cinder.status("root") == "in-use").await;
    let records = site.records();
    let settled = async {
        while records.all().await.expect("reads").iter().any(|record| record.unanswered) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(super::LIMIT, settled).await.expect("the obligation is discharged");
}

#[tokio::test]
async fn what_is_looked_after_in_the_wrong_project_is_not_forgotten_and_is_ours_again_in_the_right_one() {
    let mut site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    machine.gets(None).await;
    let ours = site.cinder.attachments("root")[0].0.clone();
    site.cinder.fault(Kind::Export, Fault::DoneButFailed, 1);
    machine.gets(None).await;

    for kind in [Kind::Show, Kind::Volume] {
        site.cinder.fault(kind, Fault::Status(404), usize::MAX);
    }
    site.cinder.calls();
    site.reconcile();
    let mut calls = Vec::new();
    until("it was looked after twice", || {
        calls.extend(site.cinder.calls());
        calls.iter().filter(|kind| **kind == Kind::Volume).count() > 1
    })
    .await;
    let record = site.record(&machine).await;
    assert_eq!((record.cinder_id.as_ref(), record.connection), (Some(&ours), None), "nobody boots from it");

    site.cinder.mend();
    until("it is completed", || site.cinder.status("root") == "in-use").await;
    assert_eq!(site.cinder.attachments("root"), [(ours, "attached")]);
}

#[tokio::test]
async fn a_reservation_that_lands_late_is_ours_and_not_in_our_own_way() {
    let mut site = Site::open();
    site.cinder.volume("root", |_| {});
    let mut machine = site.machine("web-1", &["root"]).await;
    // Longer than volboot waits for it: it happens in the middle of the next try.
    site.cinder.fault(Kind::Reserve, Fault::Slow(std::time::Duration::from_millis(2500)), 1);
    machine.waits(Some(("a", 1))).await;
    site.restart(&mut [&mut machine]);
    machine.gets(Some(("b", 1))).await;
    let attachments = site.cinder.attachments("root");
    assert_eq!(attachments.len(), 1, "{attachments:?}");
    assert_eq!(attachments[0].1, "attached");
}

#[tokio::test]
async fn of_two_nodes_with_one_volume_neither_takes_the_others_attachment_for_its_own() {
    let mut site = Site::open();
    site.cinder.volume("golden", |volume| volume.multiattach = true);
    let mut one = site.machine("a", &["golden"]).await;
    let mut two = site.machine("b", &["golden"]).await;
    // Both set out; the first is created, its export is not; the second is not even created.
    site.cinder.fault(Kind::Export, Fault::Status(500), 1);
    one.waits(None).await;
    site.cinder.fault(Kind::Reserve, Fault::Status(500), 1);
    two.waits(None).await;
    site.restart(&mut [&mut one, &mut two]);
    site.reconcile();
    let records = site.records();
    let first = records.get(one.node.uuid, "golden").await.expect("reads").expect("is there").cinder_id;
    one.gets(Some(("x", 1))).await;
    let second = records.get(two.node.uuid, "golden").await.expect("reads");
    assert_ne!(second.and_then(|record| record.cinder_id), first);
    assert_eq!(site.cinder.connector(&first.expect("an id"))["host"], one.node.uuid.to_string());
}
