//! Attaches the Cinder volumes of nodes on their first boot request, and resolves their connections on every boot
//! request.
//!
//! | file | content |
//! |---|---|
//! | `volume` | the steps for one volume: Cinder calls, and the records written between them |
//! | `create` | creation of attachments, and recovery of orphans |
//! | `error` | why a volume cannot be attached |
//! | `single_flight` | one resolution per boot session, shared by all retries |
//! | `outcome` | the response to a boot request, and its preview |
//! | `reconcile` | the reconciler: detaches, completes interrupted work, probes Cinder |
//! | `breaker` | circuit breaker for Cinder and its backends |
//! | `health` | reports call results to the breaker |
//! | `keyed_mutex` | one lock per volume of a node |
//!
//! A boot request is held for at most [`RESPONSE_TIMEOUT`]. A longer resolution continues in the background, and the
//! machine's retry picks up the result. A machine boots from a fresh connection. If Cinder is *unavailable*, it boots
//! from the last known connection, provided that its record shows the volume as still attached. After a *refusal* it never
//! boots: two writers destroy a disk.
//!
//! Invariant: a record is written before the Cinder call that it describes, and deleted only after Cinder has agreed.
//! Hence any interrupted work can be completed from the records.

mod breaker;
mod create;
mod error;
mod health;
mod keyed_mutex;
mod outcome;
mod reconcile;
mod single_flight;
mod volume;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{RwLock, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::cinder::Cinder;
use crate::model::{
    Attachment, Connection, ConnectionSource, ConnectorProperties, Iqn, Node, Properties, VolumeConnector,
    VolumeTarget,
};
use crate::store::Attachments;
use breaker::Breaker;
use error::AttachError;
use keyed_mutex::KeyedMutex;
use single_flight::{InFlight, Phase};
use volume::{AttachmentWorker, DesiredAttachment};

/// How long a boot request waits for its resolution before the machine is asked to retry.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long Cinder may be silent before a machine boots from a last known connection.
const CINDER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a boot session may wait in total.
const MAX_WAIT: Duration = Duration::from_secs(30 * 60);
/// How long a boot session lives without a request, and an undelivered result with it.
const IDLE_TTL: Duration = Duration::from_secs(120);
/// Volumes that are checked concurrently.
const MAX_CONCURRENT_CHECKS: usize = 16;
/// Boot sessions in flight. Further machines have to retry.
const MAX_IN_FLIGHT: usize = 20_000;
/// The shortest and the longest retry delay of a waiting machine, in seconds.
const MIN_RETRY_SECONDS: u32 = 2;
const MAX_RETRY_SECONDS: u32 = 6;

/// The use of Cinder and of last known connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The maximum age of a last known connection while Cinder is unavailable. `None`: the node waits instead.
    pub last_known_max_age: Option<Duration>,
    /// Nodes that are resolved concurrently.
    pub resolutions: usize,
}

/// The volumes that a node should have, and its identity as an initiator.
#[derive(Debug, Clone)]
pub struct VolumeRequest<'a> {
    /// The node.
    pub node: &'a Node,
    /// The node's initiator name.
    pub initiator: &'a Iqn,
    /// All volume connectors of the node.
    pub connectors: &'a [VolumeConnector],
    /// The volume targets of the node.
    pub targets: &'a [VolumeTarget],
    /// The journey (boot session) and the try.
    pub journey: Option<(&'a str, u32)>,
}

/// The state of a volume request.
#[derive(Debug)]
pub enum Resolution {
    /// All volumes, by id.
    Ready(HashMap<String, ResolvedVolume>),
    /// The machine has to retry.
    Wait {
        /// Why.
        reason: String,
        /// The delay before the retry, in seconds.
        seconds: u32,
    },
    /// The machine cannot boot, with the reason.
    Refused(String),
}

/// A volume with its connection.
#[derive(Debug, Clone)]
pub struct ResolvedVolume {
    /// How the volume is reached.
    pub connection: Connection,
    /// Where the connection is from.
    pub source: ConnectionSource,
    /// How long the resolution took.
    pub duration: Duration,
    /// The id of the attachment record, if Cinder was called for this boot.
    pub attachment: Option<Uuid>,
}

