//! Attaches the Cinder volumes of nodes on their first boot request, and resolves their connections on every boot
//! request.
//!
//! | file | content |
//! |---|---|
//! | `request`, `resolution` | the volumes of a node, and the response |
//! | `single_flight`, `boot_session` | one resolution per boot session, shared by all retries |
//! | `resolver`, `queue`, `progress` | resolutions in background tasks: performed, limited, followed |
//! | `outcome`, `last_known` | the results of a resolution as the response to a boot request |
//! | `check` | validations and previews |
//! | `confirm`, `store_outage` | the response to a boot request while nothing can be written |
//! | `wait_notes` | the waiting time of a machine, for the next instance that it asks |
//! | `turns`, `share_watch` | the limit of concurrent resolutions over all instances |
//! | `permits` | limits of concurrent confirmations and checks |
//! | `reconciler`, `work_queue` | completes interrupted work, detaches, probes Cinder |
//! | `attacher` | the steps for one volume; their parts are `creation`, `export` and `detachment` |
//! | `existing`, `node_identity`, `borrowed` | attachments that another client created for the node |
//! | `steps` | the writes of a record between the Cinder calls |
//! | `monitored_cinder`, `backend_calls` | Cinder calls whose results reach the circuit breaker |
//! | `volume_status`, `error` | why a volume cannot be attached |
//! | `findings` | memory of exports after which no machine can boot |
//! | `breaker` | circuit breaker for Cinder and its backends |
//! | `claims`, `keyed_mutex` | one claim per volume of a node over all instances; its queue in this process |
//! | `repeat` | the result of another instance for the same boot attempt |
//! | `record_ages` | ages of records by this process's own clock |
//! | `state` | all else that tasks share |
//!
//! A boot request is held for at most [`RESPONSE_TIMEOUT`]. A longer resolution continues in the background, and the
//! machine's retry picks up the result. A machine boots from a fresh connection. If Cinder is *unavailable*, it boots
//! from the last known connection, provided that its record shows the volume as still attached. After a *refusal* it
//! never boots: two writers destroy a disk.
//!
//! Invariant: a record is written before the Cinder call that it describes, and deleted only after Cinder has agreed.
//! Hence any interrupted work can be completed from the records, by any instance. The work is claimed: each write requires
//! the claim, so an instance that lost its claim cannot write over its successor's work.

mod attacher;
mod backend_calls;
mod boot_session;
mod borrowed;
mod breaker;
mod check;
mod claims;
mod confirm;
mod creation;
mod detachment;
mod error;
mod existing;
mod export;
mod findings;
mod keyed_mutex;
mod last_known;
mod monitored_cinder;
mod node_identity;
mod outcome;
mod permits;
mod progress;
mod queue;
mod reconciler;
mod record_ages;
mod repeat;
mod request;
mod resolution;
mod resolver;
mod share_watch;
mod single_flight;
mod state;
mod steps;
mod store_outage;
mod turns;
mod volume_status;
mod wait_notes;
mod work_queue;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cinder::Cinder;
use crate::config::StoreOutagePolicy;
use crate::model::{Attachment, AttachmentState, Connection, ConnectionSource};
use crate::store::{Attachments, StoreError};
use error::Outage;
use last_known::find_last_known;
use outcome::{Outcome, SupersededResult};
use permits::Permits;
use progress::{Progress, VolumeResults};
use reconciler::Reconciler;
pub use record_ages::Windows;
pub use request::VolumeRequest;
pub use resolution::{Resolution, ResolvedVolume, VolumeCheck};
use resolver::Resolver;
use single_flight::{Delivery, Entry, SingleFlight};
use state::State;
pub use store_outage::StoreOutage;
use turns::TurnKeeper;

/// How long a boot request waits for its resolution before the machine is asked to retry.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a machine waits for a transient error to pass.
const MAX_TRANSIENT: Duration = Duration::from_secs(60);

/// The use of Cinder and of last known connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The maximum age of a last known connection while Cinder is unavailable. `None`: the node waits instead.
    pub last_known_max_age: Option<Duration>,
    /// Nodes that are resolved concurrently.
    pub resolutions: usize,
    /// What boots while the shared store does not respond.
    pub when_store_is_away: StoreOutagePolicy,
    /// The longest outage of the store in which machines boot.
    pub store_max_age: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            last_known_max_age: None,
            resolutions: 32,
            when_store_is_away: StoreOutagePolicy::default(),
            store_max_age: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Attaches Cinder volumes to nodes. Cheap to clone; clones share their state.
