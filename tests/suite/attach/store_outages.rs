//! The shared store does not respond: a machine boots only what Cinder confirms, and what its card hooked before.

use std::sync::Arc;
use std::time::Duration;

use volboot::attach::{Attach, Policy};
use volboot::boot::Boot;
use volboot::config::StoreOutagePolicy;
use volboot::model::{
    BootAnswer, BootRequest, ConnectionSource, Mac, Node, Port, StorageInterface, VolumeTarget,
};
use volboot::store::{Inventory, MemoryStore, Store};

use super::{Site, TestMachine, attach};
use crate::fake_cinder::{Fault, Operation};

const CARD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
const ANOTHER_CARD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 2]);
const REASON: &str = "no answer from 192.0.2.11";
const WAIT: &str = "the store does not respond (no answer from 192.0.2.11), so volboot attaches no volume; ";

/// A booted machine whose card has hooked the volume, and its instance's store.
struct OutageSite {
    site: Site,
    store: Arc<MemoryStore>,
    machine: TestMachine,
}

impl OutageSite {
    async fn open() -> Self {
        let store = Arc::new(MemoryStore::default());
        let site = Site::with_store(Arc::clone(&store) as _);
        site.cinder.add_volume("root", |_| {});
        let machine = TestMachine { card: Some(CARD), ..site.add_machine("web-1", &["root"]).await };
        machine.boot(Some(("a", 1))).await;
        machine.attach.note_hooked(machine.node.uuid, CARD).await;
        site.cinder.take_calls();
        Self { site, store, machine }
    }

    fn set_policy(&mut self, policy: Policy) {
        self.machine.attach = attach(&self.site.store, &self.site.cinder, policy);
    }

    fn attach(&self) -> &Attach {
        &self.machine.attach
    }
}

#[tokio::test]
async fn a_machine_boots_what_cinder_confirms_and_its_card_hooked() {
    let site = OutageSite::open().await;
    site.store.set_outage(Some(REASON));
    let volumes = site.machine.boot(Some(("b", 1))).await;
    let ConnectionSource::Confirmed { store, .. } = &volumes[0].2 else { panic!("{volumes:?}") };
    assert_eq!(store, &format!("it does not respond: {REASON}"));
    assert_eq!(site.site.cinder.take_calls(), [Operation::Show]);
    site.store.set_outage(None);
    assert_eq!(site.machine.boot(Some(("c", 1))).await[0].2, ConnectionSource::Cinder);
}

#[tokio::test]
async fn another_card_waits() {
    let mut site = OutageSite::open().await;
    site.store.set_outage(Some(REASON));
    for card in [Some(ANOTHER_CARD), None] {
        site.machine.card = card;
        let reason = site.machine.expect_wait(Some(("b", 1))).await;
        assert_eq!(reason, format!("{WAIT}this card is not the one that last hooked volume root"));
    }
    assert_eq!(site.site.cinder.take_calls(), []);
}

#[tokio::test]
async fn a_volume_that_moved_to_another_node_meanwhile_is_not_booted() {
    let site = OutageSite::open().await;
    // Another instance, which the store answers, moves the volume.
    let elsewhere = Arc::new(site.store.join());
    site.store.set_outage(Some(REASON));
    let inventory = Inventory::new(Arc::clone(&elsewhere) as _);
    let target = site.machine.targets[0].uuid;
    inventory.delete(target, |_: &VolumeTarget, _| Ok::<_, ()>(())).await.expect("the target is deleted");
    let other = Site {
        inventory,
        ..Site::with(crate::fake_cinder::FakeCinder::start(), None, elsewhere.clone() as _)
    };
    let mut new = other.add_machine("web-2", &["root"]).await;
    new.attach = attach(&(elsewhere as Arc<dyn Store>), &site.site.cinder, Policy::default());
    let stop = tokio_util::sync::CancellationToken::new();
    let reconciler = tokio::spawn(new.attach.clone().reconcile(stop.clone()));
    new.boot_quickly("b").await;
    stop.cancel();
    reconciler.await.expect("the reconciler does not panic");
    let reason = site.machine.expect_wait(Some(("b", 1))).await;
    assert!(reason.starts_with(WAIT), "{reason}");
}

#[tokio::test]
async fn a_machine_waits_without_cinder_unless_last_known_records_count() {
    let mut site = OutageSite::open().await;
    site.store.set_outage(Some(REASON));
    site.site.cinder.inject_faults(Fault::Status(503));
    let outage = "Cinder is unavailable: Cinder returned 503 Service Unavailable";
    assert_eq!(site.machine.expect_wait(Some(("b", 1))).await, format!("{WAIT}{outage}"));

    let trusting = Policy { when_store_is_away: StoreOutagePolicy::LastKnown, ..Policy::default() };
    site.set_policy(trusting);
    let volumes = site.machine.boot(Some(("b", 1))).await;
    assert!(matches!(volumes[0].2, ConnectionSource::LastKnown { .. }), "{volumes:?}");
    // Cinder's word counts for more.
    site.site.cinder.clear_faults();
    let (id, _) = site.site.cinder.attachments("root").remove(0);
    site.site.cinder.detach_by_hand(&id);
    let reason = site.machine.expect_wait(Some(("b", 2))).await;
    assert_eq!(reason, format!("{WAIT}Cinder no longer has the attachment of volume root"));
}