/// Attaches Cinder volumes to nodes. Cheap to clone; clones share their state.
#[derive(Debug, Clone)]
pub struct Attach(Arc<State>);

#[derive(Debug)]
struct State {
    records: Attachments,
    /// Replaced on reload.
    settings: parking_lot::RwLock<Settings>,
    breaker: Arc<Breaker>,
    locks: KeyedMutex,
    create_lock: Arc<RwLock<()>>,
    check_permits: Semaphore,
    in_flight: Mutex<HashMap<Uuid, InFlight>>,
    tasks: TaskTracker,
}

#[derive(Debug, Clone)]
struct Settings {
    cinder: Option<Cinder>,
    policy: Policy,
    queue: Arc<ResolutionQueue>,
}

/// Limits concurrent resolutions, first come, first served.
#[derive(Debug)]
struct ResolutionQueue {
    permits: Arc<Semaphore>,
    /// Counters of all resolutions that entered and left the queue.
    enqueued: std::sync::atomic::AtomicU64,
    dequeued: std::sync::atomic::AtomicU64,
}

impl ResolutionQueue {
    fn new(permits: usize) -> Self {
        let (enqueued, dequeued) = Default::default();
        Self { permits: Arc::new(Semaphore::new(permits)), enqueued, dequeued }
    }
}

