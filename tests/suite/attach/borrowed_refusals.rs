//! Refusals of Cinder while a volume is exported through Nova's attachment: 403 permits the connection that Cinder shows,
//! and any other status is final.

use uuid::Uuid;
use volboot::attach::Resolution;
use volboot::model::{AttachmentState, ConnectionSource};

use super::borrowed::{ADDRESS, NovaSite, SERVER, count_changes};
use crate::fake_cinder::{Fault, Operation};

#[tokio::test]
async fn a_forbidden_export_boots_from_the_connection_that_cinder_shows() {
    let nova = NovaSite::open().await;
    let NovaSite { site, machine, .. } = &nova;
    site.cinder.inject_fault(Operation::Export, Fault::Status(403), usize::MAX);
    let volumes = machine.boot(Some(("a", 1))).await;
    let existing = ConnectionSource::Existing { refusal: "injected fault (403)".into() };
    let path = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:volume-root";
    assert_eq!(volumes, [("root".into(), path.into(), existing)]);
    let calls = site.cinder.take_calls();
    let expected =
        [Operation::List, Operation::Volume, Operation::Export, Operation::Show, Operation::Volume];
    assert_eq!(calls, expected, "the volume is read after the refusal");
    nova.assert_attachment_is_kept();
    let record = site.record(machine).await;
    assert_eq!((record.state, record.pending_export), (AttachmentState::Attached, false));

    // Nova gives the volume to another server between two boots.
    site.cinder.detach_by_hand(&nova.attachment);
    let another = Uuid::from_u128(7).to_string();
    site.cinder.attach_for_server("root", &another, Some("compute-1"), Some("/dev/vda"));
    let reason = machine.expect_refusal().await;
    assert!(
        reason.starts_with("volume root was not found") || reason.contains("in use by server"),
        "{reason}"
    );
    assert_eq!(count_changes(&site.cinder.take_calls()), 0);
}

#[tokio::test]
async fn a_forbidden_export_refuses_a_volume_that_changed_meanwhile() {
    for fault in [Fault::Status(404), Fault::Status(503), Fault::Status(403)] {
        for operation in [Operation::Show, Operation::Volume] {
            let nova = NovaSite::open().await;
            nova.machine.boot(Some(("a", 1))).await;
            nova.site.cinder.inject_fault(Operation::Export, Fault::Status(403), usize::MAX);
            nova.site.cinder.inject_fault(operation, fault, usize::MAX);
            let result = nova.machine.request(Some(("b", 1))).await;
            assert!(!matches!(result, Resolution::Ready(_)), "{operation:?} {fault:?}: {result:?}");
        }
    }
    // The attachment is no longer complete, as while its owner detaches the volume.
    let nova = NovaSite::open().await;
    nova.machine.boot(Some(("a", 1))).await;
    nova.site.cinder.inject_fault(Operation::Export, Fault::Status(403), usize::MAX);
    nova.site.cinder.set_attachment_status(&nova.attachment, "detaching");
    let reason = nova.machine.expect_refusal().await;
    let expected = format!(
        "Cinder refused to export volume root: injected fault (403), and no longer shows it as attached by server {SERVER} \
         (this node's instance)"
    );
    assert_eq!(reason, expected);
    assert_eq!(nova.site.record(&nova.machine).await.connection, None, "no later boot uses it either");
}

#[tokio::test]
async fn every_other_refusal_of_the_export_is_final() {
    for status in [400, 409, 413] {
        let nova = NovaSite::open().await;
        nova.machine.boot(Some(("a", 1))).await;
        nova.site.cinder.take_calls();
        nova.site.cinder.inject_fault(Operation::Export, Fault::Status(status), usize::MAX);
        let expected = format!(
            "Cinder refused to export volume root through the attachment of server {SERVER} (this node's instance): \
             injected fault ({status})"
        );
        assert_eq!(nova.machine.expect_refusal().await, expected);
        assert_eq!(nova.site.cinder.take_calls(), [Operation::Export], "the old connection is not asked for");
        assert_eq!(nova.site.record(&nova.machine).await.connection, None);
        nova.assert_attachment_is_kept();
    }
    let nova = NovaSite::open().await;
    nova.machine.boot(Some(("a", 1))).await;
    nova.site.cinder.inject_fault(Operation::Export, Fault::Status(404), usize::MAX);
    let result = nova.machine.request(Some(("b", 1))).await;
    assert!(!matches!(result, Resolution::Ready(_)), "{result:?}");
    assert_eq!(count_changes(&nova.site.cinder.take_calls()), 0);
    nova.assert_attachment_is_kept();
}

#[tokio::test]
async fn a_second_attachment_of_the_instance_is_a_refusal() {
    let nova = NovaSite::open().await;
    nova.site.cinder.attach_for_server("root", &SERVER.to_string(), Some(ADDRESS), Some("/dev/sdb"));
    let expected = format!(
        "Cinder refused to export volume root through the attachment of server {SERVER} (this node's instance): duplicate \
         connectors detected on volume root (409)"
    );
    assert_eq!(nova.machine.expect_refusal().await, expected);
    assert_eq!(count_changes(&nova.site.cinder.take_calls()), 0);
}
