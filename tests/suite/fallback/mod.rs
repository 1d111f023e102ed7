//! Fallbacks over several instances on one store: what counts as a failed boot, and what brings a fallback into force.

mod checks;
mod counting;
mod guide;
mod model;
mod operations;
mod presence;
mod refused;
mod reported;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;
use volboot::attach::{Attach, Policy};
use volboot::boot::{AttachedNetwork, Boot, Decision, FallbackPolicy};
use volboot::config::StoreOutagePolicy;
use volboot::listen::RefusedClients;
use volboot::model::{
    BootAnswer, BootRequest, BootStep, Fallback, FallbackSource, FallbackState, Mac, NeighbourCheck, Node,
    Port, ProvisionState, StorageInterface, VolumeConnector, VolumeTarget,
};
use volboot::operator::Operator;
use volboot::store::{Attachments, Inventory, MemoryStore, Store};
use volboot::timeline::LoopDetector;

use crate::operator::build_operator_on;
use presence::TestNetwork;

pub(super) const POLICY: FallbackPolicy = FallbackPolicy { after: 3, min_uptime: Duration::from_secs(300) };

/// An instance of volboot: its boot decisions, and its tasks.
pub(super) struct Instance {
    pub(super) store: Arc<MemoryStore>,
    pub(super) boot: Boot,
    _tasks: DropGuard,
}

/// Instances on one store, and an operator.
pub(super) struct Site {
    pub(super) shared: MemoryStore,
    pub(super) instances: Vec<Instance>,
    pub(super) operator: Operator,
    pub(super) network: Arc<TestNetwork>,
    started: usize,
    journeys: u32,
}

impl Site {
    pub(super) async fn open(instances: usize) -> Self {
        let shared = MemoryStore::default();
        let operator = build_operator_on(shared.join(), None);
        let network = Arc::default();
        let mut site = Self { shared, instances: Vec::new(), operator, network, started: 0, journeys: 0 };
        for _ in 0..instances {
            site.start_instance().await;
        }
        site
    }

    pub(super) async fn start_instance(&mut self) {
        self.started += 1;
        let store = Arc::new(self.shared.join());
        let name = format!("boot-{}", self.started);
        store.cluster().announce(&name, Vec::new()).await.expect("the session is alive");
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let inventory = Inventory::new(Arc::clone(&shared));
        let policy = Policy { when_store_is_away: StoreOutagePolicy::LastKnown, ..Policy::default() };
        let attach = Attach::new(Attachments::new(shared), None, policy);
        let enabled = [StorageInterface::Noop, StorageInterface::External, StorageInterface::Cinder];
        let boot = Boot::new(inventory, attach, Arc::<LoopDetector>::default(), enabled);
        let network = Arc::clone(&self.network) as Arc<dyn AttachedNetwork>;
        let watch = boot.fallback_watch().clone().with_network(network);
        let boot = boot.with_fallbacks(POLICY, watch.clone());
        let stop = CancellationToken::new();
        tokio::spawn(watch.run(stop.clone()));
        self.instances.push(Instance { store, boot, _tasks: stop.drop_guard() });
    }

    /// Ends an instance as kill -9 does: its notes are lost, and its session ends.
    pub(super) async fn kill(&mut self, instance: usize) {
        let killed = self.instances.remove(instance);
        killed.store.close().await.expect("closes");
    }

    /// A node with fixed targets `own-<number>` and, if `fallback`, `spare-<number>`, whose system reported `up` before.
    pub(super) async fn add_node(&self, number: u8, has_fallback: bool) -> Machine {
        let machine = self.add_silent_node(number, has_fallback).await;
        let own = fixed_fallback(&format!("own-{number}")).source;
        self.operator.inventory.fallbacks().note_up(machine.node, &own).await.expect("writes");
        machine
    }

