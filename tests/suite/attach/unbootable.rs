//! Volumes whose connection cannot be booted: attached once, then refused from memory until something changes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;
use volboot::attach::Resolution;
use volboot::boot::{Boot, Decision};
use volboot::model::{BootAnswer, BootRequest, Mac, Port, StorageInterface, VolumeConnector};

use super::{LIMIT, Site, TestMachine, advance_clock, wait_until};
use crate::fake_cinder::{Fault, Operation};

const REASON: &str = "volume root has transport \"nvmeof\"; only iscsi can be booted";
/// What a boot request costs Cinder while the finding holds.
const RECALL: [Operation; 1] = [Operation::Volume];
/// The calls that attach.
const ATTACHMENT: [Operation; 3] = [Operation::List, Operation::Reserve, Operation::Export];
const MAC: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);

/// A site whose volume `root` has the transport NVMe-oF, and the machine that was refused for it.
async fn open_with_finding() -> (Site, TestMachine) {
    let mut site = Site::open();
    site.start_reconciler();
    site.cinder.add_volume("root", |volume| volume.transport = "nvmeof");
    let machine = site.add_machine("web-1", &["root"]).await;
    assert_eq!(machine.expect_refusal().await, REASON);
    expect_detached(&site).await;
    (site, machine)
}

/// Waits until the volume is detached and read. A boot request after that waits until the memory knows the volume.
async fn expect_detached(site: &Site) {
    let calls = parking_lot::Mutex::new(Vec::new());
    wait_until("the volume is read after its detachment", || {
        calls.lock().append(&mut site.cinder.take_calls());
        calls.lock().ends_with(&[Operation::Delete, Operation::Volume])
    })
    .await;
    assert_eq!(site.cinder.status("root"), "available");
}

/// Expects the refusal from memory, by a boot request and by a validation.
async fn expect_recall(site: &Site, machine: &TestMachine, when: &str) {
    let reason = machine.expect_refusal().await;
    assert!(reason.starts_with(&format!("{REASON} (found at 20")), "{when}: {reason}");
    assert!(reason.ends_with("Z; Cinder is asked again after 5 minutes)"), "{when}: {reason}");
    assert_eq!(site.cinder.take_calls(), RECALL, "{when}");
    assert_eq!(site.check(machine).await, [reason], "{when}");
    assert_eq!(site.cinder.take_calls(), RECALL, "{when}");
}

/// Expects that validation finds no fault and that a boot request attaches the volume again, in vain.
async fn expect_export(site: &Site, machine: &TestMachine, when: &str) {
    assert_eq!(site.check(machine).await, Vec::<String>::new(), "{when}");
    site.cinder.take_calls();
    assert_eq!(machine.expect_refusal().await, REASON, "{when}");
    let calls = site.cinder.take_calls();
    let export = calls.iter().position(|call| *call == Operation::Export).unwrap_or_default();
    assert!(calls[..=export].ends_with(&ATTACHMENT), "{when}: {calls:?}");
}

#[tokio::test]
async fn a_volume_that_cannot_be_booted_is_attached_once() {
    let (site, machine) = open_with_finding().await;
    for attempt in 0..3 {
        expect_recall(&site, &machine, &format!("request {attempt}")).await;
    }
    assert_eq!(site.cinder.attachments("root"), []);
    assert_eq!(site.records().list_by_node(machine.node.uuid).await.expect("the store is readable"), []);

    // The memory concerns this node and this volume.
    site.cinder.add_volume("data", |_| {});
    site.add_machine("web-2", &["data"]).await.boot(None).await;
}

#[tokio::test]
async fn each_kind_of_unbootable_connection_is_remembered() {
    let mut site = Site::open();
    site.start_reconciler();
    let transport = "volume fibre has transport \"fibre_channel\"; only iscsi can be booted";
    let portal = "Cinder returned an invalid connection for volume portal: ";
    let encrypted = "volume secret is encrypted, which firmware cannot read";
    site.cinder.add_volume("fibre", |volume| volume.transport = "fibre_channel");
    for (volume, expected) in [("fibre", transport), ("portal", portal), ("secret", encrypted)] {
        match volume {
            "portal" => site.cinder.move_portal("no portal"),
            "secret" => site.cinder.encrypt_connections(),
            _ => {}
        }
        if volume != "fibre" {
            site.cinder.add_volume(volume, |_| {});
        }
        let machine = site.add_machine(volume, &[volume]).await;
        let reason = machine.expect_refusal().await;
        assert!(reason.starts_with(expected), "{reason}");
        let recalled = machine.expect_refusal().await;
        assert!(recalled.starts_with(&format!("{reason} (found at ")), "{recalled}");
        assert_eq!(site.check(&machine).await, [recalled]);
    }
}

#[tokio::test]
async fn a_changed_record_voids_the_finding() {
    type Change = fn(&mut TestMachine);

    let (site, mut machine) = open_with_finding().await;
    let changes: [(&str, Change); 5] = [
        ("node changed", |machine| machine.node.updated_at = Some(Timestamp::now())),
        ("connector changed", |machine| machine.connectors[0].updated_at = Some(Timestamp::now())),
        ("target changed", |machine| machine.targets[0].updated_at = Some(Timestamp::now())),
        ("connector added", |machine| {
            let (node, now) = (machine.node.uuid, Timestamp::now());
            machine.connectors.push(VolumeConnector::new(Uuid::new_v4(), node, "ip", "192.0.2.9", now));
        }),
        ("connector deleted", |machine| drop(machine.connectors.pop())),
    ];
    for (when, change) in changes {
        expect_recall(&site, &machine, when).await;
        change(&mut machine);
        expect_export(&site, &machine, when).await;
        expect_detached(&site).await;
    }
    expect_recall(&site, &machine, "at the end").await;
}

