//! A machine's question, and the one resolution that answers it however often it is repeated.
//!
//! A machine that waits asks the same again: same journey, same try. That is one *boot*, and nothing is asked of Cinder
//! twice for it. A question without a journey (somebody asks by hand) is a new boot each time, unless one is under way
//! or its answer was never fetched.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::breaker::Scope;
use super::obstacle::Trouble;
use super::volume::{Held, Want, Worker};
use super::{Attach, Found, KEPT, LONGEST_WAIT, MOST_RESOLVING, SLOW, Shared, Source, Turns, Wanted};
use crate::model::Connection;

/// A node's volumes that are asked for at the same time.
const VOLUMES_AT_ONCE: usize = 8;

/// What became of each volume.
pub(super) type Outcome = Vec<(String, Result<Found, Trouble>)>;

/// How far a resolution is.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    Queued(Ticket),
    Asking,
    Ended(Arc<Outcome>),
}

/// A place in the queue.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    number: u64,
    turns: Arc<Turns>,
}

impl Ticket {
    /// How many come before it, and itself.
    pub(super) fn place(&self) -> u64 {
        self.number.saturating_sub(self.turns.served.load(Relaxed)).max(1)
    }
}

/// A resolution that is under way, or has ended.
pub(super) type Resolving = watch::Receiver<Stage>;

fn has_ended(resolving: &Resolving) -> bool {
    // One whose task is gone will not go on either.
    matches!(*resolving.borrow(), Stage::Ended(_)) || resolving.has_changed().is_err()
}

/// What a node's machine asked last.
#[derive(Debug)]
pub(super) struct Asked {
    /// Its journey and try, if it has told them.
    journey: Option<(String, u32)>,
    /// What it is to have.
    wants: Vec<Want>,
    /// When it asked that first.
    began: Instant,
    /// When it asked last.
    seen: Instant,
    /// Since when it has been told to wait for what passes.
    passing_since: Option<Instant>,
    resolving: Resolving,
    /// Whether the machine has got what came of it.
    told: bool,
    /// Whether it has got all its volumes.
    satisfied: bool,
    /// What Cinder said for this boot, even if it was too late for the resolution that asked.
    learnt: HashMap<String, Found>,
}

impl Attach {
    /// The resolution of a machine's question: one that is there, or a new one. `None`: there are too many.
    pub(super) fn question(
        &self,
        worker: &Worker,
        wanted: &Wanted<'_>,
        wants: Vec<Want>,
    ) -> Option<Resolving> {
        let now = Instant::now();
        let journey = wanted.journey.map(|(journey, attempt)| (journey.to_owned(), attempt));
        let mut all = self.0.asked();
        if all.len() >= MOST_RESOLVING && !all.contains_key(&wanted.node.uuid) {
            return None;
        }
        let (mut began, mut passing_since, mut learnt) = (now, None, HashMap::new());
        if let Some(asked) = all.get_mut(&wanted.node.uuid).filter(|asked| asked.wants == wants) {
            let same = now.duration_since(asked.seen) < KEPT
                && asked.journey == journey
                && (journey.is_some() || !asked.satisfied);
            let running = !has_ended(&asked.resolving);
            if running && !same {
                // Another boot, which shares what has not been answered yet and nothing else.
                (asked.journey, asked.began, asked.passing_since) = (journey.clone(), now, None);
                asked.learnt.clear();
            }
            if running || (same && !asked.told) {
                asked.seen = now;
                return Some(asked.resolving.clone());
            }
            if same {
                (began, passing_since) = (asked.began, asked.passing_since);
                learnt = std::mem::take(&mut asked.learnt);
            }
        }
        let resolving = self.begin(worker.clone(), &wants, &learnt);
        let asked = Asked {
            journey,
            wants,
            began,
            seen: now,
            passing_since,
            resolving: resolving.clone(),
            told: false,
            satisfied: false,
            learnt,
        };
        all.insert(wanted.node.uuid, asked);
        Some(resolving)
    }

    /// Has the volumes resolved by a task of its own, which goes on when the machine is gone.
    fn begin(&self, worker: Worker, wants: &[Want], learnt: &HashMap<String, Found>) -> Resolving {
        let mut outcome: Outcome = Vec::new();
        let mut open = Vec::new();
        for want in wants {
            match learnt.get(&want.volume) {
                Some(found) => outcome.push((want.volume.clone(), Ok(found.clone()))),
                None => open.push(want.clone()),
            }
        }
        if open.is_empty() {
            return watch::channel(Stage::Ended(Arc::new(outcome))).1;
        }
        let turns = self.present().turns;
        let ticket = Ticket { number: turns.come.fetch_add(1, Relaxed) + 1, turns: Arc::clone(&turns) };
        let (told, stage) = watch::channel(Stage::Queued(ticket));
        let current = stage.clone();
        let shared = Arc::clone(&self.0);
        self.0.tasks.spawn(async move {
            let turn = tokio::select! {
                biased;
                reason = shared.breaker.opened() => Err(reason),
                turn = turns.permits.acquire() => turn.map_err(|_| "volboot is stopping".to_owned()),
            };
            turns.served.fetch_add(1, Relaxed);
            let answers: Outcome = match turn {
                Err(reason) => {
                    open.into_iter().map(|want| (want.volume, Err(Trouble::Away(reason.clone())))).collect()
                }
                Ok(_turn) => {
                    told.send_replace(Stage::Asking);
                    let each = open.into_iter().map(|want| resolve_one(&shared, &worker, want, &current));
                    stream::iter(each).buffer_unordered(VOLUMES_AT_ONCE).collect().await
                }
            };
            outcome.extend(answers);
            told.send_replace(Stage::Ended(Arc::new(outcome)));
        });
        stage
    }

