//! Exports at which Cinder returns 500 while it answers other requests: what the cause may be.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;
use volboot::boot::Boot;
use volboot::model::{BootRequest, ConnectionSource, Mac, Port, StorageInterface, VolumeConnector};

use super::{Site, TestMachine, advance_clock};
use crate::fake_cinder::{Fault, Operation};

const MAC: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
const NO_LAST_KNOWN: &str = "; volume root has no last known connection";
const FAILURE: &str =
    "Cinder answers, but cannot export volume root: Cinder returned 500 Internal Server Error; ";
const NEEDS_IP: &str = "its driver needs the node's IP address: create a volume connector of type ip";
const MAY_NEED_IP: &str = "its driver may need the node's IP address (as VNX does): \
                           create a volume connector of type ip, or see the log of cinder-volume";
const SEE_LOG: &str = "see the log of cinder-volume";

fn add_ip(machine: &mut TestMachine) {
    let (node, now) = (machine.node.uuid, Timestamp::now());
    machine.connectors.push(VolumeConnector::new(Uuid::new_v4(), node, "ip", "192.0.2.9", now));
}

/// Expects this failure from a boot request, and from the validation after it.
async fn expect_failure(site: &Site, machine: &TestMachine, cause: &str) {
    assert_eq!(machine.expect_wait(None).await, format!("{FAILURE}{cause}{NO_LAST_KNOWN}"));
    assert_eq!(site.check(machine).await, [format!("{FAILURE}{cause}")]);
}

#[tokio::test]
async fn a_driver_that_needs_the_address_of_the_node_is_told() {
    let site = Site::open();
    site.cinder.add_volume("root", |volume| volume.needs_ip = true);
    let mut machine = site.add_machine("web-1", &["root"]).await;
    assert_eq!(site.check(&machine).await, Vec::<String>::new(), "only an export shows it");
    for _ in 0..4 {
        expect_failure(&site, &machine, NEEDS_IP).await;
    }
    assert_eq!(site.attach.cinder_outage(), None);

    // A new record voids the finding, and the connector has the address.
    add_ip(&mut machine);
    assert_eq!(site.check(&machine).await, Vec::<String>::new());
    machine.boot(None).await;
}

#[tokio::test]
async fn a_failure_without_a_cause_says_what_it_may_be() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    site.cinder.inject_fault(Operation::Export, Fault::Status(500), usize::MAX);
    let mut machine = site.add_machine("web-1", &["root"]).await;
    expect_failure(&site, &machine, MAY_NEED_IP).await;
    add_ip(&mut machine);
    expect_failure(&site, &machine, SEE_LOG).await;

    // The finding ends with the next export that succeeds, or by its age.
    advance_clock(Duration::from_secs(300)).await;
    assert_eq!(site.check(&machine).await, Vec::<String>::new());
    expect_failure(&site, &machine, SEE_LOG).await;
    site.cinder.clear_faults();
    machine.boot(None).await;
    assert_eq!(site.check(&machine).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_cinder_that_fails_at_every_request_is_unavailable() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    site.cinder.inject_fault(Operation::Export, Fault::Status(500), 1);
    site.cinder.inject_fault(Operation::Volume, Fault::Status(500), 1);
    let outage = "Cinder is unavailable: Cinder returned 500 Internal Server Error";
    assert_eq!(machine.expect_wait(None).await, format!("{outage}{NO_LAST_KNOWN}"));
    site.cinder.inject_faults(Fault::Status(500));
    assert_eq!(machine.expect_wait(None).await, format!("{outage}{NO_LAST_KNOWN}"));
    assert_eq!(site.check(&machine).await, [outage]);
}

#[tokio::test]
async fn an_export_without_a_response_names_no_connector() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    site.cinder.inject_fault(Operation::Export, Fault::Status(503), 1);
    let reason = "Cinder answers, but cannot export volume root: Cinder returned 503 Service Unavailable";
    assert_eq!(machine.expect_wait(None).await, format!("{reason}{NO_LAST_KNOWN}"));
}

#[tokio::test]
async fn a_last_known_connection_serves_with_the_cause() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(None).await;
    site.cinder.change_volume("root", |volume| volume.needs_ip = true);
    let volumes = machine.boot(None).await;
    let ConnectionSource::LastKnown { outage: Some(outage), .. } = &volumes[0].2 else {
        panic!("{:?}", volumes[0].2)
    };
    assert_eq!(*outage, format!("{FAILURE}{NEEDS_IP}"));
}