    /// The same, but the node's system has never reported `up`.
    pub(super) async fn add_silent_node(&self, number: u8, has_fallback: bool) -> Machine {
        let now = Timestamp::UNIX_EPOCH;
        let inventory = &self.operator.inventory;
        let mut node =
            Node::new(Uuid::from_u128(number.into()), "manual-management", StorageInterface::External, now);
        node.name = Some(format!("web-{number}"));
        node.provision_state = ProvisionState::Active;
        node.properties =
            serde_json::from_value(json!({"capabilities": "iscsi_boot:True"})).expect("an object");
        if has_fallback {
            node = Fallback::write(Some(&fixed_fallback(&format!("spare-{number}"))), node);
        }
        inventory.create(&node).await.expect("creates");
        let mac = Mac::new([2, 0, 0, 0, 0, number]);
        let port = Port { pxe_enabled: true, ..Port::new(Uuid::new_v4(), node.uuid, mac, now) };
        inventory.create(&port).await.expect("creates");
        let iqn = format!("iqn.2017-08.org.openstack.web-{number}");
        let connector = VolumeConnector::new(Uuid::new_v4(), node.uuid, "iqn", &iqn, now);
        inventory.create(&connector).await.expect("creates");
        let target = VolumeTarget::new(Uuid::new_v4(), node.uuid, 0, &format!("own-{number}"), now);
        let properties = json!({
            "target_portal": "192.0.2.1:3260", "target_iqn": iqn_of(&format!("own-{number}")), "target_lun": 1,
        });
        let target =
            VolumeTarget { properties: serde_json::from_value(properties).expect("an object"), ..target };
        inventory.create(&target).await.expect("creates");
        Machine { node: node.uuid, mac }
    }

    pub(super) async fn node(&self, machine: Machine) -> Node {
        self.operator.inventory.get::<Node>(machine.node).await.expect("reads").expect("exists").value
    }

    pub(super) async fn state(&self, machine: Machine) -> FallbackState {
        let snapshot = self.operator.inventory.fallbacks().read(machine.node, None).await.expect("reads");
        snapshot.expect("exists").state
    }

    /// The id of a new boot session.
    pub(super) fn new_journey(&mut self) -> String {
        self.journeys += 1;
        format!("{:016x}", self.journeys)
    }

    pub(super) async fn ask(
        &self,
        instance: usize,
        machine: Machine,
        journey: &str,
        attempt: u32,
    ) -> Decision {
        let request =
            // The loop detector has no part here: it looks at first tries, and no timeline tells it of hooked volumes.
            BootRequest {
                journey: Some(journey.to_owned()),
                attempt: attempt + 1,
                neighbour_check: NeighbourCheck::Entry { mac: machine.mac, address: machine.address() },
                ..BootRequest::new(machine.mac)
            };
        self.instances[instance].boot.answer(&request).await
    }

    /// Sends a report to an instance.
    pub(super) fn report(&self, instance: usize, machine: Machine, step: &BootStep, rc: Option<&str>) {
        self.instances[instance].boot.note_report(machine.mac, Some(step), rc);
    }

    /// An instance refuses connections of a client.
    pub(super) async fn refuse_connections(&self, instance: usize, client: IpAddr) {
        let clients = BTreeSet::from([SocketAddr::new(client, 0)]);
        let watch = self.instances[instance].boot.fallback_watch();
        watch.note_refused_connections(RefusedClients { clients, are_all: true }).await;
    }

    /// A boot session whose machine hooks its volumes. Returns the boot volume's name.
    pub(super) async fn boot_and_hook(&mut self, instance: usize, machine: Machine) -> String {
        let journey = self.new_journey();
        let volume = boot_volume(&self.ask(instance, machine, &journey, 1).await).expect("boots");
        self.report(instance, machine, &BootStep::Hooked, None);
        settle().await;
        volume
    }
}

/// A node's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) node: Uuid,
    pub(super) mac: Mac,
}

impl Machine {
    pub(super) fn address(self) -> IpAddr {
        let [.., number] = self.mac.to_bytes();
        Ipv4Addr::new(192, 0, 2, number).into()
    }
}

pub(super) fn iqn_of(volume: &str) -> String {
    format!("iqn.2010-10.org.example:{volume}")
}

pub(super) fn fixed_fallback(volume: &str) -> Fallback {
    let path = format!("iscsi:192.0.2.1::3260:1:{}", iqn_of(volume)).parse().expect("a path");
    Fallback::new(FallbackSource::Target { name: Some(volume.to_owned()), paths: vec![path] })
}

/// The boot volume of a decision, by the last part of its target's name.
pub(super) fn boot_volume(decision: &Decision) -> Option<String> {
    match &decision.answer {
        BootAnswer::Boot(plan) => plan.boot.paths[0].target.as_str().rsplit(':').next().map(str::to_owned),
        _ => None,
    }
}

/// Lets all tasks run until they wait.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

pub(super) async fn advance(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
