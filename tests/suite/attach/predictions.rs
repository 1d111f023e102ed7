//! A preview predicts the answer of the boot request: the same outcome with the same reason, in each state of a node.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;
use volboot::attach::{Attach, Policy};
use volboot::boot::{Boot, Decision};
use volboot::model::{
    BootOutcome, BootRequest, BootStep, Mac, Node, Port, ProvisionState, StorageInterface, VolumeTarget,
};
use volboot::store::{Attachments, Batch};
use volboot::telemetry::{Event, EventKind, Metrics};
use volboot::timeline::Timeline;

use super::{Site, TestMachine};
use crate::fake_cinder::{FakeCinder, Fault, Operation};

const ENABLED: [StorageInterface; 3] =
    [StorageInterface::Noop, StorageInterface::External, StorageInterface::Cinder];

fn mac(last: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, last])
}

/// A boot request of the machine with this boot card.
fn request(last: u8) -> BootRequest {
    BootRequest::new(mac(last))
}

/// The first boot request of a boot session.
fn session(journey: &str) -> BootRequest {
    BootRequest { journey: Some(journey.into()), ..request(1) }
}

fn shown(decision: &Decision) -> (BootOutcome, &str) {
    (decision.answer.outcome(), decision.answer.reason().unwrap_or_default())
}

/// Previews a boot request, then answers it. Both must have this outcome and this reason.
async fn expect_both(boot: &Boot, request: &BootRequest, outcome: BootOutcome, reason: &str) {
    assert_eq!(shown(&boot.preview(request).await), (outcome.clone(), reason), "preview of {request:?}");
    assert_eq!(shown(&boot.answer(request).await), (outcome.clone(), reason), "answer to {request:?}");
    assert_eq!(shown(&boot.preview(request).await), (outcome.clone(), reason), "preview after {request:?}");
}

impl Site {
    pub(super) fn boot(&self, enabled: &[StorageInterface]) -> Boot {
        Boot::new(self.inventory.clone(), self.attach.clone(), Arc::default(), enabled)
    }

    pub(super) async fn add_port(&self, machine: &TestMachine, last: u8, pxe_enabled: bool) {
        let port = Port::new(Uuid::new_v4(), machine.node.uuid, mac(last), Timestamp::now());
        let port = Port { pxe_enabled, ..port };
        self.inventory.create(&port).await.expect("the record is created");
    }

    async fn change_node(&self, machine: &TestMachine, change: impl Fn(&mut Node)) {
        let change = |node: &Node, _: Option<&Node>| {
            let mut node = node.clone();
            change(&mut node);
            Ok::<_, ()>(node)
        };
        self.inventory.update(machine.node.uuid, change).await.expect("the record is updated");
    }

    /// Adds a node with storage interface `external`, whose volume `root` has this property `target_lun`.
    async fn add_external_machine(&self, name: &str, last: u8, lun: i64) -> TestMachine {
        let machine = self.add_machine(name, &["root"]).await;
        self.add_port(&machine, last, true).await;
        self.change_node(&machine, |node| node.storage_interface = StorageInterface::External).await;
        let properties = json!({
            "target_portal": "192.0.2.1:3260", "target_iqn": "iqn.2010-10.org.openstack:root", "target_lun": lun,
        });
        let change = |target: &VolumeTarget, _: Option<&Node>| {
            let properties = serde_json::from_value(properties.clone())?;
            Ok::<_, serde_json::Error>(VolumeTarget { properties, ..target.clone() })
        };
        self.inventory.update(machine.targets[0].uuid, change).await.expect("the record is updated");
        machine
    }
}

#[tokio::test]
async fn requesters_without_a_node_are_predicted() {
    let site = Site::open();
    let boot = site.boot(&ENABLED);
    let machine = site.add_external_machine("web-1", 1, 1).await;
    site.add_external_machine("web-2", 2, 1).await;
    site.add_port(&machine, 3, false).await;
    site.store.write(Batch::default().put("port-address/52:54:00:00:00:04", "?")).await.expect("writes");

    let unknown = "no node has a port with the address 52:54:00:00:00:77";
    expect_both(&boot, &request(0x77), BootOutcome::Unknown, unknown).await;
    let disabled = "node web-1: port 52:54:00:00:00:03 is not enabled for booting (pxe_enabled is false)";
    expect_both(&boot, &request(3), BootOutcome::Refused, disabled).await;
    let several = "this machine's network cards belong to several nodes; volboot's log names them";
    expect_both(&boot, &request(1).with_macs([mac(2)]), BootOutcome::Refused, several).await;
    let damaged = "the store cannot be read; see the log of volboot";
    expect_both(&boot, &request(4), BootOutcome::Wait, damaged).await;
}

