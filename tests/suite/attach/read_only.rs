//! A read-only store: nothing changes in Cinder, and a node boots only from a connection that Cinder confirms.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use volboot::attach::{Resolution, VolumeRequest};
use volboot::model::{AttachmentState, ConnectionSource, Node};
use volboot::store::{
    Batch, InterceptedStore, Interceptor, MemoryStore, Revision, Store as _, StoreAccess, StoreError,
    StoreFuture, WriteError,
};

use super::{Site, TestMachine, wait_until};
use crate::fake_cinder::{Fault, Operation};

const FULL: &str = "cannot write volboot.redb: No space left on device";
const WAIT: &str = "the store is read-only, so volboot attaches no volume (cannot write volboot.redb: No space left on device); ";

/// A store in memory with a disk that fills up at a chosen write.
pub(super) type FillingStore = InterceptedStore<Disk>;

/// The disk of a store.
#[derive(Debug, Default)]
pub(super) struct Disk(Mutex<DiskState>);

#[derive(Debug, Default)]
struct DiskState {
    /// The writes until the disk is full. `None`: it never is.
    remaining: Option<usize>,
    /// Whether a write was refused.
    is_read_only: bool,
}

impl Disk {
    /// Lets this many further writes succeed. The next one makes the store read-only.
    fn fill_after(&self, writes: usize) {
        *self.0.lock() = DiskState { remaining: Some(writes), is_read_only: false };
    }

    /// Makes the store read-only.
    fn fill(&self) {
        *self.0.lock() = DiskState { remaining: Some(0), is_read_only: true };
    }

    fn free(&self) {
        *self.0.lock() = DiskState::default();
    }
}

impl Interceptor for Disk {
    fn write<'a>(&'a self, store: &'a MemoryStore, batch: Batch) -> StoreFuture<'a, Revision, WriteError> {
        let mut disk = self.0.lock();
        match &mut disk.remaining {
            Some(0) => {
                disk.is_read_only = true;
                return Box::pin(async { Err(StoreError::ReadOnly(FULL.into()).into()) });
            }
            Some(remaining) => *remaining -= 1,
            None => {}
        }
        drop(disk);
        store.write(batch)
    }

    fn access(&self, _: &MemoryStore) -> StoreAccess {
        if self.0.lock().is_read_only { StoreAccess::ReadOnly(FULL.into()) } else { StoreAccess::ReadWrite }
    }
}

/// A site with an attached volume `root`, its machine, and its store.
async fn attached() -> (Site, TestMachine, Arc<FillingStore>) {
    let store = Arc::<FillingStore>::default();
    let site = Site::with_store(Arc::clone(&store) as _);
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    machine.boot(Some(("a", 1))).await;
    site.cinder.take_calls();
    (site, machine, store)
}

/// Whether a call changes Cinder.
fn is_change(operation: Operation) -> bool {
    match operation {
        Operation::Reserve | Operation::Export | Operation::Complete | Operation::Delete => true,
        Operation::Ping | Operation::Volume | Operation::List | Operation::Show => false,
    }
}

#[tokio::test]
async fn an_attached_node_boots_after_one_read_of_its_attachment() {
    let (site, machine, store) = attached().await;
    store.interceptor.fill();
    for journey in ["b", "c"] {
        let volumes = machine.boot(Some((journey, 1))).await;
        assert_eq!(volumes[0].1, "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:volume-root");
        let ConnectionSource::Confirmed { store, .. } = &volumes[0].2 else { panic!("{:?}", volumes[0].2) };
        assert_eq!(store, FULL);
        assert_eq!(site.cinder.take_calls(), [Operation::Show]);
    }
    let initiator = machine.connectors[0].connector_id.parse().expect("a valid initiator name");
    let (node, connectors, targets) = (&machine.node, &machine.connectors[..], &machine.targets[..]);
    let request = VolumeRequest {
        node,
        initiator: &initiator,
        connectors,
        targets,
        journey: None,
        card: None,
        store_outage: None,
    };
    assert!(
        matches!(machine.attach.preview(request).await, Resolution::Ready(_)),
        "the preview predicts the boot"
    );
    site.cinder.take_calls();

    store.interceptor.free();
    let volumes = machine.boot(Some(("d", 1))).await;
    assert_eq!(volumes[0].2, ConnectionSource::Cinder);
}

#[tokio::test]
async fn a_node_waits_with_the_reason_unless_cinder_shows_its_attachment() {
    let (site, machine, store) = attached().await;
    let new = site.add_machine("new", &["data"]).await;
    site.cinder.add_volume("data", |_| {});
    store.interceptor.fill();
    let reason = new.expect_wait(None).await;
    assert_eq!(reason, format!("{WAIT}volume data has no last known connection"));
    assert!(site.cinder.take_calls().is_empty());

    site.cinder.inject_fault(Operation::Show, Fault::Status(503), 1);
    let reason = machine.expect_wait(None).await;
    assert_eq!(reason, format!("{WAIT}Cinder is unavailable: Cinder returned 503 Service Unavailable"));
    site.cinder.inject_fault(Operation::Show, Fault::Status(403), 1);
    let reason = machine.expect_wait(None).await;
    assert!(
        reason.starts_with(&format!("{WAIT}Cinder does not show the attachment of volume root: ")),
        "{reason}"
    );

    let (id, _) = site.cinder.attachments("root").remove(0);
    site.cinder.detach_by_hand(&id);
    let reason = machine.expect_wait(None).await;
    assert_eq!(reason, format!("{WAIT}Cinder no longer has the attachment of volume root"));
    assert!(!site.cinder.take_calls().into_iter().any(is_change));
}

