//! What happened to each machine, joined from what the doors saw (step 11).
//!
//! [`Timeline`] takes [`Event`]s from every door by a bounded queue and never makes anybody wait: what does not fit is
//! counted, and lost. One thread ([`mod@keeper`]) joins them ([`mod@machines`]), tells them to whoever follows, and keeps
//! them in a file of its own ([`mod@history`]). How far a machine has come is [`Progress`]; what that means, in one
//! line, is its [`Verdict`].
//!
//! In memory there is only what lists need: some hundred bytes for each machine. Timelines are read from the file.

mod history;
mod keeper;
mod loops;
mod machines;
mod progress;
#[cfg(test)]
mod tests;
mod verdict;
mod words;

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::model::Mac;
use crate::telemetry::{Event, Metrics, What};
use history::History;
use keeper::{Job, Keeper};
use loops::Loops;
pub use loops::Paced;
use machines::{Bounds, Id, Machines, Track};
pub use machines::{Key, KeyError};
pub use progress::{Failure, Progress, Stage};
pub use verdict::{State, Verdict};
pub use words::{Entry, words};

/// Events that may wait to be joined. Beyond it they are lost.
const QUEUE: usize = 8192;
/// Events a follower may be behind. Beyond it, it is told that it missed some.
const BEHIND: usize = 1024;
/// How long the end waits for the last events to be written.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// What happened to each machine. Cheap to clone: every clone is the same.
#[derive(Debug, Clone)]
pub struct Timeline {
    shared: Arc<Shared>,
    jobs: SyncSender<Job>,
}

#[derive(Debug)]
struct Shared {
    machines: RwLock<Machines>,
    /// None if there is no file, or while it fails.
    history: RwLock<Option<History>>,
    /// Whether there is to be a file.
    kept: bool,
    told: broadcast::Sender<Arc<Told>>,
    waiting: AtomicUsize,
    lost: AtomicU64,
    metrics: Metrics,
    loops: Loops,
}

/// What followers are told: what happened, and what that makes of the machine.
#[derive(Debug, Clone, Serialize)]
pub struct Told {
    /// Whose event it is, and how it stands by now.
    pub machine: Machine,
    /// What happened.
    pub event: Entry,
}

/// A machine, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// By what it is known here: the card it boots through, or an address that nobody claimed.
    pub id: Key,
    /// The node it was recognised as last.
    pub node: Option<Uuid>,
    /// What that node was called then.
    pub name: Option<String>,
    /// Where it spoke from last.
    pub address: Option<IpAddr>,
    /// The firmware it said it has.
    pub platform: Option<String>,
    /// The build of iPXE it said it is.
    pub arch: Option<String>,
    /// Its UUID, as it says itself.
    pub uuid: Option<Uuid>,
    /// All cards it named.
    pub macs: Vec<Mac>,
    /// When it was first heard of.
    pub first_seen: Timestamp,
    /// When it was last heard of.
    pub last_seen: Timestamp,
    /// When its present journey began.
    pub began: Timestamp,
    /// Journeys in a row without a hooked volume.
    pub journeys: u32,
    /// What became of its last boot.
    pub verdict: Verdict,
}

impl Machine {
    /// Whether this text, in lower case, is in what it is called, where it is, or what became of it.
    pub fn mentions(&self, text: &str) -> bool {
        let is = |value: Option<String>| value.is_some_and(|value| value.to_lowercase().contains(text));
        is(Some(self.id.to_string()))
            || is(self.name.clone())
            || is(self.node.map(|node| node.to_string()))
            || is(self.address.map(|address| address.to_string()))
            || is(self.uuid.map(|uuid| uuid.to_string()))
            || is(Some(self.verdict.text.clone()))
            || self.macs.iter().any(|mac| mac.to_string().contains(text))
    }
}

impl Timeline {
    /// Timelines that are kept in a file, with what it holds already. A file that cannot be used is told of, and
    /// tried again later. `None`: nothing outlives the process.
    ///
    /// Blocks while the machines are read: some 50 ms for ten thousand.
    pub fn open(path: Option<&Path>, metrics: Metrics) -> Self {
        Self::bounded(path, metrics, Bounds::default())
    }

    fn bounded(path: Option<&Path>, metrics: Metrics, bounds: Bounds) -> Self {
        let mut machines = Machines::new(bounds);
        let opened = path.map(|path| {
            let history = History::open(path)?;
            history.load(&mut machines)?;
            Ok(history)
        });
        let history = opened.and_then(|opened| opened.inspect_err(keeper::complain).ok());
        let retry = history.is_none().then(Instant::now);
        let shared = Arc::new(Shared {
            machines: RwLock::new(machines),
            history: RwLock::new(history),
            kept: path.is_some(),
            told: broadcast::Sender::new(BEHIND),
            waiting: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            metrics,
            loops: Loops::default(),
        });
        let (jobs, todo) = sync_channel(QUEUE);
        let keeper = Keeper {
            shared: Arc::clone(&shared),
            path: path.map(Path::to_owned),
            retry,
            written: Instant::now(),
            unwritten: 0,
        };
        let spawned = std::thread::Builder::new().name("history".into()).spawn(move || keeper.run(todo));
        if let Err(error) = spawned {
            tracing::error!(%error, "there is no thread for the history: nothing is kept");
        }
        Self { shared, jobs }
    }

