//! A boot storm: `cargo bench --bench storm`. A thousand nodes ask within one second, and their volumes are in a Cinder
//! that needs 300 ms for a call and makes eight at a time.
//!
//! The machines do as iPXE would: they ask over HTTP, each from an address of its own, and when they are told to wait
//! they wait as long as they are told and ask again. volboot is configured as it comes, and so asks for more at once
//! than this Cinder takes. Each volume's calls are counted: what a first boot needs, what a later one, and that nothing
//! is asked twice for the same boot, nor anything answered from what was known while Cinder is there. Then Cinder
//! hangs, and the machines boot from what is known. It takes some minutes, most of which Cinder needs.

#![allow(clippy::cast_precision_loss)] // figures for people

mod cinder;
#[path = "../../suite/daemon.rs"]
#[allow(dead_code, reason = "the bench starts it and asks how much memory it takes; the tests do more")]
mod daemon;
mod machine;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;
use volboot::model::{Mac, Node, Port, Properties, StorageInterface, VolumeConnector, VolumeTarget};
use volboot::store::{Inventory, RedbStore, Store};

use cinder::{AT_ONCE, Cinder, EACH_CALL};
use daemon::Daemon;
use machine::Booted;

/// Machines that are switched on.
const NODES: u32 = 1000;
/// Within this time.
const WITHIN: Duration = Duration::from_secs(1);
/// How long the last of them may wait when Cinder hangs.
const BAR: Duration = Duration::from_secs(15);

#[tokio::main]
async fn main() {
    let cinder = Cinder::start().await;
    let site = daemon::site(&format!(
        "[cinder]\nauth_type = \"password\"\nauth_url = \"http://{address}/v3\"\nusername = \"volboot\"\n\
         password = \"secret\"\nuser_domain_id = \"default\"\nproject_name = \"boot\"\n\
         project_domain_id = \"default\"\n[boot]\nverify_mac = \"off\"\n",
        address = cinder.address
    ));
    fill(&site.path().join("store.redb")).await;
    let daemon = Daemon::start(site.path());
    println!("{NODES} nodes ask within {} s; resident memory {}", WITHIN.as_secs(), daemon.memory("VmRSS:"));

    for (name, expected) in [
        ("first boot", ["list", "reserve", "export", "complete"].as_slice()),
        ("later boot", ["export", "complete"].as_slice()),
    ] {
        let booted = storm(daemon.http).await;
        let late = booted.iter().filter(|booted| booted.last_known).count();
        let floor = EACH_CALL * (NODES * expected.len() as u32) / AT_ONCE as u32;
        println!(
            "{name}: {}; Cinder alone needs {:.1} s; {}",
            times(&booted),
            floor.as_secs_f64(),
            daemon.memory("VmRSS:"),
        );
        assert!(late == 0, "{late} booted from what was known, and Cinder was there");
        let asked = cinder.take_calls();
        let all: usize = asked.values().map(Vec::len).sum();
        println!(
            "    {:.2} calls each, of which {expected:?} are needed",
            f64::from(all as u32) / f64::from(NODES)
        );
        for (volume, calls) in asked {
            for call in expected {
                let times = calls.iter().filter(|made| *made == call).count();
                assert!(times == 1, "{name} of {volume}: {calls:?}");
            }
        }
    }

    cinder.hang();
    let booted = storm(daemon.http).await;
    assert!(booted.iter().all(|booted| booted.last_known), "Cinder hangs: who answered?");
    println!(
        "while Cinder hangs: {} calls in all; {}; the bar is {} s; {}, {} at most",
        cinder.take_calls().into_values().map(|calls| calls.len()).sum::<usize>(),
        times(&booted),
        BAR.as_secs(),
        daemon.memory("VmRSS:"),
        daemon.memory("VmHWM:"),
    );
    let last = booted.iter().map(|booted| booted.after).max().expect("machines");
    assert!(last < BAR, "the last machine waited {last:?}");
}

/// All machines at once, as far as that is possible.
async fn storm(door: SocketAddr) -> Vec<Booted> {
    let mut machines = JoinSet::new();
    let began = Instant::now();
    for n in 0..NODES {
        machines.spawn(async move {
            tokio::time::sleep_until((began + WITHIN * n / NODES).into()).await;
            machine::boot(door, n, &mac(n).hyphenated()).await
        });
    }
    machines.join_all().await
}

fn mac(n: u32) -> Mac {
    let [_, a, b, c] = n.to_be_bytes();
    Mac::new([0x52, 0x54, 0, a, b, c])
}

async fn fill(path: &Path) {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(path).expect("opens"));
    let inventory = Inventory::new(Arc::clone(&store));
    let all: Vec<_> = (0..NODES).collect();
    for some in all.chunks(64) {
        // At once, so that the writer joins them.
        let made = some.iter().map(|&n| tokio::spawn(enrol(inventory.clone(), n)));
        for one in made.collect::<Vec<_>>() {
            one.await.expect("is enrolled");
        }
    }
    store.close().await.expect("closes");
}

async fn enrol(inventory: Inventory, n: u32) {
    let (uuid, now) = (Uuid::new_v4(), Timestamp::now());
    let mut node = Node::new(uuid, "manual-management", StorageInterface::Cinder, now);
    let capabilities = json!({"capabilities": "iscsi_boot:True"});
    node.properties = serde_json::from_value::<Properties>(capabilities).expect("an object");
    inventory.create(&node).await.expect("creates");
    inventory.create(&Port::new(Uuid::new_v4(), uuid, mac(n), now)).await.expect("creates");
    let name = format!("iqn.2017-08.org.openstack.{uuid}");
    let connector = VolumeConnector::new(Uuid::new_v4(), uuid, "iqn", &name, now);
    inventory.create(&connector).await.expect("creates");
    let target = VolumeTarget::new(Uuid::new_v4(), uuid, 0, &Uuid::new_v4().to_string(), now);
    inventory.create(&target).await.expect("creates");
}

fn times(booted: &[Booted]) -> String {
    let mut times: Vec<_> = booted.iter().map(|booted| booted.after.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    let questions: u32 = booted.iter().map(|booted| booted.questions).sum();
    let lost: u64 = booted.iter().map(|booted| booted.lost).sum();
    format!(
        "scripts after {:.1} s at half, {:.1} s at last; {:.1} questions each, {lost} of them lost",
        times[times.len() / 2],
        times[times.len() - 1],
        f64::from(questions) / f64::from(NODES),
    )
}
