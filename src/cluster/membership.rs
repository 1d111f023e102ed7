//! [`Membership`]: this process among the instances on its store.
//!
//! An instance that leaves the list of the store is followed on: it may have lost the store, and still answer machines.
//! While the store is away, the last list counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::challenge::Challenges;
use super::peer_state::{FORGET_AFTER, PeerState};
use super::secret::ClusterSecret;
use super::status::{InstanceStatus, MissingEvents};
use crate::model::{Announcement, InstanceName};
use crate::store::{Instance, Store, StoreError};
use crate::telemetry::ClusterReading;
use crate::timeline::Timeline;

/// Time for the other instances to read the last events before the process ends.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for which a session of this instance from before a restart may be listed.
const NAMESAKE_DELAY: Duration = Duration::from_secs(60);
/// Maximum number of other instances. Further ones are not followed.
const MAX_PEERS: usize = 32;

/// This process among the instances on its store. Cheap to clone: clones share their state.
#[derive(Debug, Clone)]
pub struct Membership(Arc<MembershipState>);

struct MembershipState {
    name: InstanceName,
    store: Arc<dyn Store>,
    timeline: Timeline,
    challenges: Challenges,
    secret: Mutex<Option<Arc<ClusterSecret>>>,
    announcement: Mutex<Announcement>,
    peers: Mutex<BTreeMap<InstanceName, PeerState>>,
    /// The ids of all sessions at the last list, also of this instance.
    sessions: watch::Sender<BTreeSet<String>>,
    /// Since when another instance with the name of this one is listed, and whether the log has told.
    namesake: Mutex<Option<(Instant, bool)>>,
    /// Cancelled once no further event will be recorded.
    closed: CancellationToken,
    #[cfg(test)]
    clock_skew: Mutex<SignedDuration>,
}

