//! Cinder is away: who boots from what is known, who waits, and that nobody is held up by it for long.

use std::time::{Duration, Instant};

use volboot::attach::{Policy, Source};

use super::{Site, until};
use crate::fake_cinder::{Fault, Kind};

/// What a machine is told that has nothing to boot from while Cinder is away.
const NOTHING_IS_KNOWN: &str =
    "Cinder is away: Cinder answers 503 Service Unavailable; volume root was never attached before";

#[tokio::test]
async fn a_node_boots_from_the_last_known_connection_and_the_answer_says_so() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    machine.gets(Some(("a", 1))).await;
    site.cinder.fault_all(Fault::Status(503));
    let found = machine.gets(Some(("b", 1))).await;
    assert_eq!(found[0].1, "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:volume-root");
    let Source::LastKnown { away: Some(reason), .. } = &found[0].2 else { panic!("{:?}", found[0].2) };
    assert_eq!(reason, "Cinder answers 503 Service Unavailable");

    // When it is back, nothing needs a hand.
    site.cinder.mend();
    let found = machine.gets(Some(("c", 1))).await;
    assert_eq!(found[0].2, Source::Cinder);
}

#[tokio::test]
async fn a_cinder_that_hangs_holds_a_node_up_for_less_than_ten_seconds() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    machine.gets(Some(("a", 1))).await;
    site.cinder.fault_all(Fault::Hang);
    let began = Instant::now();
    let found = machine.gets(Some(("b", 1))).await;
    assert!(matches!(found[0].2, Source::LastKnown { .. }), "{found:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn who_has_nothing_that_surely_is_its_own_waits_and_is_told_why() {
    let mut site = Site::open();
    for volume in ["new", "old"] {
        site.cinder.volume(volume, |_| {});
    }
    let mut machine = site.machine("old", &["old"]).await;
    machine.gets(None).await;
    site.cinder.fault_all(Fault::Status(503));
    let away = "Cinder is away: Cinder answers 503 Service Unavailable; ";
    let new = site.machine("new", &["new"]).await;
    assert_eq!(new.waits(None).await, format!("{away}volume new was never attached before"));

    site.policy = Policy { last_known: Some(Duration::ZERO), ..site.policy };
    site.restart(&mut [&mut machine]);
    let too_old = format!("{away}what is known of volume old is too old (last_known_max_age)");
    assert_eq!(machine.waits(None).await, too_old);
    site.policy = Policy { last_known: None, ..site.policy };
    site.restart(&mut [&mut machine]);
    let not_used = format!("{away}last known connections are not used (when_cinder_is_away)");
    assert_eq!(machine.waits(None).await, not_used);

    // It would log in with a name that the storage was never told of.
    machine.connectors[0].connector_id = "iqn.2017-08.org.openstack.renamed".into();
    let renamed = "Cinder is away: volume old cannot be detached yet: Cinder answers 503 Service Unavailable; volume old is \
                   being detached";
    assert!(machine.waits(None).await.starts_with("Cinder is away: volume old cannot be detached yet"));

    // Even if it gets its name back: what was begun may have happened.
    site.policy = Policy { last_known: Some(Duration::from_secs(3600)), ..site.policy };
    site.restart(&mut [&mut machine]);
    machine.connectors[0].connector_id = "iqn.2017-08.org.openstack.old".into();
    assert_eq!(machine.waits(None).await, renamed);
}

