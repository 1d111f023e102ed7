//! 4, 5, 6, 7: etcd fails for one instance or for all, in the middle of boots.

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use volboot::store::Store as _;

use crate::appliance::{Appliance, ApplianceOptions, Enrolled, LONG, Site};
use crate::etcd::{Etcd, Options};
use crate::fake_cinder::{Fault, Operation};
use crate::processes::Process;
use crate::proxy::Link;
use crate::{run_within, wait_until};

const UP: Link = Link::Up(Duration::ZERO);
/// The limit of a test.
const LIMIT: Duration = Duration::from_secs(250);

/// The calls that change something in Cinder.
fn changes(calls: &[Operation]) -> Vec<Operation> {
    let changes = [Operation::Reserve, Operation::Export, Operation::Complete, Operation::Delete];
    calls.iter().copied().filter(|call| changes.contains(call)).collect()
}

/// Boots a machine, which reports that it has connected to its volume.
async fn boot_and_report(enrolled: &mut Enrolled, at: &Appliance) {
    enrolled.machine.switch_off();
    enrolled.machine.boot(&[at], LONG).await;
    enrolled.machine.report(at.http(), "hooked").await;
}

/// Waits until the attachment's record names the card of the last boot.
async fn wait_for_card(site: &Site, enrolled: &Enrolled) {
    wait_until(LONG, "the card is recorded", async || {
        site.records_of(&enrolled.volume).await.iter().all(|record| record.hooked_by.is_some())
    })
    .await;
}

/// 4: the leader is killed, stopped and cut off while machines boot at three instances.
#[test]
fn machines_boot_while_the_leader_fails() {
    run_within(LIMIT, Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let instances = [site.start("boot-1").await, site.start("boot-2").await, site.start("boot-3").await];
        let mut booted = Vec::new();
        for fault in ["killed", "stopped", "cut off"] {
            let mut boots = Vec::new();
            for number in 0..6 {
                boots.push((number, site.enroll(&instances[number % 3]).await));
            }
            let leader = site.etcd.leader();
            let booting = futures_util::future::join_all(boots.iter_mut().map(async |(number, enrolled)| {
                // Some boots are under way, others begin during the election.
                tokio::time::sleep(Duration::from_millis(*number as u64 * 150)).await;
                let at: Vec<_> = instances.iter().cycle().skip(*number % 3).take(3).collect();
                enrolled.machine.boot(&at, LONG).await;
            }));
            let breaking = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                match fault {
                    "killed" => site.etcd.signal(leader, Signal::SIGKILL),
                    "stopped" => site.etcd.signal(leader, Signal::SIGSTOP),
                    _ => site.etcd.isolate(leader),
                }
            };
            tokio::join!(booting, breaking);
            match fault {
                "killed" => {
                    site.etcd.kill(leader);
                    site.etcd.restart(leader);
                }
                "stopped" => site.etcd.signal(leader, Signal::SIGCONT),
                _ => site.etcd.rejoin(leader),
            }
            booted.extend(boots.into_iter().map(|(_, enrolled)| (fault, enrolled)));
        }
        // An export without a known outcome is looked at again after two minutes.
        for (fault, enrolled) in &booted {
            site.expect_consistent(&enrolled.volume, 1, LIMIT, &format!("leader {fault}")).await;
        }
    });
}

/// 4: after each write of a boot, the answer of etcd is lost: the outcome is read back, and nothing is done twice.
#[test]
fn a_write_without_an_answer_is_read_back() {
    run_within(LIMIT, Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let a = site.start("boot-1").await;
        for write in 1..=5 {
            let mut enrolled = site.enroll(&a).await;
            site.cinder.take_calls();
            a.etcd.stop_after_write(&format!("\"volume\":\"{}\"", enrolled.volume), write);
            let at = [&a];
            let boot = enrolled.machine.boot(&at, LONG);
            let losing = async {
                tokio::time::timeout(LONG, a.etcd.wait_for_write()).await.expect("the write comes");
                a.etcd.set_link(Link::Closed);
                tokio::time::sleep(Duration::from_millis(300)).await;
                a.etcd.set_link(UP);
            };
            tokio::join!(boot, losing);
            let calls = site.cinder.take_calls();
            let reservations = calls.iter().filter(|call| **call == Operation::Reserve).count();
            assert_eq!(reservations, 1, "write {write}: {calls:?}");
            site.expect_consistent(&enrolled.volume, 1, LIMIT, &format!("write {write}")).await;
            a.wait_for_readiness(true).await;
        }
    });
}