impl std::fmt::Debug for MembershipState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MembershipState").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Membership {
    /// This process, with its first announcement. Fails only without random numbers.
    pub fn new(
        name: InstanceName,
        store: Arc<dyn Store>,
        timeline: Timeline,
        announcement: Announcement,
    ) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(MembershipState {
            name,
            store,
            timeline,
            challenges: Challenges::new()?,
            secret: Mutex::default(),
            announcement: Mutex::new(announcement),
            peers: Mutex::default(),
            sessions: watch::Sender::default(),
            namesake: Mutex::default(),
            closed: CancellationToken::new(),
            #[cfg(test)]
            clock_skew: Mutex::new(SignedDuration::ZERO),
        })))
    }

    /// The name of this instance.
    pub fn name(&self) -> &InstanceName {
        &self.0.name
    }

    /// Changes the announcement; the other instances read it within seconds.
    pub fn update(&self, change: impl FnOnce(&mut Announcement)) {
        change(&mut self.0.announcement.lock());
    }

    /// Announces this instance, and lists the others. `needs_secret`: the secret of the cluster is read first.
    pub(super) async fn exchange_announcements(&self, needs_secret: bool) -> Result<(), StoreError> {
        let store = &self.0.store;
        if needs_secret && self.secret().is_none() {
            let secret = ClusterSecret::load(&**store).await?;
            *self.0.secret.lock() = Some(Arc::new(secret));
        }
        let announcement = self.0.announcement.lock().clone();
        let record =
            serde_json::to_vec(&announcement).map_err(|error| StoreError::Damaged(error.to_string()))?;
        store.cluster().announce(self.0.name.as_str(), record).await?;
        let instances = store.cluster().instances().await?;
        self.take_list(instances);
        Ok(())
    }

    /// The ids of all sessions on the store. A session that has ended leaves the list within seconds.
    pub fn sessions(&self) -> watch::Receiver<BTreeSet<String>> {
        self.0.sessions.subscribe()
    }

    /// Takes the list of live instances.
    fn take_list(&self, instances: Vec<Instance>) {
        let sessions = instances.iter().map(|instance| instance.session.clone()).collect();
        self.0.sessions.send_if_modified(|known| std::mem::replace(known, sessions) != *known);
        let progress = self.0.timeline.peer_progress();
        let mut peers = self.0.peers.lock();
        peers.values_mut().for_each(|peer| peer.is_registered = false);
        for (name, announcement) in self.read_announcements(instances) {
            if peers.len() >= MAX_PEERS && !peers.contains_key(&name) {
                continue;
            }
            let peer = peers.entry(name).or_insert_with(|| PeerState::new(announcement.clone()));
            peer.announcement = announcement;
            peer.is_registered = true;
        }
        peers.retain(|name, peer| peer.is_registered || !peer.is_over(progress.get(name.as_str())));
    }

    /// Starts a follower for each instance that has none at its present URL.
    pub(super) fn update_followers(&self, start: impl Fn(&InstanceName, &str) -> AbortHandle) {
        for (name, peer) in &mut *self.0.peers.lock() {
            let Some(url) = peer.announcement.url.clone() else { continue };
            if peer.follower.as_ref().is_some_and(|(known, _)| *known == url) {
                continue;
            }
            if let Some((_, follower)) = peer.follower.take() {
                follower.abort();
            }
            let follower = start(name, &url);
            peer.follower = Some((url, follower));
        }
    }

    /// The announcements of the other instances. An instance that has restarted may be listed twice: the newer one counts.
    fn read_announcements(&self, mut instances: Vec<Instance>) -> BTreeMap<InstanceName, Announcement> {
        instances.sort_by_key(|instance| instance.since);
        let mut announcements = BTreeMap::new();
        let mut has_namesake = false;
        for Instance { name, record, is_self, .. } in instances {
            has_namesake |= !is_self && name == self.0.name.as_str();
            if is_self || name == self.0.name.as_str() {
                continue;
            }
            if let (Ok(name), Ok(announcement)) = (name.parse(), serde_json::from_slice(&record)) {
                announcements.insert(name, announcement);
            } else {
                tracing::debug!(name, "skipped an unreadable announcement");
            }
        }
        self.log_namesake(has_namesake);
        announcements
    }

    /// Logs once that another instance has the name of this one. A session of this instance from before a restart ends
    /// within a minute.
    fn log_namesake(&self, is_listed: bool) {
        let mut namesake = self.0.namesake.lock();
        match &mut *namesake {
            _ if !is_listed => *namesake = None,
            None => *namesake = Some((Instant::now(), false)),
            Some((since, is_logged)) if !*is_logged && since.elapsed() >= NAMESAKE_DELAY => {
                *is_logged = true;
                tracing::error!(instance = %self.0.name, "another instance has this name; set [cluster] name");
            }
            Some(_) => {}
        }
    }

    /// Logs instances that went away or came back, and new differences.
    pub(super) fn log_changes(&self) {
        let own = self.0.announcement.lock().clone();
        for (instance, peer) in &mut *self.0.peers.lock() {
            let is_away = !peer.is_answering();
            if is_away && !peer.is_logged_away {
                let reason = peer.describe_problem();
                tracing::warn!(%instance, reason, "an instance does not answer: its events are missing");
            } else if !is_away && peer.is_logged_away {
                tracing::info!(%instance, "the instance answers again");
            }
            peer.is_logged_away = is_away;
            let differences = own.differences(&peer.announcement);
            if differences != peer.logged_differences {
                if differences.is_empty() {
                    tracing::info!(%instance, "the instance no longer differs from this one");
                } else {
                    let differences = differences.join(", ");
                    tracing::warn!(%instance, differences, "an instance differs from this one");
                }
            }
            peer.logged_differences = differences;
        }
    }

    /// All instances: this one, then the others by name.
    pub fn instances(&self) -> Vec<InstanceStatus> {
        let own = self.0.announcement.lock().clone();
        let progress = self.0.timeline.peer_progress();
        let status = |name: &InstanceName, announcement: &Announcement| InstanceStatus {
            name: name.clone(),
            is_self: true,
            version: announcement.version.clone(),
            started_at: announcement.started_at,
            url: announcement.url.clone(),
            conductor_group: announcement.group.to_string(),
            queue_length: announcement.queue_length,
            registered: true,
            answering: true,
            last_answer_at: None,
            problem: None,
            clock_offset_ms: None,
            events_lost_at: None,
            differences: Vec::new(),
        };
        let mut instances = vec![status(&self.0.name, &own)];
        for (name, peer) in &*self.0.peers.lock() {
            let answering = peer.is_answering();
            instances.push(InstanceStatus {
                is_self: false,
                registered: peer.is_registered,
                answering,
                last_answer_at: peer.last_answer.map(|(_, at)| at),
                problem: (!answering).then(|| peer.describe_problem()),
                clock_offset_ms: peer.clock_offset.map(|offset| offset.as_millis() as i64),
                events_lost_at: progress.get(name.as_str()).and_then(|progress| progress.gap_at),
                differences: own.differences(&peer.announcement),
                ..status(name, &peer.announcement)
            });
        }
        instances
    }

    /// The instances whose events may be missing from every timeline.
    pub fn missing_events(&self) -> Vec<MissingEvents> {
        let now = Timestamp::now();
        let progress = self.0.timeline.peer_progress();
        let peers = self.0.peers.lock();
        let silent = peers.iter().filter(|(name, peer)| {
            let is_complete = progress.get(name.as_str()).is_some_and(|progress| progress.is_complete);
            let is_gone = is_complete && !peer.is_registered;
            !peer.is_answering() && !is_gone
        });
        let mut missing: Vec<_> = silent
            .map(|(instance, peer)| MissingEvents {
                instance: instance.clone(),
                since: progress
                    .get(instance.as_str())
                    .map_or(peer.first_seen.1, |progress| progress.heard_at),
                reason: peer.describe_problem(),
            })
            .collect();
        // Instances that were gone before this process started.
        for (name, progress) in &progress {
            let Ok(instance) = name.parse::<InstanceName>() else { continue };
            let is_recent = now.duration_since(progress.heard_at) < FORGET_AFTER;
            if !peers.contains_key(&instance) && !progress.is_complete && is_recent {
                let reason = "it is not running, or has lost the store".to_owned();
                missing.push(MissingEvents { instance, since: progress.heard_at, reason });
            }
        }
        missing
    }

    /// The values of the metrics.
    pub fn reading(&self) -> ClusterReading {
        let instances = self.instances();
        let others = || instances.iter().filter(|instance| !instance.is_self);
        let lag = self.0.peers.lock().values().map(PeerState::silence).max();
        ClusterReading {
            instances: instances.iter().filter(|instance| instance.registered).count(),
            unreachable: self.missing_events().len(),
            differing: others().filter(|instance| !instance.differences.is_empty()).count(),
            lag: lag.unwrap_or_default(),
        }
    }

    /// No further event will be recorded: waits until the others have read the last ones, for a while.
    pub async fn bid_farewell(&self) {
        self.0.closed.cancel();
        let reading = async {
            loop {
                let is_read =
                    |peer: &PeerState| peer.has_all_events || !peer.is_answering() || !peer.is_registered;
                if self.0.peers.lock().values().all(is_read) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, reading).await;
        self.0.peers.lock().clear();
    }

    pub(super) fn timeline(&self) -> &Timeline {
        &self.0.timeline
    }

    pub(super) fn challenges(&self) -> &Challenges {
        &self.0.challenges
    }

    /// The secret of the cluster, once it is read from the store.
    pub(super) fn secret(&self) -> Option<Arc<ClusterSecret>> {
        self.0.secret.lock().clone()
    }

    pub(super) fn closed(&self) -> &CancellationToken {
        &self.0.closed
    }

    /// The time by this host's clock.
    #[cfg_attr(not(test), allow(clippy::unused_self, reason = "tests set the clock of each instance"))]
    pub(super) fn now(&self) -> Timestamp {
        #[cfg(test)]
        return Timestamp::now() + *self.0.clock_skew.lock();
        #[cfg(not(test))]
        Timestamp::now()
    }

    /// Ends the session and all followers, as the end of the process does.
    #[cfg(test)]
    pub(super) fn kill(&self) {
        use futures_util::FutureExt as _;
        self.0.peers.lock().clear();
        self.0.store.close().now_or_never().map(drop).unwrap_or_default();
    }

    #[cfg(test)]
    pub(super) fn set_clock_skew(&self, skew: SignedDuration) {
        *self.0.clock_skew.lock() = skew;
    }

    /// Another instance has answered.
    pub(super) fn note_answer(&self, peer: &InstanceName, clock_offset: SignedDuration) {
        if let Some(peer) = self.0.peers.lock().get_mut(peer) {
            peer.last_answer = Some((Instant::now(), Timestamp::now()));
            peer.problem = None;
            peer.clock_offset = Some(clock_offset);
        }
    }

    /// A request to another instance has failed.
    pub(super) fn note_failure(&self, peer: &InstanceName, problem: String) {
        if let Some(peer) = self.0.peers.lock().get_mut(peer) {
            peer.problem = Some(problem);
        }
    }

    /// Another instance has read all events of this one, which is shutting down.
    pub(super) fn note_complete(&self, peer: &InstanceName) {
        if let Some(peer) = self.0.peers.lock().get_mut(peer) {
            peer.has_all_events = true;
        }
    }
}
