//! The fallback of a node in Cinder: attached when it is due, kept by a promotion, detached with its end; Nova's attachments stay.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;
use volboot::boot::{Boot, FallbackPolicy};
use volboot::model::{
    BootAnswer, BootRequest, BootStep, Fallback, FallbackSource, Mac, Node, Port, Promotion, PromotionError,
    ProvisionState, StorageInterface, VolumeTarget,
};
use volboot::operator::Operator;
use volboot::store::MemoryStore;

use super::borrowed::NovaSite;
use super::{LIMIT, Site, undeploy, wait_until};
use crate::fake_cinder::{FakeCinder, Fault};
use crate::operator::build_operator_on;

const CARD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 9]);
/// One failed boot is enough, and it may be short.
const POLICY: FallbackPolicy = FallbackPolicy { after: 1, min_uptime: Duration::ZERO };

/// A node of a site whose fallback is the volume `spare`.
struct FallbackNode {
    boot: Boot,
    node: Uuid,
    journeys: u32,
    _tasks: DropGuard,
}

impl FallbackNode {
    async fn open(site: &Site, node: Uuid) -> Self {
        site.cinder.add_volume("spare", |_| {});
        site.store.cluster().announce("boot-1", Vec::new()).await.expect("announces");
        let port = Port { pxe_enabled: true, ..Port::new(Uuid::new_v4(), node, CARD, Timestamp::UNIX_EPOCH) };
        site.inventory.create(&port).await.expect("creates");
        let set = |old: &Node, _: Option<&Node>| {
            let fallback = Fallback::new(FallbackSource::Volume("spare".into()));
            let node = Fallback::write(Some(&fallback), old.clone());
            Ok::<_, ()>(Node { provision_state: ProvisionState::Active, ..node })
        };
        site.inventory.update(node, set).await.expect("writes");
        let own = FallbackSource::Volume("root".into());
        site.inventory.fallbacks().note_up(node, &own).await.expect("writes");
        let enabled = [StorageInterface::External, StorageInterface::Cinder];
        let boot = Boot::new(site.inventory.clone(), site.attach.clone(), Arc::default(), enabled);
        let watch = boot.fallback_watch().clone();
        let boot = boot.with_fallbacks(POLICY, watch.clone());
        let stop = CancellationToken::new();
        tokio::spawn(watch.run(stop.clone()));
        Self { boot, node, journeys: 0, _tasks: stop.drop_guard() }
    }

    async fn ask(&self, attempt: u32) -> BootAnswer {
        let journey = Some(format!("journey-{}", self.journeys));
        let request = BootRequest { journey, attempt, ..BootRequest::new(CARD) };
        self.boot.answer(&request).await.answer
    }

