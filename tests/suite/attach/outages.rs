//! Outages of Cinder: boots from last known connections, waits, and bounded response times.

use std::time::{Duration, Instant};

use volboot::attach::Policy;
use volboot::model::ConnectionSource;

use super::{Site, wait_until};
use crate::fake_cinder::{Fault, Operation};

/// The reason to wait without a last known connection during an outage.
const NO_LAST_KNOWN: &str = "Cinder is unavailable: Cinder returned 503 Service Unavailable; volume root has no last known connection";

#[tokio::test]
async fn a_node_boots_from_the_last_known_connection_with_the_reason() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(Some(("a", 1))).await;
    site.cinder.inject_faults(Fault::Status(503));
    let volumes = machine.boot(Some(("b", 1))).await;
    assert_eq!(volumes[0].1, "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:volume-root");
    let ConnectionSource::LastKnown { outage: Some(reason), .. } = &volumes[0].2 else {
        panic!("{:?}", volumes[0].2)
    };
    assert_eq!(reason, "Cinder is unavailable: Cinder returned 503 Service Unavailable");

    // Recovery needs no operator.
    site.cinder.clear_faults();
    let volumes = machine.boot(Some(("c", 1))).await;
    assert_eq!(volumes[0].2, ConnectionSource::Cinder);
}

#[tokio::test]
async fn a_hanging_cinder_delays_a_boot_for_less_than_ten_seconds() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(Some(("a", 1))).await;
    site.cinder.inject_faults(Fault::Hang);
    let started_at = Instant::now();
    let volumes = machine.boot(Some(("b", 1))).await;
    assert!(matches!(volumes[0].2, ConnectionSource::LastKnown { .. }), "{volumes:?}");
    assert!(started_at.elapsed() < Duration::from_secs(10), "{:?}", started_at.elapsed());
}

#[tokio::test]
async fn a_node_without_a_safe_last_known_connection_waits_with_the_reason() {
    let mut site = Site::open();
    for volume in ["new", "old"] {
        site.cinder.add_volume(volume, |_| {});
    }
    let mut machine = site.add_machine("old", &["old"]).await;
    machine.boot(None).await;
    site.cinder.inject_faults(Fault::Status(503));
    let outage = "Cinder is unavailable: Cinder returned 503 Service Unavailable; ";
    let new = site.add_machine("new", &["new"]).await;
    assert_eq!(new.expect_wait(None).await, format!("{outage}volume new has no last known connection"));

    site.policy = Policy { last_known_max_age: Some(Duration::ZERO), ..site.policy };
    site.restart(&mut [&mut machine]);
    let too_old = format!("{outage}the last known connection of volume old is older than last_known_max_age");
    assert_eq!(machine.expect_wait(None).await, too_old);
    site.policy = Policy { last_known_max_age: None, ..site.policy };
    site.restart(&mut [&mut machine]);
    let disabled = format!("{outage}last known connections are disabled (when_cinder_is_away)");
    assert_eq!(machine.expect_wait(None).await, disabled);

    // The backend does not know the new initiator name.
    machine.connectors[0].connector_id = "iqn.2017-08.org.openstack.renamed".into();
    let renamed = "Cinder is unavailable: volume old cannot be detached yet: Cinder returned 503 Service Unavailable; volume old is \
                   being detached";
    assert!(
        machine
            .expect_wait(None)
            .await
            .starts_with("Cinder is unavailable: volume old cannot be detached yet")
    );

    // The old name does not help: the detachment may have taken effect.
    site.policy = Policy { last_known_max_age: Some(Duration::from_secs(3600)), ..site.policy };
    site.restart(&mut [&mut machine]);
    machine.connectors[0].connector_id = "iqn.2017-08.org.openstack.old".into();
    assert_eq!(machine.expect_wait(None).await, renamed);
}