#[derive(Debug, Clone)]
pub struct Attach {
    state: Arc<State>,
    flights: Arc<SingleFlight>,
    resolver: Arc<Resolver>,
    permits: Arc<Permits>,
    /// Replaced on reload.
    policy: Arc<parking_lot::RwLock<Policy>>,
}

impl Attach {
    /// Works on these records. Without a Cinder, no volume can be attached.
    pub fn new(records: Attachments, cinder: Option<Cinder>, policy: Policy) -> Self {
        Self::with_windows(records, cinder, policy, Windows::default())
    }

    /// Like [`new`](Self::new), with other time limits.
    pub fn with_windows(
        records: Attachments,
        cinder: Option<Cinder>,
        policy: Policy,
        windows: Windows,
    ) -> Self {
        let state = Arc::new(State::new(records, cinder, windows));
        let flights = Arc::new(SingleFlight::default());
        let resolver = Resolver::new(Arc::clone(&state), Arc::clone(&flights), policy.resolutions);
        Self {
            state,
            flights,
            resolver: Arc::new(resolver),
            permits: Arc::default(),
            policy: Arc::new(parking_lot::RwLock::new(policy)),
        }
    }

    /// Replaces Cinder and policy, for a reload. Running resolutions keep the old ones.
    pub fn configure(&self, cinder: Option<Cinder>, policy: Policy) {
        self.resolver.set_limit(policy.resolutions);
        *self.policy.write() = policy;
        self.state.replace_cinder(cinder);
    }

    /// Whether a Cinder is configured.
    pub fn is_configured(&self) -> bool {
        self.state.is_configured()
    }

    /// Why Cinder is unavailable, if the endpoint circuit is open.
    pub fn cinder_outage(&self) -> Option<String> {
        self.state.outage()
    }

    /// The resolutions of this instance that wait for their turn.
    pub fn queue_length(&self) -> usize {
        self.resolver.queue().queued()
    }

    /// Drains running resolutions for at most `time_limit`. Queued resolutions do not start any more.
    pub async fn drain(&self, time_limit: Duration) {
        self.resolver.drain(time_limit).await;
    }

    /// Runs the reconciler, and shares the turns with other instances, until `stop` is cancelled.
    pub async fn reconcile(self, stop: CancellationToken) {
        let turns = TurnKeeper::new(Arc::clone(&self.state), self.resolver);
        let reconciler = Reconciler::new(self.state, self.flights);
        stop.run_until_cancelled(async { tokio::join!(reconciler.run(), turns.run()) }).await;
    }

    /// The attachment records of a node.
    pub async fn attachments(&self, node: Uuid) -> Vec<Attachment> {
        self.state.records.list_by_node(node).await.unwrap_or_default()
    }

    /// The first attachment record that fits, of all nodes, deleted ones included.
    pub async fn find_attachment(
        &self,
        fits: impl Fn(&Attachment) -> bool,
    ) -> Result<Option<Attachment>, StoreError> {
        self.state.records.find(fits).await
    }

    /// Resolves a node's volumes. Calls Cinder once per boot session and try, however often the machine retries, and
    /// continues if the machine disconnects.
    pub async fn resolve(&self, request: VolumeRequest<'_>) -> Resolution {
        let Some(cinder) = self.state.cinder() else {
            return outcome::refuse_without_cinder();
        };
        if let Some(obstacle) = self.find_write_obstacle(&request) {
            return self.confirm(cinder, &self.permits.confirmations, &request, &obstacle).await;
        }
        let node = request.node.uuid;
        let desired = request.desired_attachments();
        let context = request.context();
        let earlier_wait = self.find_earlier_wait(&request, &context).await;
        let queue = self.resolver.queue();
        let mut progress =
            match self.flights.enter(node, request.journey, desired, &queue, earlier_wait.as_ref()) {
                Entry::Joined(progress) => progress,
                Entry::Started(progress, resolution) => {
                    self.resolver.start(cinder.clone(), resolution, context);
                    progress
                }
                Entry::Full => return outcome::wait_for_capacity(),
            };
        // A refusal forgets the session.
        let is_noted = self.flights.is_noted(node);
        let resolution = match timeout(RESPONSE_TIMEOUT, progress.results()).await {
            Ok(Some(results)) => match self.find_write_obstacle(&request) {
                None => self.respond(&request, &progress, &results).await,
                // Since the start of the resolution.
                Some(obstacle) => {
                    self.confirm(cinder, &self.permits.confirmations, &request, &obstacle).await
                }
            },
            Ok(None) | Err(_) => match self.flights.expire_wait(node) {
                Some(reason) => Resolution::Refused(reason),
                None => outcome::wait_for_resolution(&progress),
            },
        };
        self.note_wait(node, &resolution, is_noted).await;
        resolution
    }

