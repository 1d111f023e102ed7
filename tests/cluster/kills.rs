//! 1: an instance is killed at each point of an attachment; another one finishes its work.
//!
//! Cinder's proxy kills at a call, and etcd's proxy shows that a record is written. The windows are those of the
//! product: a create request without a response may take effect for 120 s, so a part of these tests takes so long.

use std::time::Duration;

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::Instant;
use volboot::store::{ChangeSet, Store};

use crate::appliance::{Appliance, Enrolled, LONG, Site};
use crate::cinder_proxy::{Call, Moment, Stop};
use crate::etcd::Options;
use crate::run_within;

/// The limit of a takeover, beside the time in which a lost request may take effect.
const TAKEOVER: Duration = Duration::from_secs(40);
/// The time in which a lost request may take effect.
const LATE_REQUEST: Duration = Duration::from_secs(120);
/// The delay of a request that outlives its sender.
const LATE: Moment = Moment::Late(Duration::from_secs(3));
/// Instances that are killed at a time: each start takes the processor for a second.
const VICTIMS: usize = 6;
/// The longest time of a test.
const LIMIT: Duration = Duration::from_secs(280);

/// Where an instance is killed.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// After this write of the attachment's record, counted from 1; the instance does not know yet that it is written.
    Written(usize),
    At(Call, Moment),
}

/// The points of a first boot. A call that is sent arrives after the kill.
const FIRST_BOOT: [Point; 12] = [
    Point::At(Call::List, Moment::After),
    Point::Written(1),
    Point::At(Call::Reserve, LATE),
    Point::At(Call::Reserve, Moment::After),
    Point::Written(2),
    Point::Written(3),
    Point::At(Call::Export, LATE),
    Point::At(Call::Export, Moment::After),
    Point::Written(4),
    Point::At(Call::Complete, LATE),
    Point::At(Call::Complete, Moment::After),
    Point::Written(5),
];

const LATER_BOOT: [Point; 7] = [
    Point::Written(1),
    Point::At(Call::Export, LATE),
    Point::At(Call::Export, Moment::After),
    Point::Written(2),
    Point::At(Call::Complete, LATE),
    Point::At(Call::Complete, Moment::After),
    Point::Written(3),
];

/// A machine's boot, and its victim.
struct Attempt {
    enrolled: Enrolled,
    victim: Appliance,
    point: Point,
}

/// The writes of a node's attachment record after a revision.
async fn count_writes(site: &Site, node: &str, after: u64) -> usize {
    match site.store.changes(after, 10_000).await {
        Ok(ChangeSet::Since(changes)) => {
            let of_node = |key: &str| key.starts_with(&format!("attachment/{node}/"));
            changes.iter().filter(|change| of_node(&change.key)).count()
        }
        Ok(ChangeSet::Compacted(_)) => panic!("nobody compacts"),
        Err(_) => 0,
    }
}

