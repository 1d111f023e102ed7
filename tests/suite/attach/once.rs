//! The attachment of a one-time boot: made without a volume target, and ended with the boot, not by time.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use volboot::boot::{Boot, Decision};
use volboot::model::{
    BootAnswer, BootOnce, BootRequest, Mac, Node, OnceSource, Port, PowerState, StorageInterface,
    VolumeTarget,
};
use volboot::operator::Operator;
use volboot::store::MemoryStore;
use volboot::timeline::LoopDetector;

use super::{LIMIT, Site, TestMachine, undeploy};
use crate::operator::build_operator_on;

const CARD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);

/// A node with volume `root`, its machine, and volumes `rescue` and `other` in Cinder.
struct OnceSite {
    site: Site,
    machine: TestMachine,
    boot: Boot,
}

impl OnceSite {
    async fn open() -> Self {
        Self::open_on(Site::open()).await
    }

    async fn open_on(mut site: Site) -> Self {
        for volume in ["root", "rescue", "other"] {
            site.cinder.add_volume(volume, |_| {});
        }
        let machine = site.add_machine("web-1", &["root"]).await;
        let port = Port::new(Uuid::new_v4(), machine.node.uuid, CARD, Timestamp::now());
        site.inventory.create(&port).await.expect("the record is created");
        site.start_reconciler();
        let detector = Arc::new(LoopDetector::default());
        let enabled = [StorageInterface::Cinder, StorageInterface::Noop];
        let boot = Boot::new(site.inventory.clone(), site.attach.clone(), detector, enabled);
        Self { site, machine, boot }
    }

    async fn set(&self, source: OnceSource, with_volumes: bool) -> BootOnce {
        let now = Timestamp::now();
        let once = BootOnce {
            uuid: Uuid::new_v4(),
            created_at: now,
            node_uuid: self.machine.node.uuid,
            source,
            with_volumes,
            shared: false,
            expires_at: now + SignedDuration::from_hours(1),
            journey: None,
            consumed_at: None,
            earlier_volume: None,
        };
        self.site.inventory.set_boot_once(&once, None).await.expect("writes").expect("no conflict")
    }

    async fn set_volume(&self, id: &str, with_volumes: bool) -> BootOnce {
        self.set(OnceSource::Volume { volume_id: id.to_owned() }, with_volumes).await
    }

    /// Sends boot requests of a journey until the machine has its script. Ends a one-time boot as the listener does.
    async fn boot(&self, journey: &str) -> Decision {
        let deadline = tokio::time::Instant::now() + LIMIT;
        let request = BootRequest { journey: Some(journey.to_owned()), ..BootRequest::new(CARD) };
        loop {
            let decision = self.boot.answer(&request).await;
            let BootAnswer::Wait { reason, seconds } = &decision.answer else {
                if let Some(once) = &decision.ended_once {
                    self.boot.end_once(once).await;
                }
                return decision;
            };
            assert!(tokio::time::Instant::now() < deadline, "still waiting: {reason}");
            tokio::time::sleep(std::time::Duration::from_secs((*seconds).into())).await;
        }
    }

