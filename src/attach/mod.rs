//! The volumes of nodes, held in Cinder: attached on the first boot request, resolved on each (step 7).
//!
//! | file | what it is |
//! |---|---|
//! | `volume` | one volume, step by step: the calls, and what is written down between them |
//! | `obstacle` | what is in the way of having a volume, in words |
//! | `question` | a machine's question: the same one asked again is not asked of Cinder again |
//! | `answer` | what came of it, for the machine that asked: its volumes, those of last time, or why not |
//! | `reconcile` | what is left to be done when nobody asks: detach, finish what was broken off, look whether Cinder is back |
//! | `breaker` | who does not answer is not asked by everybody |
//! | `silence` | who does not answer, and since when |
//! | `locks` | one worker at a time on one volume |
//!
//! A machine is never held for longer than [`PATIENCE`]: what takes longer goes on without it, and its next question
//! finds it. It boots from a connection that was just asked for, or, if Cinder is *away*, from the last one known,
//! provided that it surely still is its own. If Cinder *says no*, it never does: two writers destroy a disk.
//!
//! The one invariant: a record is written before Cinder is asked for what it speaks of, and forgotten only after Cinder
//! has agreed. So whatever is interrupted, somebody who reads the records can finish it.

mod answer;
mod breaker;
mod locks;
mod obstacle;
mod question;
mod reconcile;
mod silence;
mod volume;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{RwLock, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::cinder::Cinder;
use crate::model::{Attachment, Connection, Connector, Iqn, Node, Properties, VolumeConnector, VolumeTarget};
use crate::store::Attachments;
use breaker::Breaker;
use locks::Locks;
use obstacle::Trouble;
use question::{Asked, Stage};
use volume::{Want, Worker};

/// How long a machine waits for an answer before it is told to ask again.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How long Cinder may take before a machine boots from what is known, if anything is.
const SLOW: Duration = Duration::from_secs(5);
/// How long a machine is told to wait in all, by the clock here.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 60);
/// How long an answer that nobody came for is kept, and how long a machine may stay away between two questions of one
/// boot.
const KEPT: Duration = Duration::from_secs(120);
/// Volumes that are looked at at the same time without being attached.
const EXAMINED_AT_ONCE: usize = 16;
/// Machines that may be waited for at once. The next is told to come again.
const MOST_RESOLVING: usize = 20_000;
/// The pauses between two questions of a machine that waits, in seconds.
const SHORT_PAUSE: u32 = 2;
const LONG_PAUSE: u32 = 6;

/// What may be done without Cinder, and how much with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How old a connection may be from which a node boots while Cinder is away; `None`: it waits.
    pub last_known: Option<Duration>,
    /// Nodes whose volumes are resolved at the same time.
    pub resolutions: usize,
}

/// What a node is to have, and as whom.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The node.
    pub node: &'a Node,
    /// The name it logs in with.
    pub initiator: &'a Iqn,
    /// All its connectors.
    pub connectors: &'a [VolumeConnector],
    /// Its volumes.
    pub targets: &'a [VolumeTarget],
    /// The journey its machine is on, and the try.
    pub journey: Option<(&'a str, u32)>,
}

/// How far it is.
#[derive(Debug)]
pub enum Progress {
    /// All volumes, by their ids.
    Ready(HashMap<String, Found>),
    /// Not yet.
    Wait {
        /// What it waits for.
        reason: String,
        /// When it should ask again, in seconds.
        seconds: u32,
    },
    /// No.
    Refused(String),
}

/// Where a volume was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// How it is reached.
    pub connection: Connection,
    /// Who said so.
    pub source: Source,
    /// How long that took.
    pub took: Duration,
    /// The record by which the node holds it, if it was asked for at this boot.
    pub held_by: Option<Uuid>,
}

/// Who said where a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The node's own records.
    Records,
    /// Cinder, for this boot.
    Cinder,
    /// Cinder, at an earlier boot.
    LastKnown {
        /// When it said so.
        learnt_at: Timestamp,
        /// Why it is not asked now; nothing where nobody meant to.
        away: Option<String>,
    },
}