#[tokio::test]
async fn states_of_the_records_are_predicted() {
    type Change = fn(&mut Node);

    let site = Site::open();
    let boot = site.boot(&[StorageInterface::External]);
    let machine = site.add_external_machine("web-1", 1, 1).await;
    site.add_external_machine("web-2", 2, -1).await;
    expect_both(&boot, &request(1), BootOutcome::Boot, "").await;
    let fault = shown_fault(&boot, 2).await;
    assert!(fault.contains("properties/target_lun: "), "{fault}");

    let cases: [(Change, BootOutcome, &str); 7] = [
        (
            |node| node.storage_interface = StorageInterface::Noop,
            BootOutcome::LocalDisk,
            "storage interface is noop",
        ),
        (|node| node.maintenance = true, BootOutcome::Refused, "maintenance is set"),
        (
            |node| node.provision_state = ProvisionState::Cleaning,
            BootOutcome::Refused,
            "provision state \"cleaning\" does not allow booting",
        ),
        (
            |node| node.undeployed = true,
            BootOutcome::Refused,
            "booting is not allowed after an undeployment; deploy the node again",
        ),
        (
            |node| node.storage_interface = StorageInterface::Cinder,
            BootOutcome::Refused,
            "storage interface cinder is not enabled",
        ),
        (
            |node| node.storage_interface = StorageInterface::Other("ceph".into()),
            BootOutcome::Refused,
            "storage interface \"ceph\" is unknown",
        ),
        (
            |node| node.properties = serde_json::Map::new().into(),
            BootOutcome::Refused,
            "capability iscsi_boot is missing: set properties/capabilities to iscsi_boot:True",
        ),
    ];
    let original = site.inventory.get::<Node>(machine.node.uuid).await.expect("reads").expect("a node").value;
    for (change, outcome, sentence) in cases {
        site.change_node(&machine, change).await;
        expect_both(&boot, &request(1), outcome, &format!("node web-1: {sentence}")).await;
        site.change_node(&machine, |node| *node = original.clone()).await;
    }
    expect_both(&boot, &request(1), BootOutcome::Boot, "").await;
}

/// The refusal of a machine with invalid records, from preview and answer.
async fn shown_fault(boot: &Boot, last: u8) -> String {
    let preview = boot.preview(&request(last)).await;
    let (outcome, reason) = shown(&preview);
    expect_both(boot, &request(last), outcome.clone(), reason).await;
    assert_eq!(outcome, BootOutcome::Refused);
    reason.to_owned()
}

#[tokio::test]
async fn states_of_cinder_are_predicted() {
    let site = Site::open();
    let boot = site.boot(&ENABLED);
    site.cinder.add_volume("root", |_| {});
    site.cinder.add_volume("used", |volume| volume.status = "in-use".into());
    site.cinder.add_volume("new", |_| {});
    site.cinder.add_volume("held", |_| {});
    for (last, volume) in (1..).zip(["root", "used", "new", "held"]) {
        let machine = site.add_machine(&format!("web-{last}"), &[volume]).await;
        site.add_port(&machine, last, true).await;
    }

    // The one exception: only a boot request attaches.
    let preview = boot.preview(&request(1)).await;
    let announced = "node web-1: volume root will be attached on the machine's boot request";
    assert_eq!(shown(&preview), (BootOutcome::Wait, announced));
    assert_eq!(shown(&boot.answer(&request(1)).await), (BootOutcome::Boot, ""));
    expect_both(&boot, &request(1), BootOutcome::Boot, "").await;

    let used = "node web-2: volume used is in use by an unknown holder and is not multi-attachable";
    expect_both(&boot, &request(2), BootOutcome::Refused, used).await;
    let holder = site.cinder.reserve_for_another("held", None);
    let held = format!("node web-4: volume held is in state \"reserved\", held by attachment {holder}");
    expect_both(&boot, &request(4), BootOutcome::Wait, &held).await;

    site.cinder.inject_faults(Fault::Status(503));
    expect_both(&boot, &request(1), BootOutcome::Boot, "").await;
    let outage = "node web-3: Cinder is unavailable: Cinder returned 503 Service Unavailable; \
                  volume new has no last known connection";
    expect_both(&boot, &request(3), BootOutcome::Wait, outage).await;

    // The first volume without a connection is named, whichever response came first.
    let machine = site.add_machine("web-5", &["late", "early"]).await;
    site.add_port(&machine, 5, true).await;
    let outage = "node web-5: Cinder is unavailable: Cinder returned 503 Service Unavailable; \
                  volume late has no last known connection";
    expect_both(&boot, &request(5), BootOutcome::Wait, outage).await;

    let policy = Policy { resolutions: 1, ..Policy::default() };
    let without_cinder = Attach::new(Attachments::new(Arc::clone(&site.store)), None, policy);
    let boot = Boot::new(site.inventory.clone(), without_cinder, Arc::default(), ENABLED);
    let missing = "node web-1: storage interface cinder is set, but Cinder is not configured";
    expect_both(&boot, &request(1), BootOutcome::Refused, missing).await;
}

