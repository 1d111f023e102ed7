//! 2: several instances get one boot request in the same millisecond: one reservation and one export per boot.
//!
//! `VOLBOOT_CLUSTER_ROUNDS` sets the rounds of each test; a thousand take about a quarter of an hour.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;

use crate::appliance::{Appliance, ApplianceOptions, LONG, Site};
use crate::etcd::Options;
use crate::fake_cinder::Operation;
use crate::machine::Machine;
use crate::run_within;

/// The rounds of a test without the environment variable.
const ROUNDS: usize = 12;

fn rounds() -> usize {
    std::env::var("VOLBOOT_CLUSTER_ROUNDS").map_or(ROUNDS, |text| text.parse().expect("a number"))
}

/// Starts instances with the session of the product. A busy host may end the tests' short one, and then a second export
/// is right.
async fn start(site: &Site, names: &[&str]) -> Vec<Appliance> {
    let mut instances = Vec::new();
    for name in names {
        let options = ApplianceOptions { session: Duration::from_secs(10), ..ApplianceOptions::default() };
        instances.push(site.start_with(name, options).await);
    }
    instances
}

/// Sends one machine's boot request to all addresses at once, and repeats it until each has answered with the boot.
async fn boot_everywhere(mac: &str, journey: &Machine, at: &[SocketAddr]) {
    let boots = at.iter().map(async |address| {
        let mut machine = journey.duplicate(mac);
        machine.boot_at(&[*address], LONG).await;
    });
    join_all(boots).await;
}

fn count(calls: &[Operation]) -> BTreeMap<Operation, usize> {
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts.entry(*call).or_default() += 1;
    }
    counts
}

#[test]
fn one_boot_request_at_several_instances_is_resolved_once() {
    run_within(crate::LIMIT * u32::try_from(rounds()).expect("few"), Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let instances = start(&site, &["boot-1", "boot-2", "boot-3"]).await;
        let addresses: Vec<_> = instances.iter().map(Appliance::http).collect();
        for round in 0..rounds() {
            // Two or three instances; single- and multi-attachable volumes; a first boot and a later one.
            let at = &addresses[..2 + round % 2];
            let mut enrolled = site.enroll_with(&instances[0], round % 4 < 2).await;
            for boot in ["first", "later"] {
                site.cinder.take_calls();
                enrolled.machine.switch_off();
                enrolled.machine.begin(at[0]).await.expect("the first script");
                boot_everywhere(&enrolled.mac, &enrolled.machine, at).await;
                let calls = count(&site.cinder.take_calls());
                let reservations = calls.get(&Operation::Reserve).copied().unwrap_or_default();
                assert_eq!(
                    reservations,
                    usize::from(boot == "first"),
                    "round {round}, {boot} boot: {calls:?}"
                );
                assert_eq!(calls[&Operation::Export], 1, "round {round}, {boot} boot: {calls:?}");
                site.expect_consistent(&enrolled.volume, 1, LONG, &format!("round {round}")).await;
            }
        }
    });
}

#[test]
fn two_nodes_of_a_multiattachable_volume_boot_at_once() {
    run_within(crate::LIMIT * u32::try_from(rounds()).expect("few"), Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let instances = start(&site, &["boot-1", "boot-2"]).await;
        let addresses: Vec<_> = instances.iter().map(Appliance::http).collect();
        for round in 0..rounds() {
            let mut one = site.enroll_with(&instances[0], true).await;
            let mut other = site.enroll_volume(&instances[1], &one.volume).await;
            site.cinder.take_calls();
            for enrolled in [&mut one, &mut other] {
                enrolled.machine.begin(addresses[0]).await.expect("the first script");
            }
            tokio::join!(
                boot_everywhere(&one.mac, &one.machine, &addresses),
                boot_everywhere(&other.mac, &other.machine, &addresses),
            );
            let calls = count(&site.cinder.take_calls());
            assert_eq!((calls[&Operation::Reserve], calls[&Operation::Export]), (2, 2), "{round}: {calls:?}");
            site.expect_consistent(&one.volume, 2, LONG, &format!("round {round}")).await;
            let records = site.records_of(&one.volume).await;
            assert_ne!(records[0].node, records[1].node);
            assert_ne!(records[0].cinder_id, records[1].cinder_id);
        }
    });
}