/// 5 and 6: what an instance does that reaches no quorum.
async fn expect_no_work_without_a_quorum(
    site: &mut Site,
    a: &Appliance,
    b: &Appliance,
    lose: impl Fn(&Site),
    restore: impl Fn(&Site),
) {
    let (mut known, mut moved) = (site.enroll(b).await, site.enroll(b).await);
    let mut fresh = site.enroll(b).await;
    boot_and_report(&mut known, a).await;
    boot_and_report(&mut moved, a).await;
    wait_for_card(site, &known).await;
    wait_for_card(site, &moved).await;
    a.wait_for_readiness(true).await;
    lose(site);
    a.wait_for_readiness(false).await;
    // Meanwhile, the volume moves to another node, which boots from it.
    let deleted = b.call("DELETE", &format!("/v1/nodes/{}", moved.node), &Value::Null).await;
    assert_eq!(deleted.0, 204, "{deleted:?}");
    let available = async || site.cinder.status(&moved.volume) == "available";
    wait_until(LONG, "the volume is detached", available).await;
    let mut owner = site.enroll_volume(b, &moved.volume).await;
    owner.machine.boot(&[b], LONG).await;
    site.cinder.take_calls();
    // A machine whose attachment Cinder confirms boots from the mirror. The others wait.
    known.machine.switch_off();
    let script = known.machine.boot(&[a], LONG).await;
    assert!(script.contains("sanhook"), "{script}");
    moved.machine.switch_off();
    moved.machine.expect_wait(a, "the store does not respond", LONG).await;
    fresh.machine.expect_wait(a, "the store does not respond", LONG).await;
    let (status, body) = a.call("DELETE", &format!("/v1/nodes/{}", known.node), &Value::Null).await;
    assert_eq!(status, 503, "{body}");
    // Without Cinder, nothing confirms the records.
    site.cinder.inject_faults(Fault::Status(503));
    known.machine.switch_off();
    known.machine.expect_wait(a, "the store does not respond", LONG).await;
    site.cinder.clear_faults();
    assert_eq!(changes(&site.cinder.take_calls()), [], "nothing is changed without a quorum");
    restore(site);
    a.wait_for_readiness(true).await;
    fresh.machine.boot(&[a], LONG).await;
    boot_and_report(&mut known, a).await;
    owner.machine.switch_off();
    owner.machine.boot(&[a, b], LONG).await;
    for enrolled in [&known, &fresh, &owner] {
        site.expect_consistent(&enrolled.volume, 1, LIMIT, "after the outage").await;
    }
}

#[test]
fn an_instance_cut_off_from_etcd_boots_only_what_cinder_confirms() {
    run_within(LIMIT, Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let (a, b) = (site.start("boot-1").await, site.start("boot-2").await);
        for link in [Link::Silent, Link::OneWay] {
            let lose = |_: &Site| a.etcd.set_link(link);
            let restore = |_: &Site| a.etcd.set_link(UP);
            expect_no_work_without_a_quorum(&mut site, &a, &b, lose, restore).await;
        }
    });
}

#[test]
fn an_instance_that_reaches_a_minority_alone_is_cut_off() {
    run_within(LIMIT, Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let options = ApplianceOptions { members: vec![0], ..ApplianceOptions::default() };
        let a = site.start_with("boot-1", options).await;
        let b = site.start("boot-2").await;
        let lose = |site: &Site| site.etcd.isolate(0);
        let restore = |site: &Site| site.etcd.rejoin(0);
        expect_no_work_without_a_quorum(&mut site, &a, &b, lose, restore).await;
    });
}

/// Delays each sync of a member's files.
fn slow_down(etcd: &Etcd, member: usize) -> Process {
    let mut command = Command::new("strace");
    let process = etcd.process_id(member).to_string();
    command.args(["--quiet=all", "-f", "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=500000"]);
    Process::start(command.args(["-o", "/dev/null", "-p", &process]), Stdio::null())
}

/// The session of an instance; `None` while it has none.
async fn session_of(site: &Site, appliance: &Appliance) -> Option<String> {
    let instances = site.store.cluster().instances().await.expect("reads");
    instances.into_iter().find(|instance| instance.name == appliance.name).map(|instance| instance.session)
}

/// 7: each sync of etcd's files takes half a second, at the leader, then at all members.
#[test]
fn machines_boot_while_etcd_is_slow() {
    run_within(2 * LIMIT, Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        // With the session of the product: the tests' own ends sooner than such a write.
        let session = Duration::from_secs(10);
        let a = site.start_with("boot-1", ApplianceOptions { session, ..ApplianceOptions::default() }).await;
        let mut first = site.enroll(&a).await;
        let mut second = site.enroll(&a).await;
        for enrolled in [&mut first, &mut second] {
            boot_and_report(enrolled, &a).await;
            wait_for_card(&site, enrolled).await;
        }
        for members in [vec![site.etcd.leader()], vec![0, 1, 2]] {
            let session = session_of(&site, &a).await;
            let unanswered = first.machine.unanswered + second.machine.unanswered;
            let slow: Vec<_> = members.iter().map(|member| slow_down(&site.etcd, *member)).collect();
            site.cinder.take_calls();
            let mut late = 0;
            for enrolled in [&mut first, &mut second] {
                enrolled.machine.switch_off();
                let asked_at = tokio::time::Instant::now();
                // Through etcd, or from the mirror if a barrier takes too long.
                let script = enrolled.machine.boot(&[&a], 2 * LONG).await;
                let message = script.lines().find(|line| line.contains("from the last known"));
                late += usize::from(message.is_some_and(|message| message.contains("Cinder is unavailable")));
                eprintln!("slow members {members:?}: {message:?} after {:?}", asked_at.elapsed());
            }
            // At most one export for each boot: no call is repeated because a write is slow. On a busy host, a machine or
            // volboot that got no response in time asks again, and an instance that lost its session begins anew.
            let unanswered = first.machine.unanswered + second.machine.unanswered - unanswered;
            let calls = site.cinder.take_calls();
            drop(slow);
            a.wait_for_readiness(true).await;
            let exports = calls.iter().filter(|call| **call == Operation::Export).count();
            if session_of(&site, &a).await == session {
                let allowed = 2 + unanswered + late;
                assert!(exports <= allowed, "{unanswered} and {late} without a response: {calls:?}");
            } else {
                eprintln!("slow members {members:?}: the session was lost; {exports} exports");
            }
            // An export without a known outcome is looked at again after two minutes.
            for enrolled in [&first, &second] {
                site.expect_consistent(&enrolled.volume, 1, LIMIT, &format!("slow: {members:?}")).await;
            }
        }
    });
}
