//! An instance is killed at each point of an attachment; another one finishes its work.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};
use volboot::model::VolumeTarget;
use volboot::store::Store;

use super::halting_store::halting_store;
use super::instances::{MultiSite, WINDOWS};
use super::{LIMIT, TestMachine, attach_with_windows, wait_until};
use crate::fake_cinder::{Fault, Operation};

/// Where an instance is killed.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// After this write of the attachment's record, counted from 0.
    Written(usize),
    /// While the call is on its way to Cinder, which it never reaches.
    Sent(Operation),
    /// After the call took effect, before its response.
    Done(Operation),
}

/// The twelve points of an attachment: after each record that is written, before and after each call that is sent.
const FIRST_BOOT: [Point; 12] = [
    Point::Done(Operation::List),
    Point::Written(0),
    Point::Sent(Operation::Reserve),
    Point::Done(Operation::Reserve),
    Point::Written(1),
    Point::Written(2),
    Point::Sent(Operation::Export),
    Point::Done(Operation::Export),
    Point::Written(3),
    Point::Sent(Operation::Complete),
    Point::Done(Operation::Complete),
    Point::Written(4),
];

const LATER_BOOT: [Point; 7] = [
    Point::Written(0),
    Point::Sent(Operation::Export),
    Point::Done(Operation::Export),
    Point::Written(1),
    Point::Sent(Operation::Complete),
    Point::Done(Operation::Complete),
    Point::Written(2),
];

/// A boot request at an instance with tasks of its own, which dies at the point.
struct Victim {
    runtime: Option<Runtime>,
}

impl Drop for Victim {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Sends a boot request to a new instance, and kills the instance at the point.
async fn kill_at(site: &MultiSite, machine: &TestMachine, point: Point) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let session = Arc::new(site.instances[0].store.join());
    let halt_after = match point {
        Point::Written(writes) => Some(writes),
        Point::Sent(_) | Point::Done(_) => None,
    };
    let store = Arc::new(halting_store(Arc::clone(&session), halt_after));
    match point {
        Point::Written(_) => {}
        Point::Sent(operation) => site.site.cinder.inject_fault(operation, Fault::Hang, 1),
        Point::Done(operation) => site.site.cinder.inject_fault(operation, Fault::DoneButSilent, 1),
    }
    let attach = {
        let _context = runtime.enter();
        let store = Arc::clone(&store) as Arc<dyn Store>;
        attach_with_windows(&store, &site.site.cinder, site.site.policy, WINDOWS)
    };
    let victim = TestMachine { attach, ..site.at(0, machine) };
    site.site.cinder.take_calls();
    runtime.spawn(async move { victim.boot_quickly("a").await });
    let victim = Victim { runtime: Some(runtime) };
    match point {
        Point::Written(_) => {
            let halted = tokio::time::timeout(LIMIT, store.interceptor.wait_until_halted()).await;
            halted.unwrap_or_else(|_| panic!("{point:?} does not come: {:?}", site.site.cinder.take_calls()));
        }
        Point::Sent(operation) | Point::Done(operation) => {
            let reaches = || site.site.cinder.take_calls().contains(&operation);
            wait_until(&format!("{operation:?} is called"), reaches).await;
            // The effect follows at once.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // The session ends first, so that the dying tasks cannot give the claim back.
    session.end_session();
    session.close().await.expect("the store is open");
    drop(victim);
    site.site.cinder.clear_faults();
}

async fn finish_first_boot(point: Point, multiattach: bool) {
    let site = MultiSite::open(1).await;
    site.site.cinder.add_volume("root", |volume| volume.multiattach = multiattach);
    let machine = site.site.add_machine("web-1", &["root"]).await;
    kill_at(&site, &machine, point).await;
    site.at(0, &machine).boot_quickly("a").await;
    site.expect_consistent("root", 1, &format!("{point:?}, multiattach {multiattach}")).await;
}

async fn finish_later_boot(point: Point) {
    let site = MultiSite::open(1).await;
    site.site.cinder.add_volume("root", |_| {});
    let machine = site.site.add_machine("web-1", &["root"]).await;
    site.at(0, &machine).boot_quickly("0").await;
    kill_at(&site, &machine, point).await;
    site.at(0, &machine).boot_quickly("a").await;
    site.expect_consistent("root", 1, &format!("{point:?}")).await;
}

async fn detach_after_kill(point: Point) {
    let site = MultiSite::open(1).await;
    site.site.cinder.add_volume("root", |_| {});
    let machine = site.site.add_machine("web-1", &["root"]).await;
    kill_at(&site, &machine, point).await;
    let target = machine.targets[0].uuid;
    let deleted = site.site.inventory.delete(target, |_: &VolumeTarget, _| Ok::<_, ()>(())).await;
    deleted.expect("the target is deleted");
    site.expect_consistent("root", 0, &format!("{point:?}")).await;
    assert_eq!(site.site.cinder.status("root"), "available", "{point:?}");
}

#[tokio::test]
async fn another_instance_finishes_the_first_boot_of_a_killed_one() {
    for multiattach in [false, true] {
        join_all(FIRST_BOOT.map(|point| finish_first_boot(point, multiattach))).await;
    }
}

#[tokio::test]
async fn another_instance_finishes_a_later_boot_of_a_killed_one() {
    join_all(LATER_BOOT.map(finish_later_boot)).await;
}

#[tokio::test]
async fn another_instance_detaches_what_a_killed_one_was_attaching() {
    join_all(FIRST_BOOT.map(detach_after_kill)).await;
}