/// Sends the boot request to the victim, and kills it at the point.
async fn kill_at(site: &Site, attempt: &mut Attempt, after: u64) {
    let Attempt { enrolled, victim, point } = attempt;
    match point {
        Point::At(call, moment) => {
            let (signal, process) = (Signal::SIGKILL, victim.pid());
            victim.cinder.stop_at(Stop { call: *call, moment: *moment, signal, process });
        }
        Point::Written(count) => {
            victim.etcd.stop_after_write(&format!("\"volume\":\"{}\"", enrolled.volume), *count);
        }
    }
    let stopped = async {
        match point {
            Point::At(..) => victim.cinder.wait_for_stop().await,
            Point::Written(count) => {
                victim.etcd.wait_for_write().await;
                let deadline = Instant::now() + LONG;
                while count_writes(site, &enrolled.node, after).await < *count {
                    assert!(Instant::now() < deadline, "write {count} does not come");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                victim.signal(Signal::SIGKILL);
            }
        }
    };
    let asked = enrolled.machine.ask(victim.http());
    let stopped = tokio::time::timeout(LONG, stopped);
    let (answer, stopped) = tokio::join!(asked, stopped);
    stopped.unwrap_or_else(|_| panic!("{point:?} does not come: {answer:?}"));
    victim.kill();
}

/// Kills an instance per point, and lets the survivors finish. `boots_before`: the machine has booted before.
async fn finish_after_kills(
    points: &[Point],
    multiattach: bool,
    boots_before: bool,
    etcd: crate::etcd::Etcd,
) {
    let mut site = Site::open(etcd).await;
    let survivors = [site.start("boot-1").await, site.start("boot-2").await];
    let survivors: Vec<&Appliance> = survivors.iter().collect();
    let mut finished = Vec::new();
    for chunk in points.chunks(VICTIMS) {
        let mut attempts = Vec::new();
        for point in chunk {
            let mut enrolled = site.enroll_with(survivors[0], multiattach).await;
            if boots_before {
                enrolled.machine.boot(&survivors, LONG).await;
                enrolled.machine.switch_off();
            }
            let name = format!("victim-{}", finished.len() + attempts.len());
            let victim = site.start(&name).await;
            attempts.push(Attempt { enrolled, victim, point: *point });
        }
        let latest = latest_revision(&site).await;
        join_all(attempts.iter_mut().map(|attempt| kill_at(&site, attempt, latest))).await;
        let killed_at = Instant::now();
        finished.extend(attempts.into_iter().map(|attempt| (attempt, killed_at)));
    }
    // A machine of the first victims has waited for the last ones.
    let limit = if multiattach { TAKEOVER + LATE_REQUEST } else { TAKEOVER };
    let takeovers = finished.iter_mut().map(async |(attempt, killed_at)| {
        attempt.enrolled.machine.boot(&survivors, limit).await;
        eprintln!("{:?}: up {:?} after the kill", attempt.point, killed_at.elapsed());
    });
    join_all(takeovers).await;
    for (attempt, _) in &finished {
        let context = format!("{:?}, multiattach {multiattach}", attempt.point);
        let limit = TAKEOVER + LATE_REQUEST;
        site.expect_consistent(&attempt.enrolled.volume, 1, limit, &context).await;
    }
}

async fn latest_revision(site: &Site) -> u64 {
    // A barrier, so that the mirror is current.
    let _ = site.store.list("attachment/", None, 1).await.expect("reads");
    site.store.wait_for_change(0).await.expect("has records")
}

#[test]
fn another_instance_finishes_the_first_boot_of_a_killed_one() {
    run_within(LIMIT, Options::default(), |etcd| finish_after_kills(&FIRST_BOOT, false, false, etcd));
}

#[test]
fn another_instance_finishes_the_first_boot_from_a_multiattachable_volume() {
    run_within(LIMIT, Options::default(), |etcd| finish_after_kills(&FIRST_BOOT, true, false, etcd));
}

#[test]
fn another_instance_finishes_a_later_boot_of_a_killed_one() {
    run_within(LIMIT, Options::default(), |etcd| finish_after_kills(&LATER_BOOT, false, true, etcd));
}

/// Each instance is killed during a detachment, which the next one finishes.
#[test]
fn the_next_instance_finishes_a_detachment() {
    run_within(LIMIT, Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let mut instance = site.start("boot-0").await;
        for (number, moment) in [Moment::Before, LATE, Moment::After].into_iter().enumerate() {
            let mut enrolled = site.enroll(&instance).await;
            enrolled.machine.boot(&[&instance], LONG).await;
            let (signal, process) = (Signal::SIGKILL, instance.pid());
            instance.cinder.stop_at(Stop { call: Call::Delete, moment, signal, process });
            let path = format!("/v1/nodes/{}", enrolled.node);
            let (status, body) = instance.call("DELETE", &path, &Value::Null).await;
            assert_eq!(status, 204, "{body}");
            let stopped = tokio::time::timeout(LONG, instance.cinder.wait_for_stop()).await;
            stopped.unwrap_or_else(|_| panic!("{moment:?}: nothing is detached"));
            instance.kill();
            instance = site.start(&format!("boot-{}", number + 1)).await;
            site.expect_consistent(&enrolled.volume, 0, TAKEOVER, &format!("{moment:?}")).await;
            assert_eq!(site.cinder.status(&enrolled.volume), "available", "{moment:?}");
        }
    });
}