    /// The machine has got what came of it: all its volumes, or not.
    pub(super) fn told(&self, node: Uuid, resolving: &Resolving, satisfied: bool) {
        if let Some(asked) = self.0.asked().get_mut(&node)
            && asked.resolving.same_channel(resolving)
        {
            asked.told = true;
            asked.satisfied = satisfied;
            if satisfied {
                asked.passing_since = None;
            }
        }
    }

    /// The machine was refused, or lost what it was about to be given: its next question is another.
    pub(super) fn forget(&self, node: Uuid) {
        let mut all = self.0.asked();
        if all.get(&node).is_some_and(|asked| has_ended(&asked.resolving)) {
            all.remove(&node);
        }
    }

    /// How long the machine has been told to wait for what passes.
    pub(super) fn passing_for(&self, node: Uuid) -> Duration {
        let now = Instant::now();
        let mut all = self.0.asked();
        let since = all.get_mut(&node).map(|asked| *asked.passing_since.get_or_insert(now));
        since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// Why the machine should wait no longer, if it has waited for long enough.
    pub(super) fn waited_too_long(&self, node: Uuid) -> Option<String> {
        let waited = self.0.asked().get(&node).map(|asked| asked.began.elapsed())?;
        (waited > LONGEST_WAIT).then(|| {
            self.forget(node);
            format!("gave up waiting for Cinder after {} minutes", waited.as_secs() / 60)
        })
    }

    /// Forgets what nobody has asked for a while.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let mut all = self.0.asked();
        all.retain(|_, asked| now.duration_since(asked.seen) < KEPT || !has_ended(&asked.resolving));
        // What a storm took is given back after it.
        let kept = all.len();
        all.shrink_to(2 * kept);
    }
}

impl Shared {
    fn asked(&self) -> MutexGuard<'_, HashMap<Uuid, Asked>> {
        // What is in it is whole between any two statements.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What Cinder has said for the question that is asked now.
    fn known(&self, want: &Want) -> Option<Found> {
        self.asked().get(&want.node)?.learnt.get(&want.volume).cloned()
    }

    /// Whether a resolution is still the one that the node's machine waits for.
    fn is_current(&self, want: &Want, resolving: &Resolving) -> bool {
        self.asked().get(&want.node).is_some_and(|asked| asked.resolving.same_channel(resolving))
    }

    /// Keeps what Cinder said, if it was asked for the boot that asks now.
    fn learnt(&self, want: &Want, asked_at: Instant, found: &Found) {
        if let Some(asked) = self.asked().get_mut(&want.node)
            && asked.began <= asked_at
            && asked.wants.contains(want)
        {
            asked.learnt.insert(want.volume.clone(), found.clone());
        }
    }
}

/// One volume. What takes too long goes on, and is kept for the next question; this one is told that Cinder is away.
async fn resolve_one(
    shared: &Arc<Shared>,
    worker: &Worker,
    want: Want,
    current: &Resolving,
) -> (String, Result<Found, Trouble>) {
    let volume = want.volume.clone();
    let began = Instant::now();
    let worker = Worker { heard: Arc::new(Mutex::new(began)), ..worker.clone() };
    let mut working = shared.tasks.spawn({
        let (shared, worker, want, current) = (Arc::clone(shared), worker.clone(), want, current.clone());
        async move {
            let _held = shared.locks.hold(want.node, &want.volume).await;
            // It may have come late for an earlier question of this boot, or be of no use to anybody by now.
            if let Some(found) = shared.known(&want) {
                return Ok(found);
            }
            if !shared.is_current(&want, &current) {
                return Err(Trouble::Away("the machine has asked again meanwhile".into()));
            }
            shared.breaker.check(&Scope::Endpoint).map_err(Trouble::Away)?;
            let Held { record, connection } = worker.resolve(&want).await?;
            let connection = Connection::try_from(&connection)
                .map_err(|error| Trouble::Refused(format!("volume {}: {error}", want.volume)))?;
            let took = began.elapsed();
            let found = Found { connection, source: Source::Cinder, took, held_by: Some(record) };
            shared.learnt(&want, began, &found);
            Ok(found)
        }
    });
    let found = tokio::select! {
        ended = &mut working => match ended {
            Ok(found) => found,
            Err(panicked) => Err(Trouble::Passing(format!("volboot failed: {panicked}"))),
        },
        () = worker.silence() => Err(Trouble::Away(format!("no answer within {} s", SLOW.as_secs()))),
    };
    (volume, found)
}