impl Source {
    /// The word for logs and metrics: a closed set.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Cinder => "cinder",
            Self::LastKnown { .. } => "last known",
        }
    }
}

/// Holds volumes in Cinder for nodes. Cheap to clone; every clone is the same.
#[derive(Debug, Clone)]
pub struct Attach(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    records: Attachments,
    /// Exchanged when the configuration is read again.
    present: std::sync::RwLock<Present>,
    breaker: Arc<Breaker>,
    locks: Locks,
    reserving: Arc<RwLock<()>>,
    /// How many volumes are looked at at once without being attached.
    examining: Semaphore,
    asked: Mutex<HashMap<Uuid, Asked>>,
    tasks: TaskTracker,
}

#[derive(Debug, Clone)]
struct Present {
    cinder: Option<Cinder>,
    policy: Policy,
    turns: Arc<Turns>,
}

/// Who may ask Cinder now; first come, first served.
#[derive(Debug)]
struct Turns {
    permits: Arc<Semaphore>,
    /// How many have come, and how many have had their turn.
    come: std::sync::atomic::AtomicU64,
    served: std::sync::atomic::AtomicU64,
}

impl Turns {
    fn new(at_once: usize) -> Self {
        let (come, served) = Default::default();
        Self { permits: Arc::new(Semaphore::new(at_once)), come, served }
    }
}

