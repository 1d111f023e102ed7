//! Successful boots: the calls of first and later boots, and single flight.

use std::time::Duration;

use volboot::attach::Policy;
use volboot::model::ConnectionSource;

use super::Site;
use crate::fake_cinder::{FakeCinder, Fault, Operation};

#[tokio::test]
async fn the_first_boot_attaches_and_later_boots_export_again() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;

    let volumes = machine.boot(Some(("a", 1))).await;
    let path = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:volume-root";
    assert_eq!(volumes, [("root".into(), path.into(), ConnectionSource::Cinder)]);
    assert_eq!(
        site.cinder.take_calls(),
        [Operation::List, Operation::Reserve, Operation::Export, Operation::Complete]
    );
    assert_eq!(site.cinder.status("root"), "in-use");
    let attachments = site.cinder.attachments("root");
    assert_eq!(attachments.len(), 1);
    let connector = site.cinder.connector(&attachments[0].0);
    assert_eq!(connector["initiator"], "iqn.2017-08.org.openstack.web-1");
    assert_eq!(connector["host"], machine.node.uuid.to_string());
    assert_eq!(connector["multipath"], false);

    // The portal moves between two boots: the next response has the new portal.
    site.cinder.move_portal("192.0.2.9:3260");
    let volumes = machine.boot(Some(("b", 1))).await;
    assert_eq!(volumes[0].1, "iscsi:192.0.2.9::3260:1:iqn.2010-10.org.openstack:volume-root");
    assert_eq!(site.cinder.take_calls(), [Operation::Export, Operation::Complete]);
    assert_eq!(
        site.cinder.attachments("root"),
        attachments.iter().map(|a| (a.0.clone(), "attached")).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_retried_request_needs_no_further_calls_but_the_next_try_does() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(Some(("a", 1))).await;
    site.cinder.take_calls();
    machine.boot(Some(("a", 1))).await;
    assert_eq!(site.cinder.take_calls(), []);
    machine.boot(Some(("a", 2))).await;
    assert_eq!(site.cinder.take_calls(), [Operation::Export, Operation::Complete]);
    // Requests without a journey are never retries.
    machine.boot(None).await;
    machine.boot(None).await;
    assert_eq!(
        site.cinder.take_calls(),
        [Operation::Export, Operation::Complete, Operation::Export, Operation::Complete]
    );
}

#[tokio::test]
async fn concurrent_requests_share_one_resolution() {
    let cinder = FakeCinder::with_limits(Duration::from_millis(50), 8);
    let site = Site::with_cinder(cinder, None);
    site.cinder.add_volume("root", |_| {});
    site.cinder.add_volume("data", |_| {});
    let machine = site.add_machine("web-1", &["root", "data"]).await;
    let (first, second) = tokio::join!(machine.boot(None), machine.boot(Some(("a", 1))));
    assert_eq!(first, second);
    let mut calls = site.cinder.take_calls();
    calls.sort();
    let twice = [Operation::List, Operation::Reserve, Operation::Export, Operation::Complete]
        .map(|operation| [operation, operation]);
    assert_eq!(calls, twice.concat());
}

#[tokio::test]
async fn the_volumes_of_a_node_are_resolved_concurrently() {
    // Cinder is slow but unlimited, so its maximum of concurrent calls shows the concurrency.
    let site = Site::with_cinder(FakeCinder::with_limits(Duration::from_millis(200), 8), None);
    let names = ["root", "data", "logs", "swap"];
    for volume in names {
        site.cinder.add_volume(volume, |_| {});
    }
    let machine = site.add_machine("web-1", &names).await;
    machine.boot(Some(("a", 1))).await;
    assert_eq!(site.cinder.max_concurrent_calls(), names.len());
}

#[tokio::test]
async fn a_late_result_serves_the_next_request() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    // Longer than `CINDER_TIMEOUT`, after which last known connections serve.
    site.cinder.inject_fault(Operation::Export, Fault::Slow(Duration::from_secs(7)), 1);
    let reason = machine.expect_wait(Some(("a", 1))).await;
    assert_eq!(reason, "Cinder has not answered yet");
    let volumes = machine.boot(Some(("a", 1))).await;
    assert_eq!(volumes[0].2, ConnectionSource::Cinder);
    let exports =
        site.cinder.take_calls().into_iter().filter(|operation| *operation == Operation::Export).count();
    assert_eq!(exports, 1, "the late export is the only one");
}

#[tokio::test]
async fn queued_requests_get_their_position() {
    let mut site = Site::open();
    site.policy = Policy { resolutions: 1, ..site.policy };
    site.restart(&mut []);
    for volume in ["a", "b", "c"] {
        site.cinder.add_volume(volume, |_| {});
    }
    site.cinder.inject_fault(Operation::Export, Fault::Slow(Duration::from_millis(4500)), 1);
    let (first, second, third) = (
        site.add_machine("a", &["a"]).await,
        site.add_machine("b", &["b"]).await,
        site.add_machine("c", &["c"]).await,
    );
    let in_order = async {
        // In this order, which determines the positions.
        tokio::join!(
            first.expect_wait(Some(("a", 1))),
            second.expect_wait(Some(("b", 1))),
            third.expect_wait(Some(("c", 1)))
        )
    };
    let (one, two, three) = in_order.await;
    assert_eq!(one, "Cinder has not answered yet");
    assert_eq!(two, "the request to Cinder is queued at position 1");
    assert_eq!(three, "the request to Cinder is queued at position 2");
    first.boot(Some(("a", 1))).await;
    second.boot(Some(("b", 1))).await;
    third.boot(Some(("c", 1))).await;
}

#[tokio::test]
async fn a_multi_attachable_volume_boots_several_nodes() {
    let site = Site::open();
    site.cinder.add_volume("golden", |volume| volume.multiattach = true);
    let (first, second) =
        (site.add_machine("a", &["golden"]).await, site.add_machine("b", &["golden"]).await);
    first.boot(None).await;
    second.boot(None).await;
    assert_eq!(site.cinder.attachments("golden").len(), 2);
}

#[tokio::test]
async fn a_new_initiator_name_replaces_the_old_one_at_the_backend() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let mut machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(None).await;
    site.cinder.take_calls();
    machine.connectors[0].connector_id = "iqn.2017-08.org.openstack.renamed".into();
    machine.boot(None).await;
    let expected =
        [Operation::Delete, Operation::List, Operation::Reserve, Operation::Export, Operation::Complete];
    assert_eq!(site.cinder.take_calls(), expected);
    let attachments = site.cinder.attachments("root");
    assert_eq!(attachments.len(), 1);
    let connector = site.cinder.connector(&attachments[0].0);
    assert_eq!(connector["initiator"], "iqn.2017-08.org.openstack.renamed");
}