#[tokio::test]
async fn outages_of_a_backend_are_predicted() {
    let site = Site::with_cinder(FakeCinder::start(), None);
    let boot = site.boot(&ENABLED);
    for (last, volume) in (1..).zip(["one", "two", "three", "four", "new"]) {
        site.cinder.add_volume(volume, |volume| volume.volume_type = "dead");
        let machine = site.add_machine(&format!("web-{last}"), &[volume]).await;
        site.add_port(&machine, last, true).await;
    }
    for last in 1..=4 {
        assert_eq!(shown(&boot.answer(&request(last)).await), (BootOutcome::Boot, ""));
    }
    site.cinder.inject_fault(Operation::Export, Fault::Status(500), usize::MAX);
    for last in 1..=3 {
        assert_eq!(boot.answer(&request(last)).await.answer.outcome(), BootOutcome::Wait);
    }
    for (last, name) in [(4, "web-4"), (5, "web-5")] {
        let outage = format!(
            "node {name}: Cinder answers, but the backend of volume type \"dead\" fails: \
             Cinder returned 500 Internal Server Error; last known connections are disabled (when_cinder_is_away)"
        );
        expect_both(&boot, &request(last), BootOutcome::Wait, &outage).await;
    }
    let own = "node web-1: Cinder answers, but cannot export volume one: Cinder returned 500 Internal Server Error; \
               its driver may need the node's IP address (as VNX does): create a volume connector of type ip, or see \
               the log of cinder-volume; last known connections are disabled (when_cinder_is_away)";
    expect_both(&boot, &request(1), BootOutcome::Wait, own).await;
}

#[tokio::test]
async fn boot_loops_are_predicted() {
    let site = Site::open();
    let timeline = Timeline::open_blocking(None, Metrics::new());
    let boot = Boot::new(site.inventory.clone(), site.attach.clone(), timeline.loop_detector(), ENABLED);
    site.add_external_machine("web-1", 1, 1).await;
    let looping = |sessions| {
        format!(
            "boot loop: {sessions} boot sessions in a row without a hooked volume; the machine's timeline shows why"
        )
    };
    for journey in ["a1", "a2", "a3", "a4", "a5"] {
        expect_both(&boot, &session(journey), BootOutcome::Boot, "").await;
    }
    // The machine's next session is held: with its journey, and without.
    assert_eq!(shown(&boot.predict(&request(1)).await), (BootOutcome::Wait, looping(6).as_str()));
    assert_eq!(shown(&boot.preview(&session("a6")).await), (BootOutcome::Wait, looping(6).as_str()));
    // Previews count no session.
    expect_both(&boot, &session("a6"), BootOutcome::Wait, &looping(6)).await;
    expect_both(&boot, &session("a6"), BootOutcome::Wait, &looping(6)).await;
    assert_eq!(shown(&boot.predict(&request(1)).await), (BootOutcome::Wait, looping(6).as_str()));
    let later = boot.preview(&session("a7")).await;
    assert_eq!(later.held.map(|delay| (delay.journeys, delay.seconds, delay.is_first)), Some((7, 120, true)));
    expect_both(&boot, &session("a7"), BootOutcome::Wait, &looping(7)).await;
    // A retry is within the session, and a script outside any session is not delayed.
    expect_both(&boot, &BootRequest { attempt: 2, ..session("a7") }, BootOutcome::Boot, "").await;
    expect_both(&boot, &request(1), BootOutcome::Boot, "").await;

    let hooked = EventKind::BootReport { step: Some(BootStep::Hooked), rc: None, attempt: 1 };
    timeline.record(Event::new(Timestamp::now(), Some(mac(1)), None, hooked));
    expect_both(&boot, &request(1), BootOutcome::Boot, "").await;
    expect_both(&boot, &session("a8"), BootOutcome::Boot, "").await;
}
