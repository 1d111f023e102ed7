//! [`SimulatedInstance`]: one volboot of several on the shared store, from its start to its end.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::link::{Gate, Link};
use super::network::{CinderNetwork, CinderRoute};
use super::random::Random;
use super::store::InstanceStore;
use crate::attach::{Attach, Policy};
use crate::boot::{Boot, FallbackPolicy};
use crate::check::VolumeChecks;
use crate::cinder::Cinder;
use crate::cluster::Membership;
use crate::config::Config;
use crate::images::Images;
use crate::model::{Announcement, Conductor, ConductorGroup, EnabledHardware, StorageInterface};
use crate::operator::{Appliance, Operator};
use crate::power::{Power, PowerLimits};
use crate::store::{Attachments, Inventory, MemoryStore, Store};
use crate::telemetry::Metrics;
use crate::timeline::{LoopDetector, Timeline};

/// The session of an instance ends this long after its last keep-alive; the instance counts on it for less.
const SESSION: Duration = Duration::from_secs(10);
const SESSION_MARGIN: Duration = Duration::from_secs(3);
/// The interval of keep-alives.
const KEEP_ALIVE: Duration = Duration::from_millis(900);
/// A boot without an `up` report counts as failed soon, so that fallbacks come into force within a run.
const FALLBACK: FallbackPolicy = FallbackPolicy { after: 2, min_uptime: Duration::from_secs(5) };

#[derive(Debug)]
pub(super) struct SimulatedInstance {
    pub(super) link: Arc<Link>,
    pub(super) operator: Arc<Operator>,
    store: Arc<InstanceStore>,
    tasks: CancellationToken,
}

impl SimulatedInstance {
    /// Starts an instance on the shared store.
    pub(super) async fn start(
        number: usize,
        shared: &MemoryStore,
        network: &Arc<CinderNetwork>,
        random: Random,
    ) -> Self {
        let link = Arc::new(Link::new(number, random, network.started_at()));
        let session = Arc::new(shared.join());
        let store = Arc::new(InstanceStore { session, link: Arc::clone(&link) });
        let name = format!("boot-{number}");
        store.session.cluster().announce(&name, Vec::new()).await.expect("the session is alive");
        let route = CinderRoute { network: Arc::clone(network), link: Arc::clone(&link) };
        let cinder = Cinder::in_process(Arc::new(route));
        let policy = Policy { last_known_max_age: Some(Duration::from_secs(3600)), ..Policy::default() };
        let records = Attachments::new(Arc::clone(&store) as _);
        let attach = Attach::new(records, Some(cinder), policy);
        let operator = Arc::new(build_operator(Arc::clone(&store) as _, attach.clone(), &name));
        let stop = CancellationToken::new();
        tokio::spawn(keep_alive(Arc::clone(&store)));
        tokio::spawn(attach.reconcile(stop.clone()));
        tokio::spawn(operator.boot.fallback_watch().clone().run(stop.clone()));
        Self { link, operator, store, tasks: stop }
    }

    /// The decisions of this instance on boot requests. It holds no machine back: the runs are full of boot loops.
    pub(super) fn boot(&self) -> Boot {
        build_boot(&self.operator.inventory, &self.operator.attach)
            .with_fallbacks(FALLBACK, self.operator.boot.fallback_watch().clone())
    }

    /// Ends the instance as kill -9 does. Its session ends later.
    pub(super) fn kill(&self) {
        self.link.set_gate(Gate::Killed);
        self.tasks.cancel();
    }

    /// Ends the instance's session in the store. The instance notices that at once.
    pub(super) fn end_session(&self) {
        end_session(&self.store.session);
    }
}

fn end_session(session: &MemoryStore) {
    session.end_session();
    // A new session counts from its first keep-alive.
    session.set_session_deadline(Some(Instant::now()));
}

/// Keeps the session alive while the instance runs and reaches the store. Ends it otherwise.
///
/// A suspended instance sees no deadline pass, and does not learn that its claims have ended, until it goes on.
async fn keep_alive(store: Arc<InstanceStore>) {
    let InstanceStore { session, link } = &*store;
    let mut alive_until = Instant::now() + SESSION;
    loop {
        let now = Instant::now();
        match link.gate() {
            Gate::Open if link.outage().is_none() => {
                alive_until = now + SESSION;
                session.set_session_deadline(Some(alive_until - SESSION_MARGIN));
            }
            Gate::Open if now >= alive_until => end_session(session),
            Gate::Suspended => {
                session.set_session_deadline(None);
                if sleep_unless_passed(link, alive_until).await {
                    session.expire_claims();
                    link.pass_or_end().await;
                    // The response to a call, if there is one, is seen before the end of the session.
                    yield_now().await;
                    end_session(session);
                } else {
                    session.set_session_deadline(Some(alive_until - SESSION_MARGIN));
                }
                continue;
            }
            Gate::Killed if now >= alive_until => {
                // Its claims and its announcement end.
                let _ = session.close().await;
                return;
            }
            Gate::Open | Gate::Killed => {}
        }
        // A suspension is noticed at once.
        if link.gate() == Gate::Open {
            let _ = timeout(KEEP_ALIVE, link.wait_for_suspension()).await;
        } else {
            sleep(KEEP_ALIVE).await;
        }
    }
}

/// Waits while the instance is suspended, at most until the end of its session. Returns whether the session ended.
async fn sleep_unless_passed(link: &Link, alive_until: Instant) -> bool {
    timeout_at(alive_until, link.pass_or_end()).await.is_err()
}

fn build_boot(inventory: &Inventory, attach: &Attach) -> Boot {
    let enabled = [StorageInterface::Noop, StorageInterface::External, StorageInterface::Cinder];
    Boot::new(inventory.clone(), attach.clone(), Arc::<LoopDetector>::default(), enabled)
}

fn build_operator(store: Arc<dyn Store>, attach: Attach, name: &str) -> Operator {
    // It has a thread.
    static TIMELINE: LazyLock<Timeline> = LazyLock::new(|| Timeline::open_blocking(None, Metrics::new()));
    let inventory = Inventory::new(Arc::clone(&store));
    let announcement: Announcement = serde_json::from_str("{}").expect("every field has a default");
    let instance = name.parse().expect("a name");
    let membership = Membership::new(instance, store, TIMELINE.clone(), announcement);
    let stop = CancellationToken::new();
    Operator {
        boot: build_boot(&inventory, &attach),
        power: Power::new(inventory.clone(), 1, PowerLimits::default()),
        inventory,
        attach,
        volume_checks: VolumeChecks::new("/nonexistent"),
        timeline: TIMELINE.clone(),
        images: Images::default(),
        scripts: Config::default().boot,
        enabled_storage_interfaces: vec![StorageInterface::Cinder],
        default_storage_interface: StorageInterface::Cinder,
        keep_targets_on_undeploy: false,
        membership: membership.expect("random numbers"),
        conductor: Conductor {
            hostname: name.to_owned(),
            group: ConductorGroup::default(),
            hardware: EnabledHardware::default(),
        },
        appliance: Appliance {
            metrics: Metrics::new(),
            listeners: Vec::new(),
            history_path: "/nonexistent".into(),
            tftp_counters: Arc::default(),
            dhcp_status: None,
            connection_counters: Vec::new(),
            started_at: Timestamp::now(),
            leaving: stop.clone(),
            stop,
        },
    }
}
