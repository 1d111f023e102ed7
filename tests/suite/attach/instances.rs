//! Several instances on one store: claims, fencing, and one resolution per boot wherever the machine asks.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use volboot::attach::{Attach, Policy, Resolution, Windows};
use volboot::model::{Attachment, AttachmentState, ConnectionSource};
use volboot::store::{AttachmentWriteError, Attachments, MemoryStore, Store, TurnShare};

use super::{LIMIT, Site, TestMachine, advance_clock, attach_with_windows, wait_until};
use crate::fake_cinder::{FakeCinder, Fault, Operation};

/// Windows that let a test end soon.
pub(super) const WINDOWS: Windows = Windows {
    late_request: Duration::from_millis(700),
    repeat: Duration::from_secs(60),
    grace_period: Duration::from_millis(100),
};

/// One instance of a site with several.
pub(super) struct Instance {
    pub(super) store: Arc<MemoryStore>,
    pub(super) attach: Attach,
    _reconciler: DropGuard,
}

/// Instances on one store, with one Cinder. The site's own `Attach` stays idle.
pub(super) struct MultiSite {
    pub(super) site: Site,
    pub(super) instances: Vec<Instance>,
}

impl MultiSite {
    /// Opens a site with this many instances, each with a reconciler and a name: `boot-1` and so on.
    pub(super) async fn open(count: usize) -> Self {
        Self::with_cinder(FakeCinder::start(), count).await
    }

    pub(super) async fn with_cinder(cinder: FakeCinder, count: usize) -> Self {
        let shared = Arc::new(MemoryStore::default());
        let site = Site::with(cinder, Some(Duration::from_secs(3600)), Arc::clone(&shared) as _);
        let mut site = Self { site, instances: Vec::new() };
        for number in 1..=count {
            site.add_instance(Arc::new(shared.join()), &format!("boot-{number}")).await;
        }
        site
    }

    /// Starts an instance with its reconciler.
    pub(super) async fn add_instance(&mut self, store: Arc<MemoryStore>, name: &str) {
        store.cluster().announce(name, Vec::new()).await.expect("the session is alive");
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let attach = attach_with_windows(&shared, &self.site.cinder, self.site.policy, WINDOWS);
        let stop = CancellationToken::new();
        tokio::spawn(attach.clone().reconcile(stop.clone()));
        self.instances.push(Instance { store, attach, _reconciler: stop.drop_guard() });
    }

    /// The machine, whose boot requests reach this instance.
    pub(super) fn at(&self, instance: usize, machine: &TestMachine) -> TestMachine {
        TestMachine {
            attach: self.instances[instance].attach.clone(),
            node: machine.node.clone(),
            connectors: machine.connectors.clone(),
            targets: machine.targets.clone(),
            card: machine.card,
        }
    }