#[tokio::test]
async fn after_the_first_failures_all_are_told_at_once_until_cinder_answers_again() {
    let mut site = Site::open();
    site.cinder.volume("root", |_| {});
    site.cinder.fault_all(Fault::Status(503));
    let cinder_was_asked = |site: &Site| !site.cinder.calls().is_empty();
    let machine = site.machine("web-1", &["root"]).await;
    for _ in 0..3 {
        machine.waits(None).await;
    }
    assert!(cinder_was_asked(&site));
    assert!(site.attach.cinder_is_away().is_some());
    machine.waits(None).await;
    assert!(!cinder_was_asked(&site), "everybody knows");

    site.cinder.mend();
    site.reconcile();
    until("it is found to answer", || site.attach.cinder_is_away().is_none()).await;
    assert_eq!(site.attach.examine(machine.node.uuid, &machine.targets).await.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn a_backend_that_is_dead_does_not_take_the_others_with_it() {
    let site = Site::open();
    for volume in ["one", "two", "three", "four"] {
        site.cinder.volume(volume, |volume| volume.kind = "dead");
    }
    site.cinder.volume("alive", |volume| volume.kind = "alive");
    site.cinder.fault(Kind::Export, Fault::Status(500), 3);
    for (at, volume) in ["one", "two", "three"].into_iter().enumerate() {
        let machine = site.machine(&format!("web-{at}"), &[volume]).await;
        let reason = machine.waits(None).await;
        assert!(reason.starts_with("Cinder is away: Cinder answers 500"), "{reason}");
    }
    assert_eq!(site.attach.cinder_is_away(), None, "Cinder itself answers");
    site.machine("web-9", &["alive"]).await.gets(None).await;
}

#[tokio::test]
async fn who_is_on_a_dead_backend_is_told_at_once_even_if_nobody_knew_its_type() {
    let site = Site::open();
    let names = ["one", "two", "three", "four"];
    let mut machines = Vec::new();
    for volume in names {
        site.cinder.volume(volume, |volume| volume.kind = "dead");
        machines.push(site.machine(volume, &[volume]).await);
    }
    for machine in &machines {
        machine.gets(Some(("a", 1))).await;
    }
    site.cinder.fault(Kind::Export, Fault::Status(500), usize::MAX);
    for machine in &machines[..3] {
        machine.gets(Some(("b", 1))).await;
    }
    site.cinder.calls();
    let found = machines[3].gets(Some(("b", 1))).await;
    assert!(matches!(found[0].2, Source::LastKnown { .. }), "{found:?}");
    assert_eq!(site.cinder.calls(), [Kind::Volume], "no more than which backend it is on");
}

#[tokio::test]
async fn a_volume_that_is_missing_when_its_backend_is_looked_for_is_not_booted_from() {
    let site = Site::open();
    let mut machines = Vec::new();
    for volume in ["one", "two", "three", "root"] {
        site.cinder.volume(volume, |volume| volume.kind = "dead");
        let machine = site.machine(volume, &[volume]).await;
        machine.gets(Some(("a", 1))).await;
        machines.push(machine);
    }
    site.cinder.fault(Kind::Export, Fault::Status(500), usize::MAX);
    for machine in &machines[..3] {
        machine.gets(Some(("b", 1))).await;
    }
    // It matters now on which backend a volume is, and nobody knows it of this one yet.
    site.cinder.fault(Kind::Volume, Fault::Status(404), 1);
    assert_eq!(machines[3].is_refused().await, "Cinder knows no volume root");
    site.cinder.fault_all(Fault::Status(503));
    assert_eq!(machines[3].waits(Some(("b", 1))).await, NOTHING_IS_KNOWN);
}

#[tokio::test]
async fn what_cinder_said_no_to_is_not_booted_from_when_it_is_away() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    machine.gets(Some(("a", 1))).await;
    site.cinder.fault(Kind::Export, Fault::Status(403), 1);
    assert!(machine.is_refused().await.starts_with("Cinder refuses volume root"));
    site.cinder.fault_all(Fault::Status(503));
    let reason = machine.waits(Some(("b", 1))).await;
    assert!(reason.ends_with("volume root was never attached before"), "{reason}");
}

#[tokio::test]
async fn an_attachment_that_cinder_did_not_know_is_not_booted_from_when_it_is_away_right_after() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    for gone in [Kind::Export, Kind::Complete] {
        machine.gets(Some(("a", 1))).await;
        site.cinder.fault(gone, Fault::Status(404), 1);
        site.cinder.fault(Kind::Volume, Fault::Status(503), 1);
        assert_eq!(machine.waits(Some(("b", 1))).await, NOTHING_IS_KNOWN, "{gone:?}");
        let record = site.record(&machine).await;
        assert!(!record.unanswered, "{gone:?}: it was answered, and nobody need look after it");
        site.cinder.fault_all(Fault::Status(503));
        assert_eq!(machine.waits(Some(("b", 2))).await, NOTHING_IS_KNOWN, "{gone:?}");
        site.cinder.mend();
    }
}

#[tokio::test]
async fn a_volume_that_cinder_did_not_know_is_not_booted_from_when_it_is_away_and_is_ours_when_it_does() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    machine.gets(Some(("a", 1))).await;
    let ours = site.cinder.attachments("root");
    // The wrong project: neither is known there.
    site.cinder.fault(Kind::Export, Fault::Status(404), 1);
    site.cinder.fault(Kind::Volume, Fault::Status(404), 1);
    assert_eq!(machine.is_refused().await, "Cinder knows no volume root");
    site.cinder.fault_all(Fault::Status(503));
    assert_eq!(machine.waits(Some(("b", 1))).await, NOTHING_IS_KNOWN);

    site.cinder.mend();
    let found = machine.gets(Some(("c", 1))).await;
    assert_eq!(found[0].2, Source::Cinder);
    assert_eq!(site.cinder.attachments("root"), ours);
}

#[tokio::test]
async fn a_volume_that_is_missing_while_its_export_is_not_answered_is_not_booted_from() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    machine.gets(Some(("a", 1))).await;
    site.cinder.fault(Kind::Export, Fault::Status(503), 1);
    site.cinder.fault(Kind::Volume, Fault::Status(404), 1);
    assert_eq!(machine.waits(Some(("b", 1))).await, NOTHING_IS_KNOWN);
    assert!(site.record(&machine).await.unanswered, "it may have happened");
}

#[tokio::test]
async fn exports_that_were_only_slow_leave_no_door_closed() {
    let site = Site::open();
    let names = ["one", "two", "three"];
    site.cinder.fault(Kind::Export, Fault::Slow(Duration::from_secs(6)), 3);
    let mut machines = Vec::new();
    for volume in names {
        site.cinder.volume(volume, |_| {});
        machines.push(site.machine(volume, &[volume]).await);
    }
    let (one, two, three) = tokio::join!(
        machines[0].gets(Some(("a", 1))),
        machines[1].gets(Some(("a", 1))),
        machines[2].gets(Some(("a", 1)))
    );
    assert!([one, two, three].iter().all(|found| found[0].2 == Source::Cinder));
    site.cinder.calls();
    let found = machines[0].gets(Some(("b", 1))).await;
    assert_eq!(found[0].2, Source::Cinder);
    assert_eq!(site.cinder.calls(), [Kind::Export, Kind::Complete]);
}