impl Attach {
    /// Over these records; without a Cinder, nothing can be attached.
    pub fn new(records: Attachments, cinder: Option<Cinder>, policy: Policy) -> Self {
        let turns = Arc::new(Turns::new(policy.resolutions));
        Self(Arc::new(Shared {
            records,
            present: std::sync::RwLock::new(Present { cinder, policy, turns }),
            breaker: Arc::default(),
            locks: Locks::default(),
            reserving: Arc::default(),
            examining: Semaphore::new(EXAMINED_AT_ONCE),
            asked: Mutex::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// From now on, another Cinder or another policy. What runs ends as it began.
    pub fn configure(&self, cinder: Option<Cinder>, policy: Policy) {
        let mut present = self.0.present.write().unwrap_or_else(PoisonError::into_inner);
        if present.policy.resolutions != policy.resolutions {
            present.turns = Arc::new(Turns::new(policy.resolutions));
        }
        present.cinder = cinder;
        present.policy = policy;
        // It may be another one, which has not failed yet.
        self.0.breaker.reset();
    }

    fn present(&self) -> Present {
        self.0.present.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn worker(&self) -> Option<Worker> {
        let cinder = self.present().cinder?;
        let shared = &self.0;
        Some(Worker {
            cinder,
            records: shared.records.clone(),
            breaker: Arc::clone(&shared.breaker),
            reserving: Arc::clone(&shared.reserving),
            heard: Arc::new(Mutex::new(Instant::now())),
        })
    }

    /// Whether there is a Cinder to ask.
    pub fn is_configured(&self) -> bool {
        self.present().cinder.is_some()
    }

    /// Whether Cinder answers, as far as is known: why not, if not.
    pub fn cinder_is_away(&self) -> Option<String> {
        self.0.breaker.check(&breaker::Scope::Endpoint).err()
    }

    /// Waits until what runs has ended, but no longer than this. What stands in the queue is not begun any more.
    pub async fn drain(&self, within: Duration) {
        self.present().turns.permits.close();
        self.0.tasks.close();
        if timeout(within, self.0.tasks.wait()).await.is_err() {
            let left = self.0.tasks.len();
            tracing::warn!(
                left,
                "stopped while volumes were being attached: they are seen to at the next start"
            );
        }
    }

    /// Where a node's volumes are. Asks Cinder, once for each question that a machine asks, however often it repeats
    /// it; and goes on asking when the machine is gone.
    pub async fn resolve(&self, wanted: Wanted<'_>) -> Progress {
        let Some(worker) = self.worker() else {
            return Progress::Refused("has storage interface cinder, but Cinder is not configured".into());
        };
        let wants = wants(&wanted);
        let Some(mut resolving) = self.question(&worker, &wanted, wants) else {
            let reason = "too many machines ask at once";
            return Progress::Wait { reason: reason.into(), seconds: LONG_PAUSE };
        };
        let ended = resolving.wait_for(|stage| matches!(stage, Stage::Ended(_)));
        let outcome = match timeout(PATIENCE, ended).await {
            Ok(Ok(stage)) => match &*stage {
                Stage::Ended(outcome) => Some(Arc::clone(outcome)),
                Stage::Queued(_) | Stage::Asking => None,
            },
            Ok(Err(_)) | Err(_) => None,
        };
        match outcome {
            Some(outcome) => self.delivered(&wanted, &resolving, &outcome).await,
            None => self.not_yet(wanted.node.uuid, &resolving),
        }
    }

    /// What is held of a node's volumes in Cinder.
    pub async fn held(&self, node: Uuid) -> Vec<Attachment> {
        self.0.records.of_node(node).await.unwrap_or_default()
    }

    /// What is in the way of attaching a node's volumes, asked of Cinder without touching them.
    pub async fn examine(&self, node: Uuid, targets: &[VolumeTarget]) -> Examined {
        let Some(worker) = self.worker() else {
            return Examined::Faults(vec!["Cinder is not configured".into()]);
        };
        if let Some(reason) = self.cinder_is_away() {
            return Examined::Away(reason);
        }
        let known = self.held(node).await;
        let mut faults = Vec::new();
        for target in targets {
            let ours = known.iter().find(|record| record.volume == target.volume_id);
            let ours = ours.and_then(|record| record.cinder_id.as_deref());
            let looked = async {
                let _turn = self.0.examining.acquire().await;
                worker.examine(&target.volume_id, ours).await
            };
            match timeout(SLOW, looked).await {
                Ok(Ok(())) => {}
                Ok(Err(Trouble::Refused(reason) | Trouble::Passing(reason))) => faults.push(reason),
                Ok(Err(Trouble::Away(reason))) => return Examined::Away(reason),
                Err(_) => return Examined::Away(format!("no answer within {} s", SLOW.as_secs())),
            }
        }
        Examined::Faults(faults)
    }
}

/// What looking at volumes without touching them brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Examined {
    /// What is in the way. Nothing, if nothing is.
    Faults(Vec<String>),
    /// Nobody could say, and why.
    Away(String),
}

impl Examined {
    /// In words for people.
    pub fn faults(self) -> Vec<String> {
        match self {
            Self::Faults(faults) => faults,
            Self::Away(reason) => vec![format!("Cinder is away: {reason}")],
        }
    }
}

/// What is wanted of each volume. One that two targets name is wanted once.
fn wants(wanted: &Wanted<'_>) -> Vec<Want> {
    let node = wanted.node;
    let ip = wanted.connectors.iter().find(|connector| connector.kind == "ip");
    // Ironic's rule of thumb: a node with an `iqn` and an `ip` connector has several paths. Who means it says so.
    let multipath = match node.capabilities().get("multipath") {
        Some(_) => node.capabilities().is_true("multipath"),
        None => ip.is_some(),
    };
    let connector = Connector {
        initiator: wanted.initiator.as_str().to_owned(),
        host: node.uuid.to_string(),
        ip: ip.map(|connector| connector.connector_id.clone()),
        multipath,
    };
    let mut wants: Vec<Want> = Vec::new();
    for target in wanted.targets {
        if wants.iter().all(|want| want.volume != target.volume_id) {
            wants.push(Want {
                node: node.uuid,
                volume: target.volume_id.clone(),
                target: target.uuid,
                read_only: read_only(&target.properties),
                connector: connector.clone(),
            });
        }
    }
    wants
}

/// `properties.access_mode` of a volume target, in Cinder's own words: `ro` or `rw`.
fn read_only(properties: &Properties) -> bool {
    properties.text("access_mode") == Some("ro")
}
