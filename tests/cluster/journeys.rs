//! Boots that begin at one instance and go on at others: one attachment, one timeline.

use std::time::Duration;

use serde_json::Value;

use crate::appliance::{ApplianceOptions, LONG, Site};
use crate::etcd::Options;
use crate::fake_cinder::{Fault, Operation};
use crate::machine::Script;
use crate::{run, wait_until};

/// The limit for an event to reach the other instances.
const JOINED: Duration = Duration::from_secs(2);

#[test]
fn a_boot_over_three_instances_is_one_story() {
    run(Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let (a, b, c) = (site.start("boot-1").await, site.start("boot-2").await, site.start("boot-3").await);
        wait_until(LONG, "each lists three instances", async || {
            let mut complete = true;
            for appliance in [&a, &b, &c] {
                let instances = appliance.get("/v1/appliance").await["instances"].clone();
                let answers = |instance: &Value| instance["answering"] == true;
                complete &= instances.as_array().is_some_and(|all| all.len() == 3 && all.iter().all(answers));
            }
            complete
        })
        .await;
        let mut enrolled = site.enroll(&a).await;
        enrolled.machine.begin(a.http()).await.expect("the first script");
        let script = enrolled.machine.boot(&[&b], LONG).await;
        assert!(script.contains("sanhook"), "{script}");
        enrolled.machine.report(c.http(), "hooked").await;
        let steps = ["boot-1", "boot-2", "boot-3"];
        for appliance in [&a, &b, &c] {
            wait_until(JOINED, "the timeline is whole", async || {
                let mut instances: Vec<_> = appliance
                    .timeline(&enrolled.mac)
                    .await
                    .into_iter()
                    .map(|(instance, _)| instance)
                    .collect();
                instances.dedup();
                instances == steps
            })
            .await;
            let status = appliance.command(&["status"]);
            for name in steps {
                assert!(status.contains(name), "{status}");
            }
            let shown = appliance.command(&["show", "web-1"]);
            assert!(steps.iter().all(|name| shown.contains(name)), "{shown}");
        }
        site.expect_consistent(&enrolled.volume, 1, LONG, "after the boot").await;
        // The next boot, elsewhere.
        enrolled.machine.switch_off();
        assert!(matches!(enrolled.machine.ask(c.http()).await, Ok(Script::Boot(_) | Script::Wait(_))));
        enrolled.machine.boot(&[&a, &b, &c], LONG).await;
        site.expect_consistent(&enrolled.volume, 1, LONG, "after the second boot").await;
    });
}

/// `[cinder] resolutions` limits all instances together, and a machine's place in the queue counts over all of them.
#[test]
fn the_queue_is_one_over_all_instances() {
    run(Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let options = || ApplianceOptions { resolutions: 1, ..ApplianceOptions::default() };
        let (mut a, b) =
            (site.start_with("boot-1", options()).await, site.start_with("boot-2", options()).await);
        wait_until(LONG, "the instances know one another", async || {
            let instances = a.get("/v1/appliance").await["instances"].clone();
            instances.as_array().is_some_and(|all| all.len() == 2)
        })
        .await;
        let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            at_a.push(site.enroll(&a).await);
        }
        for _ in 0..2 {
            at_b.push(site.enroll(&b).await);
        }
        // Each machine has the only turn for four seconds: one boots, two wait here, and two there.
        site.cinder.inject_fault(Operation::Export, Fault::LateResponse(Duration::from_secs(4)), 5);
        let asking = at_a.iter_mut().map(|one| (one, &a)).chain(at_b.iter_mut().map(|one| (one, &b)));
        let asked = futures_util::future::join_all(
            asking.map(async |(enrolled, at)| enrolled.machine.ask(at.http()).await.expect("a script")),
        );
        let listed = wait_until(LONG, "the queue is listed", async || {
            let instances = a.get("/v1/appliance").await["instances"].clone();
            let other = instances.as_array().expect("a list").iter().find(|one| one["name"] == "boot-2");
            other.is_some_and(|other| other["queue_length"].as_u64().is_some_and(|length| length > 0))
                && a.command(&["status"]).contains(" boot requests wait for Cinder")
        });
        let (scripts, ()) = tokio::join!(asked, listed);
        let places: Vec<_> = scripts
            .iter()
            .filter_map(|script| match script {
                Script::Wait(reason) => reason.split_once("queued at position ")?.1.parse::<usize>().ok(),
                Script::Boot(_) | Script::Refusal(_) => None,
            })
            .collect();
        // At most two of them wait at one instance.
        assert!(places.iter().any(|place| *place >= 3), "{scripts:?}");
        for enrolled in at_a.iter_mut().chain(&mut at_b) {
            enrolled.machine.boot(&[&a, &b], LONG).await;
            site.expect_consistent(&enrolled.volume, 1, LONG, "after the queue").await;
        }
        // The turn of a killed instance is free at the end of its session.
        let (mut first, mut second) = (site.enroll(&b).await, site.enroll(&b).await);
        site.cinder.inject_fault(Operation::Export, Fault::LateResponse(Duration::from_secs(4)), 1);
        first.machine.expect_wait(&a, "Cinder has not answered yet", LONG).await;
        a.kill();
        for enrolled in [&mut first, &mut second] {
            enrolled.machine.boot(&[&b], LONG).await;
        }
    });
}
