//! Attachments against an in-memory Cinder: the calls with their order and number, and the behaviour on faults. The
//! fake is modelled on observations of a real Cinder.

mod adopted;
mod backend_failures;
mod boots;
mod borrowed;
mod borrowed_refusals;
mod connections;
mod detachment;
mod fallback;
mod halting_store;
mod instances;
mod interruptions;
mod kills;
mod once;
mod outages;
mod predictions;
mod previews;
mod races;
mod read_only;
mod refusals;
mod store_outages;
mod unbootable;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use volboot::attach::{Attach, Policy, Resolution, VolumeRequest, Windows};
use volboot::cinder::{Cinder, CinderEndpoint, Timeouts};
use volboot::keystone::{Credentials, Session};
use volboot::model::{
    Attachment, ConnectionSource, Mac, Node, Properties, ProvisionState, StorageInterface, VolumeConnector,
    VolumeTarget,
};
use volboot::operator::{Operator, RequestedVerb, Verb};
use volboot::store::{Attachments, Inventory, MemoryStore, Store};
use volboot::telemetry::Metrics;

use crate::fake_cinder::{FakeCinder, PROJECT};

/// The time limit of each step, even on a busy host.
const LIMIT: Duration = Duration::from_secs(60);

/// A Cinder, a store, and the [`Attach`] between them.
struct Site {
    cinder: FakeCinder,
    store: Arc<dyn Store>,
    inventory: Inventory,
    attach: Attach,
    policy: Policy,
    reconciler: Option<(CancellationToken, JoinHandle<()>)>,
}

/// A node and its machine.
struct TestMachine {
    attach: Attach,
    node: Node,
    connectors: Vec<VolumeConnector>,
    targets: Vec<VolumeTarget>,
    card: Option<Mac>,
}

/// Undeploys a node by the verb `deleted`, as a client does.
async fn undeploy(operator: &Arc<Operator>, node: Uuid) {
    let activate = |old: &Node, _: Option<&Node>| {
        Ok::<_, ()>(Node { provision_state: ProvisionState::Active, ..old.clone() })
    };
    let node = operator.inventory.update(node, activate).await.expect("updates");
    let verb = RequestedVerb { verb: Verb::Deleted, name: "deleted", has_drive: false };
    operator.start_verb(&node, verb, Timestamp::now()).await.expect("undeploys");
}

impl Site {
    fn open() -> Self {
        Self::with_cinder(FakeCinder::start(), Some(Duration::from_secs(3600)))
    }

    fn with_cinder(cinder: FakeCinder, last_known_max_age: Option<Duration>) -> Self {
        Self::with(cinder, last_known_max_age, Arc::new(MemoryStore::default()))
    }

    fn with_store(store: Arc<dyn Store>) -> Self {
        Self::with(FakeCinder::start(), Some(Duration::from_secs(3600)), store)
    }

    fn with(cinder: FakeCinder, last_known_max_age: Option<Duration>, store: Arc<dyn Store>) -> Self {
        volboot::tls::install_provider();
        let policy = Policy { last_known_max_age, ..Policy::default() };
        let attach = attach(&store, &cinder, policy);
        let inventory = Inventory::new(Arc::clone(&store));
        Self { cinder, store, inventory, attach, policy, reconciler: None }
    }

    /// Simulates a kill and a restart: only the store survives.
    fn restart(&mut self, machines: &mut [&mut TestMachine]) {
        self.attach = attach(&self.store, &self.cinder, self.policy);
        for machine in machines {
            machine.attach = self.attach.clone();
        }
    }

    fn records(&self) -> Attachments {
        Attachments::new(Arc::clone(&self.store))
    }