    /// Checks that Cinder has exactly one attachment for each record of the volume, complete, and no other.
    pub(super) async fn expect_consistent(&self, volume: &str, nodes: usize, context: &str) {
        let records = Attachments::new(Arc::clone(&self.site.store));
        let deadline = Instant::now() + LIMIT;
        loop {
            let of_volume = records.list_by_volume(volume).await.expect("the store is readable");
            let mut recorded: Vec<_> =
                of_volume.iter().map(|record| record.cinder_id.clone().unwrap_or_default()).collect();
            let attachments = self.site.cinder.attachments(volume);
            let mut present: Vec<_> = attachments.iter().map(|attachment| attachment.0.clone()).collect();
            recorded.sort();
            present.sort();
            let is_complete = of_volume.iter().all(is_settled)
                && attachments.iter().all(|attachment| attachment.1 == "attached");
            if recorded == present && present.len() == nodes && is_complete {
                return;
            }
            assert!(Instant::now() < deadline, "{context}: {of_volume:?} but Cinder has {attachments:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn is_settled(record: &Attachment) -> bool {
    record.state == AttachmentState::Attached && !record.pending_export && !record.superseded_export
}

impl TestMachine {
    /// Repeats the boot request until the volumes are ready, without the pauses of a machine.
    pub(super) async fn boot_quickly(&self, journey: &str) -> Vec<ConnectionSource> {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.request(Some((journey, 1))).await {
                Resolution::Ready(volumes) => {
                    return volumes.into_values().map(|volume| volume.source).collect();
                }
                Resolution::Wait { reason, .. } => {
                    assert!(Instant::now() < deadline, "still waiting: {reason}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Resolution::Refused(reason) => panic!("refused: {reason}"),
            }
        }
    }
}

#[tokio::test]
async fn a_machine_is_told_which_instance_works_on_its_volume() {
    let site = MultiSite::open(2).await;
    site.site.cinder.add_volume("root", |_| {});
    let machine = site.site.add_machine("web-1", &["root"]).await;
    site.site.cinder.inject_fault(Operation::Export, Fault::LateResponse(Duration::from_secs(2)), 1);
    let first = site.at(0, &machine);
    let boot = tokio::spawn(async move { first.boot_quickly("a").await });
    wait_until("the export has arrived", || site.site.cinder.status("root") == "attaching").await;
    let reason = site.at(1, &machine).expect_wait(Some(("a", 1))).await;
    assert_eq!(reason, "boot-1 is asking Cinder about volume root");
    assert_eq!(boot.await.expect("the boot does not panic"), [ConnectionSource::Cinder]);
    site.expect_consistent("root", 1, "after the boot").await;
}

#[tokio::test]
async fn a_boot_is_resolved_once_wherever_the_machine_asks() {
    let site = MultiSite::open(2).await;
    site.site.cinder.add_volume("root", |_| {});
    let machine = site.site.add_machine("web-1", &["root"]).await;
    site.at(0, &machine).boot_quickly("a").await;
    let has_seen = async {
        // The change feed of the second instance shows the resolution.
        loop {
            site.site.cinder.take_calls();
            let sources = site.at(1, &machine).boot_quickly("a").await;
            assert_eq!(sources, [ConnectionSource::Cinder]);
            if site.site.cinder.take_calls().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, has_seen).await.expect("the result is found");
    // The next try is another boot.
    site.at(0, &machine).boot(Some(("a", 2))).await;
    assert_eq!(site.site.cinder.take_calls(), [Operation::Export, Operation::Complete]);
}

#[tokio::test]
async fn an_instance_past_its_deadline_calls_cinder_no_more() {
    let site = MultiSite::open(2).await;
    site.site.cinder.add_volume("root", |_| {});
    let machine = site.site.add_machine("web-1", &["root"]).await;
    site.instances[0].store.set_session_deadline(Some(Instant::now()));
    let reason = site.at(0, &machine).expect_wait(Some(("a", 1))).await;
    assert_eq!(reason, "this instance lost its session in the store; the work starts again");
    assert_eq!(site.site.cinder.take_calls(), []);
    // The store still has the claim until the session ends.
    site.instances[0].store.end_session();
    site.at(1, &machine).boot_quickly("a").await;
    site.expect_consistent("root", 1, "after the takeover").await;
}

#[tokio::test]
async fn a_session_that_ends_during_an_export_writes_nothing_more() {
    let site = MultiSite::open(2).await;
    site.site.cinder.add_volume("root", |_| {});
    let machine = site.site.add_machine("web-1", &["root"]).await;
    // The request waits on its way to Cinder, and arrives after the successor's.
    site.site.cinder.inject_fault(Operation::Export, Fault::Slow(Duration::from_millis(400)), 1);
    let first = site.at(0, &machine);
    let late = tokio::spawn(async move { first.request(Some(("a", 1))).await });
    let is_sent = || site.site.cinder.take_calls().contains(&Operation::Export);
    wait_until("the export is sent", is_sent).await;
    site.instances[0].store.end_session();
    site.at(1, &machine).boot_quickly("a").await;
    assert_eq!(site.site.cinder.status("root"), "in-use");
    let record = site.site.record(&machine).await;
    assert!(record.superseded_export, "the earlier request may still arrive");
    let lost = late.await.expect("the request does not panic");
    assert!(
        matches!(&lost, Resolution::Wait { reason, .. } if reason.contains("lost its session")),
        "{lost:?}"
    );
    wait_until("the late export has arrived", || site.site.cinder.status("root") == "attaching").await;
    site.expect_consistent("root", 1, "after the late export").await;
}

/// The first instance has the result for one of two volumes when the machine asks another instance.
#[tokio::test]
async fn a_result_from_before_another_instances_export_is_not_given() {
    let mut site = MultiSite::open(1).await;
    for volume in ["root", "data"] {
        site.site.cinder.add_volume(volume, |_| {});
    }
    let machine = site.site.add_machine("web-1", &["root", "data"]).await;
    site.site.cinder.inject_fault(Operation::Complete, Fault::Hang, 1);
    let first = site.at(0, &machine);
    first.expect_wait(Some(("a", 1))).await;
    site.site.cinder.move_portal("192.0.2.2:3260");
    // The change feed has not shown it the first instance's work, so it exports both volumes.
    let store = Arc::new(site.instances[0].store.join());
    site.add_instance(store, "boot-2").await;
    site.at(1, &machine).boot_quickly("a").await;
    let paths = first.boot(Some(("a", 1))).await;
    assert!(paths.iter().all(|(_, path, _)| path.contains("192.0.2.2")), "{paths:?}");
}

/// The record shows an export of another instance that has not ended.
#[tokio::test]
async fn a_result_is_not_given_while_another_instance_exports_the_volume() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    site.cinder.inject_fault(Operation::Export, Fault::LateResponse(Duration::from_secs(4)), 1);
    machine.expect_wait(Some(("a", 1))).await;
    let records = site.records();
    let attached = async {
        loop {
            let record = site.record(&machine).await;
            if is_settled(&record) {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let record = tokio::time::timeout(LIMIT, attached).await.expect("the volume is attached");
    let begin_export = |record: &mut Attachment| record.pending_export = true;
    records.change(&record, begin_export).await.expect("the record is changed");
    let reason = machine.expect_wait(Some(("a", 1))).await;
    assert!(reason.contains("another instance exported a volume again"), "{reason}");
    machine.boot(Some(("a", 1))).await;
}

#[tokio::test]
async fn the_wait_for_cinder_goes_on_at_another_instance() {
    let site = MultiSite::open(2).await;
    site.site.cinder.add_volume("root", |_| {});
    let machine = site.site.add_machine("web-1", &["root"]).await;
    site.site.cinder.inject_faults(Fault::Status(503));
    let (first, second) = (site.at(0, &machine), site.at(1, &machine));
    first.expect_wait(Some(("a", 1))).await;
    // Repeats keep the session alive.
    for _ in 0..29 {
        advance_clock(Duration::from_secs(60)).await;
        first.expect_wait(Some(("a", 1))).await;
    }
    second.expect_wait(Some(("a", 1))).await;
    advance_clock(Duration::from_secs(90)).await;
    let Resolution::Refused(reason) = second.request(Some(("a", 1))).await else { panic!("no refusal") };
    assert_eq!(reason, "Cinder returned no usable result within 30 minutes");
    // The next attempt waits anew, wherever it is made.
    second.expect_wait(Some(("a", 2))).await;
    first.expect_wait(Some(("a", 2))).await;
}

#[tokio::test]
async fn the_limit_of_resolutions_counts_over_all_instances() {
    let first_store = Arc::new(MemoryStore::default());
    let cinder = FakeCinder::with_limits(Duration::from_millis(30), 64);
    let mut site = Site::with(cinder, None, Arc::clone(&first_store) as _);
    site.policy = Policy { resolutions: 2, ..site.policy };
    let mut site = MultiSite { site, instances: Vec::new() };
    for name in ["boot-1", "boot-2"] {
        site.add_instance(Arc::new(first_store.join()), name).await;
    }
    let records = site.site.records();
    let shared_out = async {
        loop {
            let shares = records.read_turns().await.expect("the store is readable").shares;
            if shares.len() == 2 && shares.values().map(|share| share.turns).sum::<usize>() <= 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, shared_out).await.expect("the turns are shared out");
    let mut boots = Vec::new();
    for number in 0..12 {
        let volume = format!("volume-{number}");
        site.site.cinder.add_volume(&volume, |_| {});
        let machine = site.site.add_machine(&format!("web-{number}"), &[&volume]).await;
        let machine = site.at(number % 2, &machine);
        boots.push(tokio::spawn(async move { machine.boot_quickly("a").await }));
    }
    for boot in boots {
        assert_eq!(boot.await.expect("the boot does not panic"), [ConnectionSource::Cinder]);
    }
    assert_eq!(site.site.cinder.max_concurrent_calls(), 2);
}

/// A killed instance keeps its session for a while, and confirms nothing.
#[tokio::test]
async fn a_dead_instance_does_not_keep_its_turns() {
    let shared = Arc::new(MemoryStore::default());
    let mut site = Site::with(FakeCinder::start(), None, Arc::clone(&shared) as _);
    site.policy = Policy { resolutions: 2, ..site.policy };
    let mut site = MultiSite { site, instances: Vec::new() };
    let dead = shared.join();
    dead.cluster().announce("boot-1", Vec::new()).await.expect("the session is alive");
    let session = dead.cluster().instances().await.expect("lists").remove(0).session;
    let records = site.site.records();
    let mut turns = records.read_turns().await.expect("the store is readable");
    turns.shares.insert(session, TurnShare { turns: 2, queued: 5, ..TurnShare::default() });
    assert!(records.write_turns(&turns).await.expect("the store is writable"));
    site.add_instance(Arc::new(shared.join()), "boot-2").await;
    let has_shared = async {
        while records.read_turns().await.expect("the store is readable").shares.len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, has_shared).await.expect("the turns are shared out");
    site.site.cinder.add_volume("root", |_| {});
    let machine = site.site.add_machine("web-1", &["root"]).await;
    let started_at = Instant::now();
    assert_eq!(site.at(0, &machine).boot_quickly("a").await, [ConnectionSource::Cinder]);
    assert!(started_at.elapsed() > Duration::from_secs(1), "it waited for a confirmation");
}

#[tokio::test]
async fn a_write_after_the_end_of_the_claim_is_refused_and_detaching_is_final() {
    let site = MultiSite::open(2).await;
    site.site.cinder.add_volume("root", |_| {});
    let machine = site.site.add_machine("web-1", &["root"]).await;
    site.at(0, &machine).boot_quickly("a").await;
    let record = site.site.record(&machine).await;
    let store = Arc::clone(&site.instances[0].store);
    let claim = store.cluster().claim("a test", b"").await.expect("the session is alive").expect("free");
    let records = Attachments::new(Arc::clone(&store) as _).fenced(claim.id());
    let detach = |record: &mut Attachment| record.state = AttachmentState::Detaching;
    store.end_session();
    let refused = records.change(&record, detach).await;
    assert!(matches!(refused, Err(AttachmentWriteError::ClaimEnded(_))), "{refused:?}");
    assert_eq!(site.site.record(&machine).await.state, AttachmentState::Attached);

    // The reconcilers wait for Cinder.
    site.site.cinder.inject_fault(Operation::Delete, Fault::Status(503), usize::MAX);
    let records = site.site.records();
    records.change(&record, detach).await.expect("the record is changed");
    let attach = |record: &mut Attachment| record.state = AttachmentState::Attached;
    let changed = records.change(&record, attach).await.expect("the change does not fail");
    assert_eq!(changed.expect("the record exists").state, AttachmentState::Detaching);
}
