//! What is left to be done when nobody asks: one task that reads the records and drives each to its end.
//!
//! * A volume that is no longer wanted is detached, tried again until Cinder agrees, across restarts.
//! * An export that was never answered is looked after: if it happened, it is completed; if not, it is asked for again,
//!   which also finds out whether a backend that did not answer is back.
//! * An attachment whose creation was broken off is adopted, or forgotten if there is none.
//! * While Cinder is away, one question after another finds out when it is back.
//!
//! It learns of work from the store's change feed, so whoever writes a record need not know it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::breaker::Scope;
use super::obstacle::{Trouble, refusal};
use super::volume::Worker;
use super::{Attach, Shared};
use crate::cinder::CinderError;
use crate::model::{Attachment, AttachmentState};

/// Records that are worked on at the same time.
const AT_ONCE: usize = 8;
/// The pauses after failures: the first, which doubles, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What a boot request has under way is its own for so long.
const LEAVE_ALONE: Duration = Duration::from_secs(10);
/// How often Cinder is asked whether it is back.
const PROBE_EVERY: Duration = Duration::from_secs(3);
/// How long the store is left alone after it failed.
const STORE_PAUSE: Duration = Duration::from_secs(5);

type Key = (Uuid, String);

/// When a record is looked at again.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
    failures: u32,
    running: bool,
    /// It was changed while somebody worked on it, and is to be looked at so long after that.
    again: Option<Duration>,
}

impl Due {
    fn after(pause: Duration) -> Self {
        Self { at: Instant::now() + pause, failures: 0, running: false, again: None }
    }

    fn failed(self) -> Self {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        Self { at: Instant::now() + pause, failures: self.failures.saturating_add(1), ..Self::after(pause) }
    }
}

/// Whether anything is left to be done about a record.
fn is_open(record: &Attachment) -> bool {
    record.state == AttachmentState::Detaching
        || record.state == AttachmentState::Intended
        || record.unanswered
}

impl Attach {
    /// Works until it is told to stop.
    pub async fn reconcile(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.work()).await;
    }

    async fn work(&self) {
        let mut due: HashMap<Key, Due> = HashMap::new();
        // From the beginning, which is all there is.
        let mut seen = 0;
        let mut running: JoinSet<(Key, bool)> = JoinSet::new();
        let mut housekeeping = tokio::time::interval(PROBE_EVERY);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut probes: JoinSet<()> = JoinSet::new();
        let mut was_away = false;
        loop {
            self.start(&mut due, &mut running);
            let next = due.values().filter(|due| !due.running).map(|due| due.at).min();
            let next = next.filter(|_| running.len() < AT_ONCE && self.is_configured());
            tokio::select! {
                changed = self.0.records.changed(seen) => match changed {
                    Ok((records, revision)) => {
                        seen = revision;
                        for record in records {
                            note(&mut due, &record);
                        }
                    }
                    Err(error) => {
                        tracing::error!(error = %error, "attachments cannot be read");
                        tokio::time::sleep(STORE_PAUSE).await;
                    }
                },
                Some(ended) = running.join_next() => {
                    if let Ok((key, done)) = ended {
                        match due.remove(&key) {
                            Some(Due { again: Some(wait), .. }) if done || wait.is_zero() => {
                                due.insert(key, Due::after(wait));
                            }
                            Some(left) if !done => drop(due.insert(key, left.failed())),
                            _ => {}
                        }
                    }
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                _ = housekeeping.tick() => {
                    self.sweep();
                    let is_away = self.cinder_is_away().is_some();
                    if was_away && !is_away {
                        // Whoever was put off because of that need not wait any longer.
                        for due in due.values_mut() {
                            (due.at, due.failures) = (Instant::now(), 0);
                        }
                    }
                    was_away = is_away;
                    while probes.try_join_next().is_some() {}
                    if probes.is_empty() {
                        probes.spawn(self.clone().look_for_cinder());
                    }
                }
            }
        }
    }

    fn start(&self, due: &mut HashMap<Key, Due>, running: &mut JoinSet<(Key, bool)>) {
        let Some(worker) = self.worker() else { return };
        let now = Instant::now();
        let mut ready: Vec<_> = due.iter_mut().filter(|(_, due)| !due.running && due.at <= now).collect();
        // Who has waited longest comes first, so that nobody waits for ever.
        ready.sort_by_key(|(_, due)| due.at);
        for (key, due) in ready.into_iter().take(AT_ONCE.saturating_sub(running.len())) {
            due.running = true;
            let (shared, worker, key) = (self.0.clone(), worker.clone(), key.clone());
            running.spawn(async move {
                // In a task of its own: should it panic, its record is tried again.
                let work = tokio::spawn({
                    let key = key.clone();
                    async move { finish(&shared, &worker, &key).await }
                });
                (key, work.await.unwrap_or(false))
            });
        }
    }

    /// While Cinder is away, asks it something that costs it little.
    async fn look_for_cinder(self) {
        let Some(worker) = self.worker() else { return };
        if let Ok(Some(_probe)) = self.0.breaker.ask(&Scope::Endpoint) {
            // The breaker is told by `told`; what was said does not matter.
            drop(worker.told(worker.cinder.ping().await));
        }
    }
}