    /// The attachment record of a machine with a single volume.
    async fn record(&self, machine: &TestMachine) -> Attachment {
        let mut all = self.records().list_by_node(machine.node.uuid).await.expect("the store is readable");
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// The faults that a validation of the machine's volumes finds.
    async fn check(&self, machine: &TestMachine) -> Vec<String> {
        self.check_with_notes(machine).await.0
    }

    /// The faults and the notes of a validation of the machine's volumes.
    async fn check_with_notes(&self, machine: &TestMachine) -> (Vec<String>, Vec<String>) {
        self.attach.check(&machine.node, &machine.connectors, &machine.targets).await.into_findings()
    }

    fn start_reconciler(&mut self) {
        let stop = CancellationToken::new();
        let task = tokio::spawn(self.attach.clone().reconcile(stop.clone()));
        self.reconciler = Some((stop, task));
    }

    /// Adds a node with volumes; the first is the boot volume.
    async fn add_machine(&self, name: &str, volumes: &[&str]) -> TestMachine {
        let now = Timestamp::now();
        let properties = |value| serde_json::from_value::<Properties>(value).expect("an object");
        let node = Node {
            name: Some(name.into()),
            properties: properties(json!({"capabilities": "iscsi_boot:True"})),
            ..Node::new(Uuid::new_v4(), "manual-management", StorageInterface::Cinder, now)
        };
        self.inventory.create(&node).await.expect("the record is created");
        let iqn = format!("iqn.2017-08.org.openstack.{name}");
        let connector = VolumeConnector::new(Uuid::new_v4(), node.uuid, "iqn", &iqn, now);
        self.inventory.create(&connector).await.expect("the record is created");
        let mut targets = Vec::new();
        for (index, volume) in (0..).zip(volumes) {
            let target = VolumeTarget::new(Uuid::new_v4(), node.uuid, index, volume, now);
            self.inventory.create(&target).await.expect("the record is created");
            targets.push(target);
        }
        TestMachine { attach: self.attach.clone(), node, connectors: vec![connector], targets, card: None }
    }
}

fn attach(store: &Arc<dyn Store>, cinder: &FakeCinder, policy: Policy) -> Attach {
    attach_with_windows(store, cinder, policy, Windows::default())
}

fn attach_with_windows(
    store: &Arc<dyn Store>,
    cinder: &FakeCinder,
    policy: Policy,
    windows: Windows,
) -> Attach {
    let credentials = Credentials::None { user: "volboot".into(), project: PROJECT.into() };
    // An idle connection would be closed when a test advances the clock.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("the client is valid");
    let endpoint = CinderEndpoint { url: Some(cinder.url()), ..CinderEndpoint::default() };
    let timeouts = Timeouts { read: Duration::from_secs(2), backend: Duration::from_secs(20) };
    let cinder =
        Cinder::new(Session::new(credentials, http.clone()), http, endpoint, timeouts, Metrics::new());
    Attach::with_windows(Attachments::new(Arc::clone(store)), Some(cinder), policy, windows)
}

impl TestMachine {
    async fn request(&self, journey: Option<(&str, u32)>) -> Resolution {
        let initiator = self.connectors[0].connector_id.parse().expect("a valid initiator name");
        let (node, connectors, targets) = (&self.node, &self.connectors[..], &self.targets[..]);
        let request = VolumeRequest {
            node,
            initiator: &initiator,
            connectors,
            targets,
            journey,
            card: self.card,
            store_outage: None,
        };
        tokio::time::timeout(LIMIT, self.attach.resolve(request)).await.expect("the response is in time")
    }

    /// Sends boot requests, and waits as asked, until the volumes are ready.
    async fn boot(&self, journey: Option<(&str, u32)>) -> Vec<(String, String, ConnectionSource)> {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            match self.request(journey).await {
                Resolution::Ready(volumes) => {
                    let mut volumes: Vec<_> = volumes
                        .into_iter()
                        .map(|(volume, resolved)| {
                            (volume, resolved.connection.paths[0].to_string(), resolved.source)
                        })
                        .collect();
                    volumes.sort_by(|first, second| first.0.cmp(&second.0));
                    return volumes;
                }
                Resolution::Wait { reason, seconds } => {
                    assert!(tokio::time::Instant::now() < deadline, "still waiting: {reason}");
                    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
                }
                Resolution::Refused(reason) => panic!("refused: {reason}"),
            }
        }
    }

    async fn expect_refusal(&self) -> String {
        match self.request(None).await {
            Resolution::Refused(reason) => reason,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    async fn expect_wait(&self, journey: Option<(&str, u32)>) -> String {
        match self.request(journey).await {
            Resolution::Wait { reason, .. } => reason,
            other => panic!("expected to wait, got {other:?}"),
        }
    }
}

/// Advances the clock without running timers in between.
async fn advance_clock(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Waits until a condition holds.
async fn wait_until(condition: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "timed out waiting until {condition}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