    /// Something happened. Counts it, and never waits.
    pub fn tell(&self, event: Event) {
        event.count(&self.shared.metrics);
        if let (Some(mac), What::Reported { step: Some(step), .. }) = (event.mac, &event.what)
            && matches!(step.as_ref(), "hooked" | "up")
        {
            self.shared.loops.ends(mac);
        }
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        if self.jobs.try_send(Job::Event(Box::new(event))).is_err() {
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A machine would be sent its script on this journey. Returns whether it has begun so often that it is to wait
    /// first.
    pub fn begins(&self, mac: Mac, journey: &str) -> Option<Paced> {
        self.shared.loops.begins(mac, journey, Instant::now())
    }

    /// Follows what happens from now on.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Told>> {
        self.shared.told.subscribe()
    }

    /// How many follow.
    pub fn followers(&self) -> usize {
        self.shared.told.receiver_count()
    }

    /// All machines that `keeps` wants to see, the one last heard of first.
    pub fn machines(&self, keeps: impl Fn(&Machine) -> bool) -> Vec<Machine> {
        let now = Timestamp::now();
        let machines = self.shared.machines.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<_> = machines.all().map(|track| machine(track, now)).filter(keeps).collect();
        drop(machines);
        found.sort_by(|a, b| b.last_seen.cmp(&a.last_seen).then(a.id.cmp(&b.id)));
        found
    }

    /// How many machines are in each state.
    pub fn count(&self) -> Vec<(State, usize)> {
        let now = Timestamp::now();
        let mut counts = State::ALL.map(|state| (state, 0));
        let machines = self.shared.machines.read().unwrap_or_else(PoisonError::into_inner);
        for track in machines.all() {
            let state = Verdict::of(&track.progress, now).state;
            counts.iter_mut().filter(|(other, _)| *other == state).for_each(|(_, count)| *count += 1);
        }
        counts.to_vec()
    }

    /// How many machines are known.
    pub fn len(&self) -> usize {
        self.shared.machines.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One machine.
    pub fn machine(&self, id: Key) -> Option<Machine> {
        let machines = self.shared.machines.read().unwrap_or_else(PoisonError::into_inner);
        machines.get(id).map(|(_, track)| machine(track, Timestamp::now()))
    }

    /// A machine's events, the oldest first.
    ///
    /// Blocks while they are read from the file: to be called where that does not matter.
    pub fn events_blocking(&self, id: Key) -> Vec<Event> {
        let Some((id, newer)) = self.unwritten(id) else { return Vec::new() };
        let history = self.shared.history.read().unwrap_or_else(PoisonError::into_inner);
        let written = history.as_ref().map(|history| history.events(id)).transpose();
        drop(history);
        let written = written.inspect_err(|error| tracing::error!(%error, "the history cannot be read"));
        let mut events: std::collections::BTreeMap<_, _> = written
            .ok()
            .flatten()
            .unwrap_or_default()
            .into_iter()
            .map(|(at, event)| (at, Some(event)))
            .collect();
        events.extend(newer);
        let mut events: Vec<Event> = events.into_values().flatten().collect();
        // What was moved here from an address came before what was here already.
        events.sort_by_key(|event| event.at);
        events
    }

    /// What the file does not hold yet of a machine.
    #[allow(clippy::type_complexity, reason = "numbers, and what stands there now")]
    fn unwritten(&self, key: Key) -> Option<(Id, Vec<(u64, Option<Event>)>)> {
        let machines = self.shared.machines.read().unwrap_or_else(PoisonError::into_inner);
        let (id, _) = machines.get(key)?;
        let range = (id, 0)..=(id, u64::MAX);
        let writing = machines.writing.events.range(range.clone());
        let newer = writing.chain(machines.waiting.events.range(range));
        Some((id, newer.map(|((_, at), event)| (*at, event.clone())).collect()))
    }

    /// Events that wait to be joined.
    pub fn queue(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Events that are in no file, since the start.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Whether what happens is kept as it should be.
    pub fn is_kept(&self) -> bool {
        !self.shared.kept || self.shared.history.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Writes what there is and closes the file, or gives up after a while.
    pub fn close_blocking(&self) {
        let (done, closed) = sync_channel(1);
        if self.jobs.send(Job::Close(done)).is_ok() {
            let _ = closed.recv_timeout(LAST_COMMIT);
        }
    }
}

fn machine(track: &Track, now: Timestamp) -> Machine {
    Machine {
        id: track.key,
        node: track.node,
        name: track.name.clone(),
        address: track.address,
        platform: track.platform.clone(),
        arch: track.arch.clone(),
        uuid: track.uuid,
        macs: track.macs.clone(),
        first_seen: track.first,
        last_seen: track.last,
        began: track.progress.began,
        journeys: track.progress.journeys,
        verdict: Verdict::of(&track.progress, now),
    }
}