#[tokio::test]
async fn policies_and_the_age_of_the_records_limit_boots() {
    let mut site = OutageSite::open().await;
    site.store.set_outage(Some(REASON));
    let outage = format!("the store does not respond ({REASON}); ");
    site.set_policy(Policy { when_store_is_away: StoreOutagePolicy::Wait, ..Policy::default() });
    let reason = site.machine.expect_wait(Some(("b", 1))).await;
    assert_eq!(reason, format!("{outage}boots wait for it (when_store_is_away)"));
    for policy in [StoreOutagePolicy::Verify, StoreOutagePolicy::LastKnown] {
        let policy =
            Policy { when_store_is_away: policy, store_max_age: Duration::ZERO, ..Policy::default() };
        site.set_policy(policy);
        let reason = site.machine.expect_wait(Some(("b", 1))).await;
        assert_eq!(reason, format!("{outage}the last known records are older than last_known_max_age"));
    }
    assert_eq!(site.site.cinder.take_calls(), []);
}

#[tokio::test]
async fn nothing_is_detached_until_the_store_responds() {
    let mut site = OutageSite::open().await;
    let target = site.machine.targets[0].uuid;
    let elsewhere = Inventory::new(Arc::new(site.store.join()));
    site.store.set_outage(Some(REASON));
    site.site.start_reconciler();
    elsewhere.delete(target, |_: &VolumeTarget, _| Ok::<_, ()>(())).await.expect("the target is deleted");
    // Longer than a reconciler takes for a detachment.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(site.site.cinder.take_calls(), []);
    site.store.set_outage(None);
    super::wait_until("the volume is detached", || site.site.cinder.status("root") == "available").await;
}

#[tokio::test]
async fn the_boot_decision_reads_the_last_known_records() {
    let mut site = OutageSite::open().await;
    let node = site.machine.node.uuid;
    let port = Port::new(uuid::Uuid::new_v4(), node, CARD, jiff::Timestamp::now());
    site.site.inventory.create(&port).await.expect("the record is created");
    let enabled = [StorageInterface::Cinder, StorageInterface::External];
    let boot = |attach: &Attach| {
        Boot::new(site.site.inventory.clone(), attach.clone(), Arc::default(), enabled.clone())
    };
    let request = || BootRequest::new(CARD);

    site.store.set_outage(Some(REASON));
    let decision = boot(site.attach()).answer(&request()).await;
    assert!(matches!(decision.answer, BootAnswer::Boot(_)), "{:?}", decision.answer);

    // Another instance sets the node to maintenance before the outage.
    site.store.set_outage(None);
    let change = |node: &Node, _: Option<&Node>| Ok::<_, ()>(Node { maintenance: true, ..node.clone() });
    site.site.inventory.update(node, change).await.expect("the record is updated");
    site.store.set_outage(Some(REASON));
    let decision = boot(site.attach()).answer(&request()).await;
    assert!(matches!(decision.answer, BootAnswer::Refused { .. }), "{:?}", decision.answer);

    // Nothing confirms the connections of storage interface external.
    site.store.set_outage(None);
    let external = |node: &Node, _: Option<&Node>| {
        let storage_interface = StorageInterface::External;
        Ok::<_, ()>(Node { maintenance: false, storage_interface, ..node.clone() })
    };
    site.site.inventory.update(node, external).await.expect("the record is updated");
    let properties = serde_json::json!({
        "target_portal": "192.0.2.1:3260", "target_iqn": "iqn.2010-10.org.openstack:root", "target_lun": 1,
    });
    let connect = |target: &VolumeTarget, _: Option<&Node>| {
        let properties = serde_json::from_value(properties.clone()).expect("an object");
        Ok::<_, ()>(VolumeTarget { properties, ..target.clone() })
    };
    let target = site.machine.targets[0].uuid;
    site.site.inventory.update(target, connect).await.expect("the record is updated");
    site.store.set_outage(Some(REASON));
    let decision = boot(site.attach()).answer(&request()).await;
    let BootAnswer::Wait { reason, .. } = &decision.answer else { panic!("{:?}", decision.answer) };
    assert!(reason.contains("nothing confirms the recorded connections"), "{reason}");
    let trusting = Policy { when_store_is_away: StoreOutagePolicy::LastKnown, ..Policy::default() };
    site.machine.attach = attach(&site.site.store, &site.site.cinder, trusting);
    let boot = Boot::new(site.site.inventory.clone(), site.attach().clone(), Arc::default(), enabled.clone());
    let decision = boot.answer(&request()).await;
    assert!(matches!(decision.answer, BootAnswer::Boot(_)), "{:?}", decision.answer);
}