fn key(record: &Attachment) -> Key {
    (record.node, record.volume.clone())
}

/// A record has changed: it is looked at when it is time, or no more.
fn note(due: &mut HashMap<Key, Due>, record: &Attachment) {
    let key = key(record);
    let wait = if record.state == AttachmentState::Detaching { Duration::ZERO } else { LEAVE_ALONE };
    match due.get_mut(&key) {
        // What is done about it may be about what it was before.
        Some(running) if running.running => running.again = is_open(record).then_some(wait),
        Some(_) if !is_open(record) => drop(due.remove(&key)),
        Some(due) => due.at = due.at.min(Instant::now() + wait),
        None if is_open(record) => drop(due.insert(key, Due::after(wait))),
        None => {}
    }
}

/// Does what is left to be done about a record. Returns whether nothing is left.
async fn finish(shared: &Shared, worker: &Worker, key: &Key) -> bool {
    let (node, volume) = key;
    // Whoever works on it does what is to be done, or leaves it to the next look.
    let Some(_held) = shared.locks.try_hold(*node, volume) else { return false };
    let record = match worker.records.get(*node, volume).await {
        Ok(Some(record)) if is_open(&record) => record,
        Ok(_) => return true,
        Err(error) => {
            tracing::error!(error = %error, "an attachment cannot be read");
            return false;
        }
    };
    if worker.breaker.check(&Scope::Endpoint).is_err() {
        return false;
    }
    let ended = match record.state {
        AttachmentState::Detaching => worker.detach(&record).await.map(|()| true),
        AttachmentState::Intended => worker.adopt(&record).await,
        AttachmentState::Reserved | AttachmentState::Attached => follow_up(worker, &record).await,
    };
    match ended {
        Ok(done) => done,
        Err(Trouble::Away(reason) | Trouble::Passing(reason) | Trouble::Refused(reason)) => {
            tracing::warn!(%node, volume, reason, state = ?record.state, "an attachment is not settled yet");
            false
        }
    }
}

/// An export was not answered: finds out whether it happened, and has it happen again in any case, because only an
/// export that is answered tells what is true now. It comes after whatever is still under way.
async fn follow_up(worker: &Worker, record: &Attachment) -> Result<bool, Trouble> {
    let Some(id) = &record.cinder_id else { return Ok(true) };
    let attachment = match worker.told(worker.cinder.attachment(id).await) {
        Ok(attachment) => attachment,
        Err(error) => return given_up(worker, record, error).await,
    };
    if attachment.status == "attaching" {
        // It happened: the machine may be running on it by now.
        if let Err(error) = worker.told(worker.cinder.complete(id).await) {
            return given_up(worker, record, error).await;
        }
    }
    let Some(connector) = &record.connector else { return Ok(true) };
    // If the backend is known not to answer, one of its volumes is enough to find out whether it does again.
    let scope = record.volume_type.clone().map(Scope::Backend);
    let _probe = match &scope {
        Some(scope) => worker.breaker.ask(scope).map_err(Trouble::Away)?,
        None => None,
    };
    if worker.export(record, connector).await?.is_none() {
        worker.forget_removed(record).await?;
    }
    Ok(true)
}

/// What is left of an attachment of which Cinder does not speak as it should: if it said no, nobody boots from it, and
/// if it is gone, so is its record.
async fn given_up(worker: &Worker, record: &Attachment, error: CinderError) -> Result<bool, Trouble> {
    if let CinderError::Away(reason) = error {
        return Err(Trouble::Away(reason));
    }
    worker.disown(record, record.unanswered).await?;
    match error {
        CinderError::Missing(_) => worker.forget_removed(record).await.map(|()| true),
        said_no => Err(refusal(&record.volume, said_no)),
    }
}