    async fn expect_attached(&self, expected: &[&str]) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let attached: Vec<_> = ["other", "rescue", "root"]
                .into_iter()
                .filter(|volume| self.site.cinder.status(volume) != "available")
                .collect();
            if attached == expected {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{attached:?}, not {expected:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// The volumes of a boot, in the order of the drives.
fn volumes(decision: &Decision) -> Vec<&str> {
    let BootAnswer::Boot(plan) = &decision.answer else { panic!("no boot: {:?}", decision.answer) };
    [&plan.boot].into_iter().chain(&plan.data).map(|volume| volume.id.as_str()).collect()
}

#[tokio::test]
async fn volume_is_attached_for_the_boot_and_detached_after_the_next_script() {
    for with_volumes in [false, true] {
        let site = OnceSite::open().await;
        site.set_volume("rescue", with_volumes).await;
        let expected: &[_] = if with_volumes { &["rescue", "root"] } else { &["rescue"] };
        assert_eq!(volumes(&site.boot("a").await), expected);
        site.expect_attached(expected).await;
        assert_eq!(volumes(&site.boot("b").await), ["root"]);
        site.expect_attached(&["root"]).await;
    }
}

#[tokio::test]
async fn node_of_any_storage_interface_boots_once_from_a_cinder_volume() {
    let site = OnceSite::open().await;
    let without = |old: &Node, _: Option<&Node>| {
        Ok::<_, ()>(Node { storage_interface: StorageInterface::Noop, ..old.clone() })
    };
    site.site.inventory.update(site.machine.node.uuid, without).await.expect("updates");
    site.set_volume("rescue", true).await;
    assert_eq!(volumes(&site.boot("a").await), ["rescue"]);
    assert!(matches!(site.boot("b").await.answer, BootAnswer::LocalDisk { .. }));
    site.expect_attached(&[]).await;
}

#[tokio::test]
async fn undeployment_and_cancellation_detach_the_volume() {
    for (cancels, keep_targets) in [(true, false), (false, true), (false, false)] {
        let store = MemoryStore::default();
        let operator = build_operator_on(store.join(), None);
        let operator = Arc::new(Operator { keep_targets_on_undeploy: keep_targets, ..operator });
        let site = OnceSite::open_on(Site::with_store(Arc::new(store))).await;
        let once = site.set_volume("rescue", false).await;
        site.boot("a").await;
        let consumed = site.site.inventory.find_boot_once(once.node_uuid).await.expect("reads");
        let consumed = consumed.expect("exists");
        assert_eq!(consumed.journey.as_deref(), Some("a"));
        site.expect_attached(&["rescue"]).await;
        if cancels {
            operator.cancel_boot_once(&site.machine.node, Timestamp::now()).await.expect("ends");
        } else {
            undeploy(&operator, once.node_uuid).await;
        }
        site.expect_attached(&[]).await;
        assert_eq!(site.site.inventory.find_boot_once(once.node_uuid).await.expect("reads"), None);
    }
}

#[tokio::test]
async fn volume_stays_attached_as_long_as_a_target_or_the_one_time_boot_has_it() {
    let site = OnceSite::open().await;
    let node = site.machine.node.uuid;
    let target = VolumeTarget::new(Uuid::new_v4(), node, 1, "other", Timestamp::now());
    site.site.inventory.create(&target).await.expect("creates");
    site.set_volume("other", true).await;
    assert_eq!(volumes(&site.boot("a").await), ["other", "root"]);
    // The one-time boot ends, and the target still has the volume.
    assert_eq!(volumes(&site.boot("b").await), ["root", "other"]);
    site.expect_attached(&["other", "root"]).await;
    assert_eq!(site.site.inventory.find_boot_once(node).await.expect("reads"), None);
    // The target goes, and the one-time boot still has it.
    site.set_volume("other", false).await;
    assert_eq!(volumes(&site.boot("c").await), ["other"]);
    let delete = site.site.inventory.delete(target.uuid, |_: &VolumeTarget, _| Ok::<_, ()>(())).await;
    delete.expect("deletes");
    site.expect_attached(&["other", "root"]).await;
    assert_eq!(volumes(&site.boot("d").await), ["root"]);
    site.expect_attached(&["root"]).await;
}

#[tokio::test]
async fn replacement_keeps_the_volume_that_the_machine_runs_from() {
    let site = OnceSite::open().await;
    site.set_volume("rescue", false).await;
    site.boot("a").await;
    site.set_volume("other", false).await;
    site.set(OnceSource::Shell, false).await;
    site.expect_attached(&["rescue"]).await;
    assert!(matches!(site.boot("b").await.answer, BootAnswer::Shell { .. }));
    site.expect_attached(&[]).await;
}

#[tokio::test]
async fn cancellation_of_a_replacement_leaves_the_volume_that_the_machine_runs_from() {
    for is_off in [false, true] {
        let store = MemoryStore::default();
        let operator = build_operator_on(store.join(), None);
        let site = OnceSite::open_on(Site::with_store(Arc::new(store))).await;
        let node = site.machine.node.uuid;
        site.set_volume("rescue", false).await;
        site.boot("a").await;
        site.set(OnceSource::Local, false).await;
        let now = Timestamp::now();
        if is_off {
            let off = |old: &Node, _: Option<&Node>| {
                Ok::<_, ()>(old.clone().with_power_state(PowerState::Off, Timestamp::now()))
            };
            let node = site.site.inventory.update(node, off).await.expect("updates");
            operator.cancel_boot_once(&node, now).await.expect("cancels");
        } else {
            // By every way, and repeatedly.
            operator.cancel_local_boot(&site.machine.node, now).await.expect("cancels");
            operator.cancel_boot_once(&site.machine.node, now).await.expect("cancels");
            let once = operator.find_boot_once(&site.machine.node).await.expect("reads").expect("stays");
            assert!(!once.is_armed(now), "{once:?}");
            site.expect_attached(&["rescue"]).await;
            assert_eq!(volumes(&site.boot("b").await), ["root"], "the local disk is cancelled");
        }
        let attached: &[_] = if is_off { &[] } else { &["root"] };
        site.expect_attached(attached).await;
        assert_eq!(operator.find_boot_once(&site.machine.node).await.expect("reads"), None);
    }
}