    /// A boot session, until the machine has its script. Returns the volumes.
    async fn boot(&mut self) -> Vec<String> {
        self.journeys += 1;
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            match self.ask(1).await {
                BootAnswer::Boot(plan) => {
                    let volumes = std::iter::once(&plan.boot).chain(&plan.data);
                    return volumes.map(|volume| volume.id.clone()).collect();
                }
                BootAnswer::Wait { reason, .. } => {
                    assert!(tokio::time::Instant::now() < deadline, "still waiting: {reason}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => panic!("no boot: {other:?}"),
            }
        }
    }

    /// Reports a step, and waits until it is recorded.
    async fn report(&self, site: &Site, step: BootStep) {
        self.boot.note_report(CARD, Some(&step), None);
        let expected = match step {
            BootStep::Up => volboot::model::WatchedStage::Up,
            _ => volboot::model::WatchedStage::Hooked,
        };
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let snapshot = site.inventory.fallbacks().read(self.node, None).await.expect("reads");
            let stage = snapshot.and_then(|snapshot| snapshot.state.boot).map(|boot| boot.stage);
            if stage == Some(expected) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "the report is not recorded");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn promote(&self, site: &Site) -> Node {
        let promoted = site
            .inventory
            .promote_fallback(self.node, Timestamp::now(), Promotion::of, || PromotionError::NoBootVolume);
        promoted.await.expect("promotes")
    }

    async fn remove(&self, site: &Site) {
        let remove = |old: &Node, _: Option<&Node>| Ok::<_, ()>(Fallback::write(None, old.clone()));
        site.inventory.update(self.node, remove).await.expect("writes");
    }
}

fn count(site: &Site, volume: &str) -> usize {
    site.cinder.attachments(volume).len()
}

#[tokio::test]
async fn a_fallback_is_attached_when_it_is_due_kept_by_a_promotion_and_detached_with_its_end() {
    let mut site = Site::open();
    site.cinder.add_volume("root", |_| {});
    site.cinder.add_volume("data", |_| {});
    let machine = site.add_machine("web-1", &["root", "data"]).await;
    site.start_reconciler();
    let mut node = FallbackNode::open(&site, machine.node.uuid).await;
    assert_eq!(node.boot().await, ["root", "data"]);
    assert_eq!(count(&site, "spare"), 0, "it is never attached for a boot of the own volume");
    node.report(&site, BootStep::Hooked).await;
    assert_eq!(node.boot().await, ["spare"], "nothing else is hooked");
    assert_eq!((count(&site, "root"), count(&site, "spare")), (1, 1));

    let attachments = (site.cinder.attachments("root"), site.cinder.attachments("spare"));
    let promoted = node.promote(&site).await;
    assert_eq!(promoted.fallback_volume().as_deref(), Some("root"));
    assert_eq!(node.boot().await, ["spare", "data"]);
    assert_eq!((site.cinder.attachments("root"), site.cinder.attachments("spare")), attachments);

    node.remove(&site).await;
    wait_until("the former boot volume is detached", || count(&site, "root") == 0).await;
    assert_eq!(count(&site, "spare"), 1, "the boot volume stays");
    assert_eq!(node.boot().await, ["spare", "data"]);
}

#[tokio::test]
async fn an_outage_of_cinder_brings_no_fallback_into_force() {
    let site = Site::with_cinder(FakeCinder::start(), None);
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    let mut node = FallbackNode::open(&site, machine.node.uuid).await;
    node.boot().await;
    node.report(&site, BootStep::Hooked).await;
    node.report(&site, BootStep::Up).await;
    site.cinder.inject_faults(Fault::Status(503));
    for _ in 0..4 {
        node.journeys += 1;
        let answer = node.ask(1).await;
        assert!(matches!(answer, BootAnswer::Wait { .. } | BootAnswer::Refused { .. }), "{answer:?}");
    }
    site.cinder.clear_faults();
    let state = site.inventory.fallbacks().read(node.node, None).await.expect("reads").expect("exists").state;
    assert_eq!((state.failed_boots, state.in_force), (0, None));
    assert_eq!(count(&site, "spare"), 0);
}

#[tokio::test]
async fn a_fallback_of_an_instance_leaves_nova_s_attachment_alone() {
    let mut nova = NovaSite::open().await;
    nova.site.start_reconciler();
    let mut node = FallbackNode::open(&nova.site, nova.machine.node.uuid).await;
    assert_eq!(node.boot().await, ["root"]);
    nova.assert_attachment_is_kept();
    node.report(&nova.site, BootStep::Hooked).await;
    assert_eq!(node.boot().await, ["spare"]);
    nova.assert_attachment_is_kept();
    node.promote(&nova.site).await;
    assert_eq!(node.boot().await, ["spare"]);
    nova.assert_attachment_is_kept();
    // The former boot volume goes: its record is forgotten, and Nova's attachment stays.
    node.remove(&nova.site).await;
    let records = nova.site.records();
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !records.list_by_volume("root").await.expect("lists").is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "the record of Nova's attachment stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    nova.assert_attachment_is_kept();
}

#[tokio::test]
async fn an_undeployment_releases_the_fallback_and_ends_its_count() {
    for keep_targets in [true, false] {
        undeploy_in_fallback(keep_targets).await;
    }
}

async fn undeploy_in_fallback(keep_targets: bool) {
    let store = MemoryStore::default();
    let operator = build_operator_on(store.join(), None);
    let operator = Arc::new(Operator { keep_targets_on_undeploy: keep_targets, ..operator });
    let mut site = Site::with_store(Arc::new(store));
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    site.start_reconciler();
    let mut node = FallbackNode::open(&site, machine.node.uuid).await;
    node.boot().await;
    node.report(&site, BootStep::Hooked).await;
    assert_eq!(node.boot().await, ["spare"]);
    undeploy(&operator, node.node).await;
    wait_until("all volumes are detached", || count(&site, "root") + count(&site, "spare") == 0).await;
    assert_eq!(site.inventory.fallbacks().list().await.expect("lists"), []);
    let undeployed = site.inventory.get::<Node>(node.node).await.expect("reads").expect("exists").value;
    assert_eq!(undeployed.fallback_volume().is_some(), keep_targets, "the fallback goes with the targets");
    // The next deployment; its boot volume is another one if the targets went.
    let deploy = |old: &Node, _: Option<&Node>| {
        Ok::<_, ()>(Node { undeployed: false, provision_state: ProvisionState::Active, ..old.clone() })
    };
    site.inventory.update(node.node, deploy).await.expect("writes");
    let next = if keep_targets { "root" } else { "next" };
    if !keep_targets {
        site.cinder.add_volume(next, |_| {});
        let target = VolumeTarget::new(Uuid::new_v4(), node.node, 0, next, Timestamp::now());
        site.inventory.create(&target).await.expect("creates");
        let snapshot = site.inventory.fallbacks().read(node.node, Some(target.uuid)).await.expect("reads");
        assert!(!snapshot.expect("exists").has_reported_up(), "its operating system has not reported");
    }
    assert_eq!(node.boot().await, [next]);
}
