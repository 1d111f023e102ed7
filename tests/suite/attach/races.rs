//! Several instances that are asked in the same moment: one attachment per node and volume.

use std::time::Duration;

use volboot::model::ConnectionSource;

use super::instances::MultiSite;
use super::{TestMachine, wait_until};
use crate::fake_cinder::{FakeCinder, Fault, Operation};

/// The rounds of each race. `VOLBOOT_RACE_ROUNDS=1000` is the long form.
fn rounds() -> usize {
    std::env::var("VOLBOOT_RACE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(100)
}

/// Asks all instances for the same nodes in the same moment, round after round. All nodes have the round's volume.
async fn race(instances: usize, nodes: usize) {
    let site = MultiSite::open(instances).await;
    for round in 0..rounds() {
        let volume = format!("volume-{round}");
        site.site.cinder.add_volume(&volume, |volume| volume.multiattach = nodes > 1);
        let mut boots = Vec::new();
        for node in 0..nodes {
            let machine = site.site.add_machine(&format!("web-{round}-{node}"), &[&volume]).await;
            boots.extend((0..instances).map(|instance| site.at(instance, &machine)));
        }
        site.site.cinder.take_calls();
        let boots: Vec<_> = boots
            .into_iter()
            .map(|machine: TestMachine| tokio::spawn(async move { machine.boot_quickly("a").await }))
            .collect();
        for boot in boots {
            assert_eq!(boot.await.expect("the boot does not panic"), [ConnectionSource::Cinder]);
        }
        let calls = site.site.cinder.take_calls();
        let reserves = calls.into_iter().filter(|operation| *operation == Operation::Reserve).count();
        assert_eq!(reserves, nodes, "round {round}");
        site.expect_consistent(&volume, nodes, &format!("round {round}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_asked_at_once_attach_once() {
    race(2, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_instances_asked_at_once_attach_once() {
    race(3, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_of_a_multi_attachable_volume_get_an_attachment_each() {
    race(2, 2).await;
}

/// Row 1 of the analysis: the second instance finds the intent, and reserves before the first one's request arrives.
#[tokio::test]
async fn an_intent_of_another_instance_is_not_recovered_while_it_works() {
    let site = MultiSite::open(2).await;
    site.site.cinder.add_volume("root", |_| {});
    let machine = site.site.add_machine("web-1", &["root"]).await;
    site.site.cinder.inject_fault(Operation::Reserve, Fault::Slow(Duration::from_millis(500)), 1);
    let first = site.at(0, &machine);
    let first = tokio::spawn(async move { first.boot_quickly("a").await });
    wait_until("the reservation is sent", || site.site.cinder.take_calls().contains(&Operation::Reserve))
        .await;
    site.at(1, &machine).boot_quickly("a").await;
    first.await.expect("the boot does not panic");
    site.expect_consistent("root", 1, "after both boots").await;
}

/// Row 2 of the analysis: the recovery for one node finds the attachment that another node is being given.
#[tokio::test]
async fn an_attachment_in_creation_is_not_adopted_for_another_node() {
    let site = MultiSite::with_cinder(FakeCinder::start(), 2).await;
    site.site.cinder.add_volume("golden", |volume| volume.multiattach = true);
    let second = site.site.add_machine("web-2", &["golden"]).await;
    // The second node's create is interrupted without effect.
    site.site.cinder.inject_fault(Operation::Reserve, Fault::Status(503), 1);
    site.at(1, &second).expect_wait(Some(("a", 1))).await;
    let first = site.site.add_machine("web-1", &["golden"]).await;
    site.site.cinder.inject_fault(Operation::Reserve, Fault::LateResponse(Duration::from_millis(500)), 1);
    let first = site.at(0, &first);
    let first = tokio::spawn(async move { first.boot_quickly("a").await });
    wait_until("the attachment exists", || !site.site.cinder.attachments("golden").is_empty()).await;
    site.at(1, &second).boot_quickly("b").await;
    first.await.expect("the boot does not panic");
    site.expect_consistent("golden", 2, "after both boots").await;
}