#[tokio::test]
async fn a_preview_after_the_failure_tells_the_same() {
    let site = Site::open();
    site.cinder.add_volume("root", |volume| volume.needs_ip = true);
    let machine = site.add_machine("web-1", &["root"]).await;
    let port = Port::new(Uuid::new_v4(), machine.node.uuid, MAC, Timestamp::now());
    site.inventory.create(&port).await.expect("the record is created");
    let boot =
        Boot::new(site.inventory.clone(), site.attach.clone(), Arc::default(), [StorageInterface::Cinder]);
    let expected = format!("node web-1: {FAILURE}{NEEDS_IP}{NO_LAST_KNOWN}");
    assert_eq!(boot.answer(&BootRequest::new(MAC)).await.answer.reason(), Some(expected.as_str()));
    assert_eq!(boot.preview(&BootRequest::new(MAC)).await.answer.reason(), Some(expected.as_str()));
}

#[tokio::test]
async fn nodes_without_an_address_do_not_affect_those_with_one() {
    let site = Site::open();
    for volume in ["one", "two", "three", "four"] {
        site.cinder.add_volume(volume, |volume| (volume.volume_type, volume.needs_ip) = ("vnx", true));
    }
    for volume in ["one", "two", "three"] {
        let reason = site.add_machine(volume, &[volume]).await.expect_wait(None).await;
        assert!(reason.contains(NEEDS_IP), "{reason}");
    }
    let mut fourth = site.add_machine("four", &["four"]).await;
    add_ip(&mut fourth);
    fourth.boot(None).await;
}

#[tokio::test]
async fn a_dead_backend_gives_no_advice_on_connectors_of_other_nodes() {
    let site = Site::open();
    for volume in ["one", "two", "three", "four"] {
        site.cinder.add_volume(volume, |volume| volume.volume_type = "dead");
    }
    site.cinder.inject_fault(Operation::Export, Fault::Status(500), usize::MAX);
    for volume in ["one", "two", "three"] {
        site.add_machine(volume, &[volume]).await.expect_wait(None).await;
    }
    let fourth = site.add_machine("four", &["four"]).await;
    let expected = "Cinder answers, but the backend of volume type \"dead\" fails: \
                    Cinder returned 500 Internal Server Error; volume four has no last known connection";
    assert_eq!(fourth.expect_wait(None).await, expected);
    assert_eq!(site.check(&fourth).await, Vec::<String>::new(), "no fault of this node");
}

#[tokio::test]
async fn a_failure_of_its_own_is_told_although_the_backend_fails() {
    let site = Site::open();
    for volume in ["root", "one", "two", "three"] {
        site.cinder.add_volume(volume, |volume| volume.volume_type = "vnx");
    }
    site.cinder.change_volume("root", |volume| volume.needs_ip = true);
    let machine = site.add_machine("web-1", &["root"]).await;
    expect_failure(&site, &machine, NEEDS_IP).await;
    site.cinder.inject_fault(Operation::Export, Fault::Status(500), usize::MAX);
    for volume in ["one", "two", "three"] {
        site.add_machine(volume, &[volume]).await.expect_wait(None).await;
    }
    site.cinder.take_calls();
    expect_failure(&site, &machine, NEEDS_IP).await;
    assert!(!site.cinder.take_calls().contains(&Operation::Export), "the circuit is open");
}

#[tokio::test]
async fn a_transient_failure_is_no_fault_of_the_node() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    site.cinder.inject_fault(Operation::Export, Fault::Status(503), 1);
    machine.expect_wait(None).await;
    assert_eq!(site.check(&machine).await, Vec::<String>::new(), "a deployment is allowed");
}

#[tokio::test]
async fn a_detachment_that_the_backend_fails_is_no_outage_of_cinder() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let mut machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(None).await;
    machine.connectors[0].connector_id = "iqn.2017-08.org.openstack.renamed".into();
    site.cinder.inject_fault(Operation::Delete, Fault::Status(500), 1);
    let expected = "Cinder answers, but volume root cannot be detached yet: Cinder returned 500 Internal Server \
                    Error; see the log of cinder-volume; volume root is being detached";
    assert_eq!(machine.expect_wait(None).await, expected);
}