/// The machine, and further ones with a volume each, all attached; the store is read-only.
async fn many_attached(count: usize) -> (Site, Vec<TestMachine>) {
    let (site, machine, store) = attached().await;
    let mut machines = vec![machine];
    for number in 1..count {
        let volume = format!("root-{number}");
        site.cinder.add_volume(&volume, |_| {});
        let machine = site.add_machine(&format!("web-{number}-1"), &[&volume]).await;
        machine.boot(Some(("a", 1))).await;
        machines.push(machine);
    }
    store.interceptor.fill();
    site.cinder.take_calls();
    (site, machines)
}

#[tokio::test]
async fn many_boots_at_once_do_not_count_as_silence_of_cinder() {
    let (site, machines) = many_attached(96).await;
    // Sixteen at a time: the last ones would have to wait for more than five seconds.
    site.cinder.inject_fault(Operation::Show, Fault::Slow(Duration::from_millis(1200)), usize::MAX);
    let requests = machines.iter().map(|machine| machine.request(None));
    let (mut ready, mut busy) = (0, 0);
    for resolution in futures_util::future::join_all(requests).await {
        match resolution {
            Resolution::Ready(_) => ready += 1,
            Resolution::Wait { reason, .. } => {
                assert_eq!(reason, format!("{WAIT}16 other requests to Cinder are in progress"));
                busy += 1;
            }
            Resolution::Refused(reason) => panic!("refused: {reason}"),
        }
    }
    assert!(ready >= 16 && busy >= 16, "{ready} ready, {busy} busy");
}

#[tokio::test]
async fn previews_do_not_delay_a_boot() {
    let (site, machines) = many_attached(17).await;
    site.cinder.inject_fault(Operation::Show, Fault::Hang, 16);
    let previews = machines[1..].iter().map(|machine| {
        let initiator = machine.connectors[0].connector_id.parse().expect("a valid initiator name");
        async move {
            let (node, connectors, targets) = (&machine.node, &machine.connectors[..], &machine.targets[..]);
            let request = VolumeRequest {
                node,
                initiator: &initiator,
                connectors,
                targets,
                journey: None,
                card: None,
                store_outage: None,
            };
            machine.attach.preview(request).await
        }
    });
    let boot = async {
        let mut calls = 0;
        let mut have_arrived = || {
            calls += site.cinder.take_calls().len();
            calls >= 16
        };
        wait_until("all previews wait for Cinder", &mut have_arrived).await;
        machines[0].request(None).await
    };
    tokio::select! {
        biased;
        resolution = futures_util::future::select_all(previews.map(Box::pin)) => {
            panic!("a preview has ended first: {:?}", resolution.0)
        }
        resolution = boot => assert!(matches!(resolution, Resolution::Ready(_)), "{resolution:?}"),
    }
}

#[tokio::test]
async fn an_export_without_a_record_is_not_booted_from() {
    let (site, machine, store) = attached().await;
    // The export takes effect with another portal, and its record does not fit on the disk: begin_export is written.
    site.cinder.move_portal("192.0.2.99:3260");
    store.interceptor.fill_after(1);
    let reason = machine.expect_wait(Some(("b", 1))).await;
    assert!(reason.contains("the store is read-only"), "{reason}");
    assert!(site.cinder.take_calls().contains(&Operation::Export));
    let reason = machine.expect_wait(Some(("b", 1))).await;
    assert_eq!(reason, format!("{WAIT}Cinder shows the attachment of volume root in state \"attaching\""));
    assert!(!site.cinder.take_calls().into_iter().any(is_change));

    store.interceptor.free();
    let volumes = machine.boot(Some(("c", 1))).await;
    assert!(volumes[0].1.contains("192.0.2.99"), "{volumes:?}");
}

#[tokio::test]
async fn a_disk_that_fills_up_at_any_record_stops_the_calls_and_loses_no_attachment() {
    for writes in 0..8 {
        let store = Arc::<FillingStore>::default();
        let site = Site::with_store(Arc::clone(&store) as _);
        site.cinder.add_volume("root", |_| {});
        let machine = site.add_machine("web-1", &["root"]).await;
        store.interceptor.fill_after(writes);
        let is_done = matches!(machine.request(Some(("a", 1))).await, Resolution::Ready(_));
        site.cinder.take_calls();
        for _ in 0..2 {
            let _ = machine.request(Some(("a", 1))).await;
        }
        let calls = site.cinder.take_calls();
        assert!(is_done || !calls.iter().copied().any(is_change), "{writes} writes: {calls:?}");

        store.interceptor.free();
        machine.boot(Some(("b", 1))).await;
        assert_eq!(site.cinder.attachments("root").len(), 1, "{writes} writes");
        if is_done {
            assert!(writes >= 4, "{writes} writes");
            return;
        }
    }
    panic!("the attachment never succeeds");
}

#[tokio::test]
async fn the_reconciler_detaches_once_the_store_is_writable() {
    let (mut site, machine, store) = attached().await;
    site.inventory.delete(machine.node.uuid, |_: &Node, _| Ok::<_, ()>(())).await.expect("is deleted");
    assert_eq!(site.record(&machine).await.state, AttachmentState::Detaching);
    store.interceptor.fill();
    site.start_reconciler();
    // Long enough for a detachment, which takes a few milliseconds.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!site.cinder.take_calls().into_iter().any(is_change));
    store.interceptor.free();
    wait_until("the volume is detached", || site.cinder.attachments("root").is_empty()).await;
}