#[tokio::test]
async fn a_changed_volume_voids_the_finding() {
    let (site, machine) = open_with_finding().await;
    expect_recall(&site, &machine, "at the start").await;
    site.cinder.change_volume("root", |volume| volume.changes += 1);
    expect_export(&site, &machine, "updated_at differs").await;
    expect_detached(&site).await;

    // Another type alone is enough, and the volume boots once its connection can.
    expect_recall(&site, &machine, "nothing differs").await;
    site.cinder.change_volume("root", |volume| (volume.volume_type, volume.transport) = ("iscsi", "iscsi"));
    machine.boot(None).await;
    assert_eq!(site.check(&machine).await, Vec::<String>::new());
}

#[tokio::test]
async fn cinder_is_asked_again_after_five_minutes() {
    let (site, machine) = open_with_finding().await;
    // The backend was corrected, which leaves no trace in Cinder.
    site.cinder.change_volume("root", |volume| volume.transport = "iscsi");
    advance_clock(Duration::from_secs(290)).await;
    expect_recall(&site, &machine, "after 290 s").await;
    advance_clock(Duration::from_secs(10)).await;
    machine.boot(None).await;
}

#[tokio::test]
async fn a_restart_asks_again() {
    let (mut site, mut machine) = open_with_finding().await;
    site.restart(&mut [&mut machine]);
    expect_export(&site, &machine, "after a restart").await;
}

#[tokio::test]
async fn a_volume_that_cannot_be_detached_yet_is_refused_without_another_export() {
    let mut site = Site::open();
    site.cinder.inject_fault(Operation::Delete, Fault::Status(500), usize::MAX);
    site.cinder.add_volume("root", |volume| volume.transport = "nvmeof");
    let machine = site.add_machine("web-1", &["root"]).await;
    assert_eq!(machine.expect_refusal().await, REASON);
    site.cinder.take_calls();
    expect_recall(&site, &machine, "before the detachment").await;
    site.cinder.clear_faults();
    site.start_reconciler();
    expect_detached(&site).await;
    expect_recall(&site, &machine, "after the detachment").await;
}

#[tokio::test]
async fn a_volume_that_cannot_be_read_after_its_detachment_is_asked_for_again() {
    let mut site = Site::open();
    site.cinder.add_volume("root", |volume| volume.transport = "nvmeof");
    let machine = site.add_machine("web-1", &["root"]).await;
    assert_eq!(machine.expect_refusal().await, REASON);
    site.cinder.inject_fault(Operation::Volume, Fault::Status(503), 1);
    site.cinder.take_calls();
    site.start_reconciler();
    expect_detached(&site).await;
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !site.check(&machine).await.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "the finding still holds");
    }
    expect_export(&site, &machine, "a change could have been missed").await;
}

#[tokio::test]
async fn an_outage_is_told_before_the_memory() {
    let (site, machine) = open_with_finding().await;
    site.cinder.inject_faults(Fault::Status(503));
    let outage = "Cinder is unavailable: Cinder returned 503 Service Unavailable";
    assert!(machine.expect_wait(None).await.starts_with(outage));
    assert_eq!(site.check(&machine).await, [outage]);
    site.cinder.clear_faults();
    site.cinder.inject_fault(Operation::Volume, Fault::Status(404), 1);
    assert_eq!(machine.expect_refusal().await, "volume root was not found in Cinder");
}

#[tokio::test]
async fn preview_and_validation_tell_the_reason_of_the_boot() {
    fn reason_of(decision: Decision) -> String {
        match decision.answer {
            BootAnswer::Refused { reason } => reason,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    let (site, machine) = open_with_finding().await;
    let port = Port::new(Uuid::new_v4(), machine.node.uuid, MAC, Timestamp::now());
    site.inventory.create(&port).await.expect("the record is created");
    let boot =
        Boot::new(site.inventory.clone(), site.attach.clone(), Arc::default(), [StorageInterface::Cinder]);
    let preview = reason_of(boot.preview(&BootRequest::new(MAC)).await);
    assert_eq!(reason_of(boot.answer(&BootRequest::new(MAC)).await), preview);
    let faults = boot.check(&machine.node).await.expect("the store is readable").faults;
    assert_eq!(faults.iter().map(|fault| format!("node web-1: {fault}")).collect::<Vec<_>>(), [preview]);
}

#[tokio::test]
async fn a_volume_of_several_keeps_its_attachment() {
    let (site, _) = open_with_finding().await;
    site.cinder.add_volume("boot", |_| {});
    let machine = site.add_machine("web-2", &["boot", "root"]).await;
    for _ in 0..2 {
        assert!(matches!(machine.request(None).await, Resolution::Refused(_)));
        assert_eq!(site.cinder.attachments("boot").len(), 1);
    }
}