#[tokio::test]
async fn an_open_circuit_fails_fast_until_cinder_responds() {
    let mut site = Site::open();
    site.cinder.add_volume("root", |_| {});
    site.cinder.inject_faults(Fault::Status(503));
    let has_calls = |site: &Site| !site.cinder.take_calls().is_empty();
    let machine = site.add_machine("web-1", &["root"]).await;
    for _ in 0..3 {
        machine.expect_wait(None).await;
    }
    assert!(has_calls(&site));
    assert!(site.attach.cinder_outage().is_some());
    machine.expect_wait(None).await;
    assert!(!has_calls(&site), "the circuit is open");

    site.cinder.clear_faults();
    site.start_reconciler();
    wait_until("the circuit is closed", || site.attach.cinder_outage().is_none()).await;
    assert_eq!(site.check(&machine).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_dead_backend_does_not_affect_the_others() {
    let site = Site::open();
    for volume in ["one", "two", "three", "four"] {
        site.cinder.add_volume(volume, |volume| volume.volume_type = "dead");
    }
    site.cinder.add_volume("alive", |volume| volume.volume_type = "alive");
    site.cinder.inject_fault(Operation::Export, Fault::Status(500), 3);
    for (at, volume) in ["one", "two", "three"].into_iter().enumerate() {
        let machine = site.add_machine(&format!("web-{at}"), &[volume]).await;
        let reason = machine.expect_wait(None).await;
        let failure = format!("Cinder answers, but cannot export volume {volume}: Cinder returned 500");
        assert!(reason.starts_with(&failure), "{reason}");
    }
    assert_eq!(site.attach.cinder_outage(), None, "the endpoint circuit is closed");
    site.add_machine("web-9", &["alive"]).await.boot(None).await;
}

#[tokio::test]
async fn a_volume_of_unknown_type_on_a_dead_backend_fails_fast() {
    let site = Site::open();
    let names = ["one", "two", "three", "four"];
    let mut machines = Vec::new();
    for volume in names {
        site.cinder.add_volume(volume, |volume| volume.volume_type = "dead");
        machines.push(site.add_machine(volume, &[volume]).await);
    }
    for machine in &machines {
        machine.boot(Some(("a", 1))).await;
    }
    site.cinder.inject_fault(Operation::Export, Fault::Status(500), usize::MAX);
    for machine in &machines[..3] {
        machine.boot(Some(("b", 1))).await;
    }
    site.cinder.take_calls();
    let volumes = machines[3].boot(Some(("b", 1))).await;
    assert!(matches!(volumes[0].2, ConnectionSource::LastKnown { .. }), "{volumes:?}");
    assert_eq!(site.cinder.take_calls(), [Operation::Volume], "only the volume type is read");
}

#[tokio::test]
async fn a_404_while_reading_the_volume_type_clears_the_connection() {
    let site = Site::open();
    let mut machines = Vec::new();
    for volume in ["one", "two", "three", "root"] {
        site.cinder.add_volume(volume, |volume| volume.volume_type = "dead");
        let machine = site.add_machine(volume, &[volume]).await;
        machine.boot(Some(("a", 1))).await;
        machines.push(machine);
    }
    site.cinder.inject_fault(Operation::Export, Fault::Status(500), usize::MAX);
    for machine in &machines[..3] {
        machine.boot(Some(("b", 1))).await;
    }
    // An open backend circuit makes the volume type matter, which is still unknown here.
    site.cinder.inject_fault(Operation::Volume, Fault::Status(404), 1);
    assert_eq!(machines[3].expect_refusal().await, "volume root was not found in Cinder");
    site.cinder.inject_faults(Fault::Status(503));
    assert_eq!(machines[3].expect_wait(Some(("b", 1))).await, NO_LAST_KNOWN);
}

#[tokio::test]
async fn a_refused_volume_is_not_booted_during_a_later_outage() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(Some(("a", 1))).await;
    site.cinder.inject_fault(Operation::Export, Fault::Status(403), 1);
    assert!(machine.expect_refusal().await.starts_with("Cinder refused volume root"));
    site.cinder.inject_faults(Fault::Status(503));
    let reason = machine.expect_wait(Some(("b", 1))).await;
    assert!(reason.ends_with("volume root has no last known connection"), "{reason}");
}

#[tokio::test]
async fn an_unknown_attachment_is_not_booted_during_an_outage_right_after() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    for operation in [Operation::Export, Operation::Complete] {
        machine.boot(Some(("a", 1))).await;
        site.cinder.inject_fault(operation, Fault::Status(404), 1);
        site.cinder.inject_fault(Operation::Volume, Fault::Status(503), 1);
        assert_eq!(machine.expect_wait(Some(("b", 1))).await, NO_LAST_KNOWN, "{operation:?}");
        let record = site.record(&machine).await;
        assert!(!record.pending_export, "{operation:?}: the export had a response");
        site.cinder.inject_faults(Fault::Status(503));
        assert_eq!(machine.expect_wait(Some(("b", 2))).await, NO_LAST_KNOWN, "{operation:?}");
        site.cinder.clear_faults();
    }
}

#[tokio::test]
async fn an_unknown_volume_is_not_booted_during_an_outage_but_stays_ours() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(Some(("a", 1))).await;
    let attachments = site.cinder.attachments("root");
    // The wrong project has neither the attachment nor the volume.
    site.cinder.inject_fault(Operation::Export, Fault::Status(404), 1);
    site.cinder.inject_fault(Operation::Volume, Fault::Status(404), 1);
    assert_eq!(machine.expect_refusal().await, "volume root was not found in Cinder");
    site.cinder.inject_faults(Fault::Status(503));
    assert_eq!(machine.expect_wait(Some(("b", 1))).await, NO_LAST_KNOWN);

    site.cinder.clear_faults();
    let volumes = machine.boot(Some(("c", 1))).await;
    assert_eq!(volumes[0].2, ConnectionSource::Cinder);
    assert_eq!(site.cinder.attachments("root"), attachments);
}

#[tokio::test]
async fn a_404_while_diagnosing_an_export_clears_the_connection() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(Some(("a", 1))).await;
    site.cinder.inject_fault(Operation::Export, Fault::Status(503), 1);
    site.cinder.inject_fault(Operation::Volume, Fault::Status(404), 1);
    assert_eq!(machine.expect_wait(Some(("b", 1))).await, NO_LAST_KNOWN);
    assert!(site.record(&machine).await.pending_export, "the export may have taken effect");
}

#[tokio::test]
async fn slow_exports_open_no_circuit() {
    let site = Site::open();
    let names = ["one", "two", "three"];
    site.cinder.inject_fault(Operation::Export, Fault::Slow(Duration::from_secs(6)), 3);
    let mut machines = Vec::new();
    for volume in names {
        site.cinder.add_volume(volume, |_| {});
        machines.push(site.add_machine(volume, &[volume]).await);
    }
    let (one, two, three) = tokio::join!(
        machines[0].boot(Some(("a", 1))),
        machines[1].boot(Some(("a", 1))),
        machines[2].boot(Some(("a", 1)))
    );
    assert!([one, two, three].iter().all(|volumes| volumes[0].2 == ConnectionSource::Cinder));
    site.cinder.take_calls();
    let volumes = machines[0].boot(Some(("b", 1))).await;
    assert_eq!(volumes[0].2, ConnectionSource::Cinder);
    assert_eq!(site.cinder.take_calls(), [Operation::Export, Operation::Complete]);
}