impl Attach {
    /// Works on these records. Without a Cinder, no volume can be attached.
    pub fn new(records: Attachments, cinder: Option<Cinder>, policy: Policy) -> Self {
        let queue = Arc::new(ResolutionQueue::new(policy.resolutions));
        Self(Arc::new(State {
            records,
            settings: parking_lot::RwLock::new(Settings { cinder, policy, queue }),
            breaker: Arc::default(),
            locks: KeyedMutex::default(),
            create_lock: Arc::default(),
            check_permits: Semaphore::new(MAX_CONCURRENT_CHECKS),
            in_flight: Mutex::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Replaces Cinder and policy, for a reload. Running resolutions keep the old ones.
    pub fn configure(&self, cinder: Option<Cinder>, policy: Policy) {
        let mut settings = self.0.settings.write();
        if settings.policy.resolutions != policy.resolutions {
            settings.queue = Arc::new(ResolutionQueue::new(policy.resolutions));
        }
        settings.cinder = cinder;
        settings.policy = policy;
        // Failures of the old Cinder do not count for the new one.
        self.0.breaker.reset();
    }

    fn settings(&self) -> Settings {
        self.0.settings.read().clone()
    }

    fn worker(&self) -> Option<AttachmentWorker> {
        let cinder = self.settings().cinder?;
        let state = &self.0;
        Some(AttachmentWorker {
            cinder,
            records: state.records.clone(),
            breaker: Arc::clone(&state.breaker),
            create_lock: Arc::clone(&state.create_lock),
            last_response: Arc::new(Mutex::new(Instant::now())),
        })
    }

    /// Whether a Cinder is configured.
    pub fn is_configured(&self) -> bool {
        self.settings().cinder.is_some()
    }

    /// Why Cinder is unavailable, if the endpoint circuit is open.
    pub fn cinder_outage(&self) -> Option<String> {
        self.0.breaker.check(&breaker::CircuitScope::Endpoint).err()
    }

    /// Drains running resolutions for at most `time_limit`. Queued resolutions do not start any more.
    pub async fn drain(&self, time_limit: Duration) {
        self.settings().queue.permits.close();
        self.0.tasks.close();
        if timeout(time_limit, self.0.tasks.wait()).await.is_err() {
            let tasks = self.0.tasks.len();
            tracing::warn!(
                tasks,
                "shutdown interrupts attachments; the reconciler completes them after the restart"
            );
        }
    }

    /// Resolves a node's volumes. Calls Cinder once per boot session and try, however often the machine retries, and
    /// continues if the machine disconnects.
    pub async fn resolve(&self, request: VolumeRequest<'_>) -> Resolution {
        let Some(worker) = self.worker() else {
            let reason = "storage interface cinder is set, but Cinder is not configured";
            return Resolution::Refused(reason.into());
        };
        let desired = desired_attachments(&request);
        let Some(mut resolution) = self.join_or_start(&worker, &request, desired) else {
            let reason = "too many boot requests are in flight";
            return Resolution::Wait { reason: reason.into(), seconds: MAX_RETRY_SECONDS };
        };
        let done = resolution.wait_for(|phase| matches!(phase, Phase::Done(_)));
        let results = match timeout(RESPONSE_TIMEOUT, done).await {
            Ok(Ok(phase)) => match &*phase {
                Phase::Done(results) => Some(Arc::clone(results)),
                Phase::Queued(_) | Phase::Running => None,
            },
            Ok(Err(_)) | Err(_) => None,
        };
        match results {
            Some(results) => self.respond_done(&request, &resolution, &results).await,
            None => self.respond_pending(request.node.uuid, &resolution),
        }
    }

    /// The attachment records of a node.
    pub async fn attachments(&self, node: Uuid) -> Vec<Attachment> {
        self.0.records.list_by_node(node).await.unwrap_or_default()
    }

    /// Checks with Cinder whether a node's volumes can be attached, without changing anything.
    pub async fn check(&self, node: Uuid, targets: &[VolumeTarget]) -> VolumeCheck {
        let Some(worker) = self.worker() else {
            return VolumeCheck::Faults(vec!["Cinder is not configured".into()]);
        };
        if let Some(reason) = self.cinder_outage() {
            return VolumeCheck::Unavailable(reason);
        }
        let records = self.attachments(node).await;
        let mut faults = Vec::new();
        for target in targets {
            let record = records.iter().find(|record| record.volume == target.volume_id);
            let own_attachment = record.and_then(|record| record.cinder_id.as_deref());
            let check = async {
                let _permit = self.0.check_permits.acquire().await;
                worker.check(&target.volume_id, own_attachment).await
            };
            match timeout(CINDER_TIMEOUT, check).await {
                Ok(Ok(())) => {}
                Ok(Err(AttachError::Refused(reason) | AttachError::Transient(reason))) => faults.push(reason),
                Ok(Err(AttachError::Unavailable(reason))) => return VolumeCheck::Unavailable(reason),
                Err(_) => {
                    let reason = format!("no answer within {} s", CINDER_TIMEOUT.as_secs());
                    return VolumeCheck::Unavailable(reason);
                }
            }
        }
        VolumeCheck::Faults(faults)
    }
}

/// The result of a check of a node's volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeCheck {
    /// The faults that prevent attachments; empty if there are none.
    Faults(Vec<String>),
    /// Cinder is unavailable, with the reason.
    Unavailable(String),
}

impl VolumeCheck {
    /// The faults, for operators. An outage counts as a fault.
    pub fn into_faults(self) -> Vec<String> {
        match self {
            Self::Faults(faults) => faults,
            Self::Unavailable(reason) => vec![format!("Cinder is unavailable: {reason}")],
        }
    }
}

/// The attachments for a request. A volume with two targets counts once.
fn desired_attachments(request: &VolumeRequest<'_>) -> Vec<DesiredAttachment> {
    let node = request.node;
    let ip = request.connectors.iter().find(|connector| connector.kind == "ip");
    // Ironic's heuristic: a node with an `iqn` and an `ip` connector has several paths. The capability overrides it.
    let multipath = match node.capabilities().get("multipath") {
        Some(_) => node.capabilities().is_true("multipath"),
        None => ip.is_some(),
    };
    let connector = ConnectorProperties {
        initiator: request.initiator.as_str().to_owned(),
        host: node.uuid.to_string(),
        ip: ip.map(|connector| connector.connector_id.clone()),
        multipath,
    };
    let mut attachments: Vec<DesiredAttachment> = Vec::new();
    for target in request.targets {
        if attachments.iter().all(|attachment| attachment.volume != target.volume_id) {
            attachments.push(DesiredAttachment {
                node: node.uuid,
                volume: target.volume_id.clone(),
                target: target.uuid,
                read_only: is_read_only(&target.properties),
                connector: connector.clone(),
            });
        }
    }
    attachments
}

/// Whether `properties.access_mode` of a volume target is `ro`; Cinder knows `ro` and `rw`.
fn is_read_only(properties: &Properties) -> bool {
    properties.text("access_mode") == Some("ro")
}
