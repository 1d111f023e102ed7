//! Boots that go well: the calls of the first and of later ones, and that no question is asked of Cinder twice.

use std::time::Duration;

use volboot::attach::{Policy, Source};

use super::Site;
use crate::fake_cinder::{FakeCinder, Fault, Kind};

#[tokio::test]
async fn the_first_boot_attaches_and_later_ones_ask_anew() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;

    let found = machine.gets(Some(("a", 1))).await;
    let path = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:volume-root";
    assert_eq!(found, [("root".into(), path.into(), Source::Cinder)]);
    assert_eq!(site.cinder.calls(), [Kind::List, Kind::Reserve, Kind::Export, Kind::Complete]);
    assert_eq!(site.cinder.status("root"), "in-use");
    let attachments = site.cinder.attachments("root");
    assert_eq!(attachments.len(), 1);
    let connector = site.cinder.connector(&attachments[0].0);
    assert_eq!(connector["initiator"], "iqn.2017-08.org.openstack.web-1");
    assert_eq!(connector["host"], machine.node.uuid.to_string());
    assert_eq!(connector["multipath"], false);

    // The portal moved between two boots: the very next request says so.
    site.cinder.move_portal("192.0.2.9:3260");
    let found = machine.gets(Some(("b", 1))).await;
    assert_eq!(found[0].1, "iscsi:192.0.2.9::3260:1:iqn.2010-10.org.openstack:volume-root");
    assert_eq!(site.cinder.calls(), [Kind::Export, Kind::Complete]);
    assert_eq!(
        site.cinder.attachments("root"),
        attachments.iter().map(|a| (a.0.clone(), "attached")).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_question_that_is_repeated_is_not_asked_of_cinder_again_but_the_next_try_is() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    machine.gets(Some(("a", 1))).await;
    site.cinder.calls();
    machine.gets(Some(("a", 1))).await;
    assert_eq!(site.cinder.calls(), []);
    machine.gets(Some(("a", 2))).await;
    assert_eq!(site.cinder.calls(), [Kind::Export, Kind::Complete]);
    // Who does not say on which journey it is asks anew each time.
    machine.gets(None).await;
    machine.gets(None).await;
    assert_eq!(site.cinder.calls(), [Kind::Export, Kind::Complete, Kind::Export, Kind::Complete]);
}

#[tokio::test]
async fn questions_that_come_together_share_one_resolution() {
    let cinder = FakeCinder::with(Duration::from_millis(50), 8);
    let site = Site::with(cinder, None);
    site.cinder.volume("root", |_| {});
    site.cinder.volume("data", |_| {});
    let machine = site.machine("web-1", &["root", "data"]).await;
    let (one, other) = tokio::join!(machine.gets(None), machine.gets(Some(("a", 1))));
    assert_eq!(one, other);
    let mut calls = site.cinder.calls();
    calls.sort();
    let twice = [Kind::List, Kind::Reserve, Kind::Export, Kind::Complete].map(|kind| [kind, kind]);
    assert_eq!(calls, twice.concat());
}

#[tokio::test]
async fn the_volumes_of_one_node_are_asked_for_at_the_same_time() {
    // Cinder takes its time, for as many at once as come: so what is counted is how many it had at once.
    let site = Site::with(FakeCinder::with(Duration::from_millis(200), 8), None);
    let names = ["root", "data", "logs", "swap"];
    for volume in names {
        site.cinder.volume(volume, |_| {});
    }
    let machine = site.machine("web-1", &names).await;
    machine.gets(Some(("a", 1))).await;
    assert_eq!(site.cinder.most_at_once(), names.len());
}

#[tokio::test]
async fn what_takes_longer_than_a_machine_waits_is_found_by_its_next_question() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    // Longer than Cinder is waited for where something else is known.
    site.cinder.fault(Kind::Export, Fault::Slow(Duration::from_secs(7)), 1);
    let reason = machine.waits(Some(("a", 1))).await;
    assert_eq!(reason, "asking Cinder for its volumes");
    let found = machine.gets(Some(("a", 1))).await;
    assert_eq!(found[0].2, Source::Cinder);
    let exports = site.cinder.calls().into_iter().filter(|kind| *kind == Kind::Export).count();
    assert_eq!(exports, 1, "the one that was late is the one that counts");
}

#[tokio::test]
async fn who_has_to_queue_is_told_its_place() {
    let mut site = Site::open();
    site.policy = Policy { resolutions: 1, ..site.policy };
    site.restart(&mut []);
    for volume in ["a", "b", "c"] {
        site.cinder.volume(volume, |_| {});
    }
    site.cinder.fault(Kind::Export, Fault::Slow(Duration::from_millis(4500)), 1);
    let (first, second, third) =
        (site.machine("a", &["a"]).await, site.machine("b", &["b"]).await, site.machine("c", &["c"]).await);
    let in_order = async {
        // In this order, so that each has its place.
        tokio::join!(first.waits(Some(("a", 1))), second.waits(Some(("b", 1))), third.waits(Some(("c", 1))))
    };
    let (one, two, three) = in_order.await;
    assert_eq!(one, "asking Cinder for its volumes");
    assert_eq!(two, "waiting for its turn to ask Cinder: 1 in the queue");
    assert_eq!(three, "waiting for its turn to ask Cinder: 2 in the queue");
    first.gets(Some(("a", 1))).await;
    second.gets(Some(("b", 1))).await;
    third.gets(Some(("c", 1))).await;
}

#[tokio::test]
async fn a_multi_attachable_volume_boots_several_nodes() {
    let site = Site::open();
    site.cinder.volume("golden", |volume| volume.multiattach = true);
    let (one, two) = (site.machine("a", &["golden"]).await, site.machine("b", &["golden"]).await);
    one.gets(None).await;
    two.gets(None).await;
    assert_eq!(site.cinder.attachments("golden").len(), 2);
}

#[tokio::test]
async fn a_node_that_is_renamed_is_let_in_by_its_new_name_only() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let mut machine = site.machine("web-1", &["root"]).await;
    machine.gets(None).await;
    site.cinder.calls();
    machine.connectors[0].connector_id = "iqn.2017-08.org.openstack.renamed".into();
    machine.gets(None).await;
    let again = [Kind::Delete, Kind::List, Kind::Reserve, Kind::Export, Kind::Complete];
    assert_eq!(site.cinder.calls(), again);
    let attachments = site.cinder.attachments("root");
    assert_eq!(attachments.len(), 1);
    let told = site.cinder.connector(&attachments[0].0);
    assert_eq!(told["initiator"], "iqn.2017-08.org.openstack.renamed");
}