    /// The response once the resolution is done.
    async fn respond(
        &self,
        request: &VolumeRequest<'_>,
        progress: &Progress,
        results: &VolumeResults,
    ) -> Resolution {
        let node = request.node.uuid;
        if let Some(change) = self.find_change(node, results).await {
            self.flights.forget(node);
            return outcome::wait_after_change(change);
        }
        match Outcome::of(results) {
            Outcome::Refused(reason) => {
                self.flights.forget(node);
                Resolution::Refused(reason)
            }
            Outcome::Transient(reason) => {
                self.flights.mark_delivered(node, progress, Delivery::Incomplete);
                if self.flights.transient_duration(node) > MAX_TRANSIENT {
                    self.flights.forget(node);
                    let limit = MAX_TRANSIENT.as_secs();
                    let reason = format!("{reason}; the condition persisted for more than {limit} s");
                    return Resolution::Refused(reason);
                }
                outcome::wait_for_condition(reason)
            }
            // Each repeat asks again, as another instance may have finished.
            Outcome::Busy(reason) => {
                self.flights.mark_delivered(node, progress, Delivery::Incomplete);
                match self.flights.expire_wait(node) {
                    Some(reason) => Resolution::Refused(reason),
                    None => outcome::wait_for_work(reason),
                }
            }
            Outcome::Usable { resolved, outages } => {
                let mut volumes: HashMap<_, _> = resolved
                    .into_iter()
                    .map(|(volume, resolved)| (volume.to_owned(), resolved.clone()))
                    .collect();
                let mut missing = None;
                for (volume, outage) in outages {
                    match self.find_last_known(request, volume, Some(outage)).await {
                        Ok(last_known) => drop(volumes.insert(volume.to_owned(), last_known)),
                        Err(reason) => drop(missing.get_or_insert((outage, reason))),
                    }
                }
                let Some((outage, reason)) = missing else {
                    self.flights.mark_delivered(node, progress, Delivery::Complete);
                    return Resolution::Ready(volumes);
                };
                self.flights.mark_delivered(node, progress, Delivery::Incomplete);
                match self.flights.expire_wait(node) {
                    Some(reason) => Resolution::Refused(reason),
                    None => outcome::wait_for_cinder(outage, &reason),
                }
            }
        }
    }

    /// What became of the volumes after their resolution, if their connections no longer hold: a volume was taken from the
    /// node, or another instance has exported it again.
    async fn find_change(&self, node: Uuid, results: &VolumeResults) -> Option<SupersededResult> {
        for (volume, result) in results {
            let Ok(resolved) = result else { continue };
            let record = self.state.records.get(node, volume).await.ok().flatten().filter(|record| {
                record.state == AttachmentState::Attached && resolved.attachment == Some(record.id)
            });
            let Some(record) = record else { return Some(SupersededResult::Lost) };
            // An export for this boot has ended, so a pending one is another instance's.
            let is_exporting = record.pending_export && resolved.source == ConnectionSource::Cinder;
            let recorded =
                record.connection.as_ref().and_then(|recorded| Connection::from_cinder(recorded).ok());
            if is_exporting || recorded.as_ref() != Some(&resolved.connection) {
                return Some(SupersededResult::ExportedAgain);
            }
        }
        None
    }

    async fn find_last_known(
        &self,
        request: &VolumeRequest<'_>,
        volume: &str,
        outage: Option<&Outage>,
    ) -> Result<ResolvedVolume, String> {
        let max_age = self.policy.read().last_known_max_age;
        find_last_known(&self.state.records, max_age, request, volume, outage).await
    }
}
