//! 3: an instance is suspended through its session while a request to Cinder is on its way, and wakes up.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::appliance::{Appliance, Enrolled, LONG, Site};
use crate::cinder_proxy::{Call, Moment, Stop};
use crate::etcd::Options;
use crate::{run_within, wait_until};

/// The time after which a request to Cinder without a response no longer takes effect.
const LATE_REQUEST: Duration = Duration::from_secs(120);
const LIMIT: Duration = Duration::from_secs(280);

/// Sends the boot request to the instance, which is suspended at this call.
async fn suspend_at(instance: &Appliance, enrolled: &mut Enrolled, call: Call, moment: Moment) {
    let (signal, process) = (Signal::SIGSTOP, instance.pid());
    instance.cinder.stop_at(Stop { call, moment, signal, process });
    tokio::select! {
        answer = enrolled.machine.ask(instance.http()) => panic!("{call:?}: {answer:?}"),
        stopped = tokio::time::timeout(LONG, instance.cinder.wait_for_stop()) => {
            stopped.unwrap_or_else(|_| panic!("{call:?} does not come"));
        }
    }
}

#[test]
fn a_woken_instance_writes_nothing_and_its_late_request_is_repaired() {
    run_within(LIMIT, Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let (a, b) = (site.start("boot-1").await, site.start("boot-2").await);
        // The response to the reservation arrives after another instance has adopted the attachment.
        let mut reserved = site.enroll(&b).await;
        suspend_at(&a, &mut reserved, Call::Reserve, Moment::After).await;
        reserved.machine.boot(&[&b], LONG).await;
        let id = site.records_of(&reserved.volume).await.remove(0).cinder_id;
        a.signal(Signal::SIGCONT);
        a.wait_for_readiness(true).await;
        assert_eq!(site.records_of(&reserved.volume).await.remove(0).cinder_id, id);
        site.expect_consistent(&reserved.volume, 1, LONG, "reserved").await;
        // The export of the suspended instance arrives after that of its successor.
        let mut exported = site.enroll(&b).await;
        suspend_at(&a, &mut exported, Call::Export, Moment::Late(Duration::from_secs(12))).await;
        exported.machine.boot(&[&b], Duration::from_secs(10)).await;
        assert_eq!(site.cinder.status(&exported.volume), "in-use");
        wait_until(LONG, "the late export arrives", async || {
            site.cinder.status(&exported.volume) == "attaching"
        })
        .await;
        a.signal(Signal::SIGCONT);
        a.wait_for_readiness(true).await;
        let record = site.records_of(&exported.volume).await.remove(0);
        assert!(record.superseded_export, "somebody looks again: {record:?}");
        site.expect_consistent(&exported.volume, 1, LATE_REQUEST + LONG, "after the late export").await;
        // Both instances go on.
        for instance in [&a, &b] {
            exported.machine.switch_off();
            exported.machine.boot(&[instance], LONG).await;
        }
        site.expect_consistent(&exported.volume, 1, LATE_REQUEST + LONG, "after later boots").await;
    });
}
