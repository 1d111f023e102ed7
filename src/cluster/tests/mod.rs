//! Tests of several instances in one process, on one store in memory, over real listeners.

mod attacks;
mod journeys;
mod outages;
mod proxy;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::listen::{HttpLimits, Listener};
use crate::model::{Announcement, BootOutcome, BootStep, Mac, TransferOutcome};
use crate::store::MemoryStore;
use crate::telemetry::{BootRequestEvent, Event, EventKind, Metrics, TftpTransfer};
use crate::timeline::{Machine, MachineId, Timeline};

/// The time limit of each wait.
const LIMIT: Duration = Duration::from_secs(30);
/// The interval of repeated looks.
const LOOK: Duration = Duration::from_millis(20);
const GRACE: Duration = Duration::from_secs(1);
const CARD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
const KNOWN: Option<Mac> = Some(CARD);

/// An instance with its listener.
struct TestInstance {
    membership: Membership,
    timeline: Timeline,
    metrics: Metrics,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    exchange: JoinHandle<()>,
}

fn announcement(url: Option<String>) -> Announcement {
    let empty: Announcement = serde_json::from_str("{}").expect("every field has a default");
    Announcement { version: "1.0".into(), url, ..empty }
}

impl TestInstance {
    /// Starts an instance on the store. The others reach it at `url`, else at its own address.
    fn start(store: &MemoryStore, name: &str, history: Option<&Path>, url: Option<String>) -> Self {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let client = build_client(None).expect("a client");
        Self::start_with(client, listener, store, name, history, url)
    }

    fn start_with(
        client: reqwest::Client,
        listener: Listener,
        store: &MemoryStore,
        name: &str,
        history: Option<&Path>,
        url: Option<String>,
    ) -> Self {
        let name: crate::model::InstanceName = name.parse().expect("a name");
        let metrics = Metrics::new();
        let timeline = Timeline::open_instance_blocking(history, metrics.clone(), name.clone());
        let address = listener.local_addr();
        let url = url.unwrap_or_else(|| format!("http://{address}"));
        let announcement = announcement(Some(url));
        let store = Arc::new(store.join());
        let membership =
            Membership::new(name, store, timeline.clone(), announcement).expect("random numbers");
        let stop = CancellationToken::new();
        let serving = listener.serve(router(membership.clone()), HttpLimits::default(), stop.clone(), GRACE);
        let exchange = tokio::spawn(run(membership.clone(), Some(client)));
        Self { membership, timeline, metrics, address, stop, serving: tokio::spawn(serving), exchange }
    }

    fn record(&self, at: Timestamp, mac: Option<Mac>, kind: EventKind) {
        self.timeline.record(Event::new(at, mac, Some(machine_address()), kind));
    }

    fn machine(&self) -> Option<Machine> {
        self.timeline.machine(MachineId::Mac(CARD))
    }

    /// The instance and the description of each event of the machine.
    fn story(&self) -> Vec<(String, String)> {
        let entries = crate::timeline::describe(self.timeline.events_blocking(MachineId::Mac(CARD)));
        let row = |entry: crate::timeline::TimelineEntry| {
            (entry.event.instance.map(|name| name.to_string()).unwrap_or_default(), entry.text)
        };
        entries.into_iter().map(row).collect()
    }

    fn names_of_steps(&self) -> Vec<String> {
        self.story().into_iter().map(|(instance, _)| instance).collect()
    }

    /// Ends the process without a farewell.
    async fn crash(self) {
        self.exchange.abort();
        self.stop.cancel();
        let _ = self.serving.await;
        let timeline = self.timeline;
        tokio::task::spawn_blocking(move || timeline.close_blocking()).await.expect("closes");
        self.membership.kill();
    }

    /// Ends the process as a service manager does.
    async fn shut_down(self) {
        let timeline = self.timeline;
        tokio::task::spawn_blocking(move || timeline.close_blocking()).await.expect("closes");
        self.membership.bid_farewell().await;
        self.exchange.abort();
        self.stop.cancel();
        let _ = self.serving.await;
        self.membership.kill();
    }
}

fn machine_address() -> IpAddr {
    IpAddr::from([192, 0, 2, 7])
}

fn transfer(file: &str) -> EventKind {
    EventKind::TftpTransfer(TftpTransfer {
        file: file.into(),
        outcome: TransferOutcome::Complete,
        size: 100,
        block_size: 1468,
        window_size: 4,
        blocks: 1,
        retransmissions: 0,
        duration_ms: 5,
        client_message: None,
        refusal: None,
    })
}

fn boot_request(journey: &str, outcome: BootOutcome) -> EventKind {
    EventKind::BootRequest(Box::new(BootRequestEvent {
        attempt: 1,
        tries: 10,
        macs: vec![CARD],
        platform: None,
        arch: None,
        uuid: None,
        host_name_bytes: None,
        node: Some(uuid::Uuid::from_u128(7)),
        name: Some("web-1".into()),
        journey: Some(journey.into()),
        resolutions: Vec::new(),
        hooks: vec!["root".into()],
        warnings: Vec::new(),
        reason: (outcome != BootOutcome::Boot).then(|| "Cinder is away".to_owned()),
        outcome,
        held: false,
        attached_card: Some(CARD),
        once: None,
        claimed_mac: None,
        duration_us: 10,
    }))
}

fn report(step: BootStep) -> EventKind {
    EventKind::BootReport { step: Some(step), rc: None, attempt: 1 }
}

/// Waits until a condition holds.
#[track_caller]
fn wait_for<'a>(what: &'a str, condition: impl Fn() -> bool + 'a) -> impl Future<Output = ()> + 'a {
    let (deadline, caller) = (Instant::now() + LIMIT, std::panic::Location::caller());
    async move {
        while !condition() {
            assert!(Instant::now() < deadline, "{caller}: time-out: {what}");
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Waits until all instances follow each other.
async fn wait_for_all(instances: &[&TestInstance]) {
    for instance in instances {
        wait_for("each instance hears of the others", || {
            let answered = instance.membership.instances();
            answered.iter().filter(|other| other.last_answer_at.is_some()).count() + 1 == instances.len()
        })
        .await;
    }
}
