//! [`SimulatedSite`]: instances on one store, with one Cinder, nodes and their machines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use uuid::Uuid;

use super::cinder::VirtualCinder;
use super::history::{RunEvent, RunHistory, Usage};
use super::instance::SimulatedInstance;
use super::link::LinkOutage;
use super::machine::SiteMachine;
use super::network::CinderNetwork;
use super::random::Random;
use crate::model::{
    Mac, Node, Port, PowerState, ProvisionState, StorageInterface, VolumeConnector, VolumeTarget,
};
use crate::store::{Batch, Inventory, MemoryStore, Store};

/// The nodes of a site.
const NODES: u128 = 3;
/// Volumes for one node at a time; one more is multi-attachable.
const SINGLE_VOLUMES: u128 = 3;

#[derive(Debug)]
pub(super) struct SimulatedSite {
    pub(super) history: RunHistory,
    pub(super) network: Arc<CinderNetwork>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) machines: Vec<SiteMachine>,
    pub(super) volumes: Vec<String>,
    /// The multi-attachable volumes.
    pub(super) shared: BTreeSet<String>,
    instances: Mutex<Vec<Arc<SimulatedInstance>>>,
    turns: BTreeMap<Uuid, tokio::sync::Mutex<()>>,
    seed: u64,
    /// The numbers of journeys, requests and instances.
    numbers: [AtomicU32; 3],
}

impl SimulatedSite {
    /// A site with this many instances.
    pub(super) async fn open(seed: u64, instances: usize) -> Self {
        let history = RunHistory::start();
        let mut cinder = VirtualCinder::default();
        let volume = |number: u128| Uuid::from_u128(0x100 + number).to_string();
        let volumes: Vec<_> = (0..=SINGLE_VOLUMES).map(volume).collect();
        let shared: BTreeSet<_> = volumes.last().cloned().into_iter().collect();
        for volume in &volumes {
            cinder.add_volume(volume, shared.contains(volume));
        }
        let machine = |number: u128| SiteMachine {
            node: Uuid::from_u128(number),
            card: Mac::new([2, 0, 0, 0, 0, u8::try_from(number).expect("a small number")]),
        };
        let machines: Vec<_> = (1..=NODES).map(machine).collect();
        let mut site = Self {
            network: Arc::new(CinderNetwork::new(cinder, history.clone())),
            history,
            store: Arc::default(),
            turns: machines.iter().map(|machine| (machine.node, tokio::sync::Mutex::default())).collect(),
            machines,
            volumes,
            shared,
            instances: Mutex::default(),
            seed,
            numbers: Default::default(),
        };
        let mut random = Random::new(seed, 0);
        for number in 0..site.machines.len() {
            let machine = site.machines[number];
            let own = site.volumes[number].clone();
            let data = random.one_in(2).then(|| site.volumes[SINGLE_VOLUMES as usize].clone());
            site.add_node(machine, [own].into_iter().chain(data)).await;
        }
        for _ in 0..instances {
            let instance = site.start_instance().await;
            site.instances.get_mut().push(instance);
        }
        site
    }

    async fn add_node(&self, machine: SiteMachine, volumes: impl Iterator<Item = String>) {
        let now = Timestamp::UNIX_EPOCH;
        let inventory = Inventory::new(Arc::clone(&self.store) as _);
        let uuid = machine.node;
        // In each run of a seed, lists have the same order.
        let id = |kind: u128| Uuid::from_u128((kind << 8) + uuid.as_u128());
        let name = format!("web-{}", uuid.as_u128());
        let node = Node {
            name: Some(name.clone()),
            provision_state: ProvisionState::Active,
            properties: serde_json::from_value(json!({"capabilities": "iscsi_boot:True"}))
                .expect("an object"),
            ..Node::new(uuid, "manual-management", StorageInterface::Cinder, now)
        };
        let node = node.with_power_state(PowerState::On, now);
        inventory.create(&node).await.expect("creates");
        let port = Port { pxe_enabled: true, ..Port::new(id(0x20), uuid, machine.card, now) };
        inventory.create(&port).await.expect("creates");
        let iqn = format!("iqn.2017-08.org.openstack.{name}");
        let connector = VolumeConnector::new(id(0x30), uuid, "iqn", &iqn, now);
        inventory.create(&connector).await.expect("creates");
        for (index, volume) in (0..).zip(volumes) {
            let target = VolumeTarget::new(id(0x40 + index), uuid, i64::from(index as u8), &volume, now);
            inventory.create(&target).await.expect("creates");
            self.history.record(RunEvent::Granting { node: uuid, volume, usage: Usage::Target });
        }
    }

    async fn start_instance(&self) -> Arc<SimulatedInstance> {
        let number = self.numbers[2].fetch_add(1, Relaxed) as usize;
        let random = Random::new(self.seed, 1_000 + number as u64);
        Arc::new(SimulatedInstance::start(number, &self.store, &self.network, random).await)
    }

    pub(super) fn slots(&self) -> usize {
        self.instances.lock().len()
    }

    pub(super) fn instance(&self, slot: usize) -> Arc<SimulatedInstance> {
        Arc::clone(&self.instances.lock()[slot])
    }

    /// Starts a new instance in the place of another.
    pub(super) async fn replace_instance(&self, slot: usize) {
        let instance = self.start_instance().await;
        self.instances.lock()[slot] = instance;
    }

    /// An outage of the store that begins now.
    pub(super) async fn begin_outage(&self) -> LinkOutage {
        let since = tokio::time::Instant::now();
        let snapshot = self.store.snapshot().await.expect("a snapshot");
        let records = snapshot.list(None, usize::MAX).await.expect("the records");
        let batch =
            records.into_iter().fold(Batch::default(), |batch, record| batch.put(record.key, record.value));
        let last_known = MemoryStore::default();
        last_known.write(batch).await.expect("writes");
        LinkOutage { since, last_known: Arc::new(last_known) }
    }

    pub(super) fn new_journey(&self) -> String {
        format!("journey-{}", self.numbers[0].fetch_add(1, Relaxed))
    }

    pub(super) fn new_request(&self) -> u32 {
        self.numbers[1].fetch_add(1, Relaxed)
    }

    /// Waits for the end of an operator's request about the node.
    pub(super) async fn lock_node(&self, node: Uuid) -> tokio::sync::MutexGuard<'_, ()> {
        self.turns[&node].lock().await
    }
}
