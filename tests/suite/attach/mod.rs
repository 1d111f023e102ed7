//! Volumes held in Cinder: what is asked of it, in which order, how often, and what comes of it when it does not do
//! what it should. The other side is a Cinder in memory that behaves as a real one was seen to.

mod away;
mod boots;
mod broken_off;
mod letting_go;
mod refusals;
mod unasked;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use volboot::attach::{Attach, Policy, Progress, Source, Wanted};
use volboot::cinder::{Cinder, Endpoint, Patience};
use volboot::keystone::{Credentials, Session};
use volboot::model::{Attachment, Node, Properties, StorageInterface, VolumeConnector, VolumeTarget};
use volboot::store::{Attachments, Inventory, MemoryStore, Store};
use volboot::telemetry::Metrics;

use crate::fake_cinder::{FakeCinder, PROJECT};

/// Nothing here takes longer, even on a busy host.
const LIMIT: Duration = Duration::from_secs(60);

/// A Cinder, a store, and what stands between.
struct Site {
    cinder: FakeCinder,
    store: Arc<dyn Store>,
    inventory: Inventory,
    attach: Attach,
    policy: Policy,
    reconciler: Option<(CancellationToken, JoinHandle<()>)>,
}

/// A node and its machine.
struct Machine {
    attach: Attach,
    node: Node,
    connectors: Vec<VolumeConnector>,
    targets: Vec<VolumeTarget>,
}

impl Site {
    fn open() -> Self {
        Self::with(FakeCinder::start(), Some(Duration::from_secs(3600)))
    }

    fn with(cinder: FakeCinder, last_known: Option<Duration>) -> Self {
        volboot::tls::install_provider();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let policy = Policy { last_known, resolutions: 32 };
        let attach = attach(&store, &cinder, policy);
        let inventory = Inventory::new(Arc::clone(&store));
        Self { cinder, store, inventory, attach, policy, reconciler: None }
    }

    /// What a process that was killed leaves is what stands in the store: a new one begins with no more.
    fn restart(&mut self, machines: &mut [&mut Machine]) {
        self.attach = attach(&self.store, &self.cinder, self.policy);
        for machine in machines {
            machine.attach = self.attach.clone();
        }
    }

    fn records(&self) -> Attachments {
        Attachments::new(Arc::clone(&self.store))
    }

    /// What is written down of a machine's only volume.
    async fn record(&self, machine: &Machine) -> Attachment {
        let mut all = self.records().of_node(machine.node.uuid).await.expect("reads");
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn reconcile(&mut self) {
        let stop = CancellationToken::new();
        let task = tokio::spawn(self.attach.clone().reconcile(stop.clone()));
        self.reconciler = Some((stop, task));
    }

    /// A node with volumes, the first of which it boots.
    async fn machine(&self, name: &str, volumes: &[&str]) -> Machine {
        let now = Timestamp::now();
        let properties = |value| serde_json::from_value::<Properties>(value).expect("an object");
        let node = Node {
            name: Some(name.into()),
            properties: properties(json!({"capabilities": "iscsi_boot:True"})),
            ..Node::new(Uuid::new_v4(), "manual-management", StorageInterface::Cinder, now)
        };
        self.inventory.create(&node).await.expect("creates");
        let iqn = format!("iqn.2017-08.org.openstack.{name}");
        let connector = VolumeConnector::new(Uuid::new_v4(), node.uuid, "iqn", &iqn, now);
        self.inventory.create(&connector).await.expect("creates");
        let mut targets = Vec::new();
        for (index, volume) in (0..).zip(volumes) {
            let target = VolumeTarget::new(Uuid::new_v4(), node.uuid, index, volume, now);
            self.inventory.create(&target).await.expect("creates");
            targets.push(target);
        }
        Machine { attach: self.attach.clone(), node, connectors: vec![connector], targets }
    }
}

fn attach(store: &Arc<dyn Store>, cinder: &FakeCinder, policy: Policy) -> Attach {
    let credentials = Credentials::None { user: "volboot".into(), project: PROJECT.into() };
    // A connection that is kept would be closed when a test lets time pass.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client");
    let endpoint = Endpoint { url: Some(cinder.url()), ..Endpoint::default() };
    let patience = Patience { read: Duration::from_secs(2), work: Duration::from_secs(20) };
    let cinder =
        Cinder::new(Session::new(credentials, http.clone()), http, endpoint, patience, Metrics::new());
    Attach::new(Attachments::new(Arc::clone(store)), Some(cinder), policy)
}

impl Machine {
    async fn asks(&self, journey: Option<(&str, u32)>) -> Progress {
        let initiator = self.connectors[0].connector_id.parse().expect("a name");
        let (node, connectors, targets) = (&self.node, &self.connectors[..], &self.targets[..]);
        let wanted = Wanted { node, initiator: &initiator, connectors, targets, journey };
        tokio::time::timeout(LIMIT, self.attach.resolve(wanted)).await.expect("in time")
    }

    /// Asks as a machine does that is told to wait, until it gets its volumes.
    async fn gets(&self, journey: Option<(&str, u32)>) -> Vec<(String, String, Source)> {
        let until = tokio::time::Instant::now() + LIMIT;
        loop {
            match self.asks(journey).await {
                Progress::Ready(found) => {
                    let mut found: Vec<_> = found
                        .into_iter()
                        .map(|(volume, found)| (volume, found.connection.paths[0].to_string(), found.source))
                        .collect();
                    found.sort_by(|one, other| one.0.cmp(&other.0));
                    return found;
                }
                Progress::Wait { reason, seconds } => {
                    assert!(tokio::time::Instant::now() < until, "still waiting: {reason}");
                    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
                }
                Progress::Refused(reason) => panic!("refused: {reason}"),
            }
        }
    }

    async fn is_refused(&self) -> String {
        match self.asks(None).await {
            Progress::Refused(reason) => reason,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    async fn waits(&self, journey: Option<(&str, u32)>) -> String {
        match self.asks(journey).await {
            Progress::Wait { reason, .. } => reason,
            other => panic!("expected to wait, got {other:?}"),
        }
    }
}

/// Lets time pass of which nobody notices anything but that it is later.
async fn later(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + LIMIT;
    while !is_so() {
        assert!(tokio::time::Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
