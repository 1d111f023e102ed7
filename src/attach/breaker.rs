//! [`Breaker`]: who does not answer is not asked by everybody, one after another, for nothing.
//!
//! Counted apart: Cinder itself, and each kind of backend (volumes of one type), since one array that is dead must not
//! take the others with it. After [`FAILURES`] in a row it opens: who asks is told at once. A backend has failed only
//! if it did so for as many volumes: one that is broken by itself must not close the door to its siblings. Somebody in
//! the background goes on asking (`reconcile`), and the first answer closes it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// So many failures in a row are no accident.
const FAILURES: usize = 3;
/// Failures that are further apart than this have nothing to do with one another.
const APART: Duration = Duration::from_secs(120);
/// Who answered somebody else within this time is slow, not away.
const LIVES: Duration = Duration::from_secs(3);
/// How long nobody finds out anew after somebody did.
const BETWEEN_PROBES: Duration = Duration::from_secs(5);
/// Kinds of backends that are remembered. A cloud has a dozen.
const MOST_SCOPES: usize = 256;

/// What can be away by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// Cinder's API, or Keystone, without which it cannot be asked.
    Endpoint,
    /// What is behind volumes of this type.
    Backend(String),
}

#[derive(Debug)]
struct Failing {
    in_a_row: usize,
    /// The volumes it failed for; at most [`FAILURES`].
    volumes: HashSet<String>,
    open: bool,
    reason: String,
    last: Instant,
    /// Somebody is finding out whether it answers again, or did at that time.
    probed: (bool, Instant),
}

impl Failing {
    fn new() -> Self {
        let now = Instant::now();
        let (volumes, reason) = Default::default();
        Self { in_a_row: 0, volumes, open: false, reason, last: now, probed: (false, now) }
    }
}

/// Whether Cinder and what is behind it answer.
#[derive(Debug)]
pub(super) struct Breaker {
    failing: Mutex<HashMap<Scope, Failing>>,
    /// When Cinder last answered anybody.
    answered: Mutex<Option<Instant>>,
    /// Why Cinder is not asked at all, for those who stand in a queue for it.
    closed_to_all: watch::Sender<Option<String>>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failing: Mutex::default(),
            answered: Mutex::default(),
            closed_to_all: watch::Sender::new(None),
        }
    }
}

impl Breaker {
    /// Whether it makes sense to ask; else why not.
    pub(super) fn check(&self, scope: &Scope) -> Result<(), String> {
        match self.failing().get(scope) {
            Some(failing) if failing.open => Err(failing.reason.clone()),
            _ => Ok(()),
        }
    }

    /// The same, but now and then one is let through to find out: nobody else is while it holds the probe.
    pub(super) fn ask(&self, scope: &Scope) -> Result<Option<Probe<'_>>, String> {
        let mut all = self.failing();
        match all.get_mut(scope) {
            Some(failing) if failing.open => match failing.probed {
                (false, last) if last.elapsed() >= BETWEEN_PROBES => {
                    failing.probed = (true, Instant::now());
                    Ok(Some(Probe { breaker: self, scope: scope.clone() }))
                }
                _ => Err(failing.reason.clone()),
            },
            _ => Ok(None),
        }
    }

    /// Whether some backend is not asked: then it matters on which a volume is.
    pub(super) fn some_backend_is_away(&self) -> bool {
        self.failing().iter().any(|(scope, failing)| failing.open && *scope != Scope::Endpoint)
    }

    /// Cinder did not answer.
    pub(super) fn failed(&self, reason: &str) {
        self.count(Scope::Endpoint, None, reason);
    }

    /// Cinder did not answer within a moment: that counts unless it answers others.
    pub(super) fn silent(&self, reason: &str) {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.is_none_or(|answered| answered.elapsed() > LIVES) {
            self.failed(reason);
        }
    }

    /// What is behind volumes of a type did not, for one of them.
    pub(super) fn failed_for(&self, kind: &str, volume: &str, reason: &str) {
        self.count(Scope::Backend(kind.to_owned()), Some(volume), reason);
    }

    fn count(&self, scope: Scope, volume: Option<&str>, reason: &str) {
        let mut all = self.failing();
        if all.len() >= MOST_SCOPES && !all.contains_key(&scope) {
            return;
        }
        let failing = all.entry(scope.clone()).or_insert_with(Failing::new);
        if !failing.open && failing.last.elapsed() > APART {
            *failing = Failing::new();
        }
        failing.last = Instant::now();
        failing.in_a_row = failing.in_a_row.saturating_add(1);
        reason.clone_into(&mut failing.reason);
        if let Some(volume) = volume.filter(|_| failing.volumes.len() < FAILURES) {
            failing.volumes.insert(volume.to_owned());
        }
        let enough = volume.map_or(failing.in_a_row, |_| failing.volumes.len()) >= FAILURES;
        if failing.open || !enough {
            return;
        }
        (failing.open, failing.probed) = (true, (false, Instant::now()));
        tracing::warn!(?scope, reason, "does not answer: nobody is made to wait for it until it does");
        if scope == Scope::Endpoint {
            self.closed_to_all.send_replace(Some(reason.to_owned()));
        }
    }

    /// It answered, whatever it said.
    pub(super) fn answered(&self, scope: &Scope) {
        if *scope == Scope::Endpoint {
            *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        if self.failing().remove(scope).is_some_and(|failing| failing.open) {
            tracing::info!(?scope, "answers again");
            if *scope == Scope::Endpoint {
                self.closed_to_all.send_replace(None);
            }
        }
    }

    /// Forgets everything: it is another Cinder from now on.
    pub(super) fn reset(&self) {
        self.failing().clear();
        self.closed_to_all.send_replace(None);
    }

    /// Waits until Cinder is not asked at all; returns why.
    pub(super) async fn opened(&self) -> String {
        let mut closed = self.closed_to_all.subscribe();
        let opened = closed.wait_for(Option::is_some).await;
        opened.ok().and_then(|reason| reason.clone()).unwrap_or_default()
    }

    fn failing(&self) -> MutexGuard<'_, HashMap<Scope, Failing>> {
        // What is in it is whole between any two statements.
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody is asking in the background; until this is dropped, nobody else does.
pub(super) struct Probe<'a> {
    breaker: &'a Breaker,
    scope: Scope,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let Some(failing) = self.breaker.failing().get_mut(&self.scope) {
            failing.probed = (false, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_the_first_answer_closes_it() {
        let breaker = Breaker::default();
        for _ in 1..FAILURES {
            breaker.failed("no answer");
            assert_eq!(breaker.check(&Scope::Endpoint), Ok(()));
        }
        breaker.failed("no answer");
        assert_eq!(breaker.check(&Scope::Endpoint), Err("no answer".into()));
        breaker.answered(&Scope::Endpoint);
        breaker.failed("no answer");
        assert_eq!(breaker.check(&Scope::Endpoint), Ok(()), "it counts from the beginning");
    }

    #[test]
    fn one_backend_does_not_take_the_others_with_it() {
        let breaker = Breaker::default();
        for volume in ["a", "b", "c"] {
            assert!(!breaker.some_backend_is_away());
            breaker.failed_for("dead", volume, "no answer");
        }
        assert!(breaker.check(&Scope::Backend("dead".into())).is_err());
        assert!(breaker.some_backend_is_away());
        assert_eq!(breaker.check(&Scope::Backend("alive".into())), Ok(()));
        assert_eq!(breaker.check(&Scope::Endpoint), Ok(()));
    }

    #[test]
    fn one_volume_that_is_broken_does_not_take_its_siblings_with_it() {
        let breaker = Breaker::default();
        for _ in 0..20 {
            breaker.failed_for("chap", "broken", "Cinder answers 500");
        }
        assert_eq!(breaker.check(&Scope::Backend("chap".into())), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_finds_out_whether_it_answers_again() {
        let breaker = Breaker::default();
        assert!(matches!(breaker.ask(&Scope::Endpoint), Ok(None)), "it answers");
        for _ in 0..FAILURES {
            breaker.failed("no answer");
        }
        assert!(breaker.ask(&Scope::Endpoint).is_err(), "everybody has just found out");
        tokio::time::advance(BETWEEN_PROBES).await;
        let probe = breaker.ask(&Scope::Endpoint);
        assert!(matches!(probe, Ok(Some(_))));
        tokio::time::advance(BETWEEN_PROBES).await;
        assert!(breaker.ask(&Scope::Endpoint).is_err(), "one at a time");
        drop(probe);
        tokio::time::advance(BETWEEN_PROBES).await;
        assert!(matches!(breaker.ask(&Scope::Endpoint), Ok(Some(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_that_are_far_apart_are_no_sign_of_anything() {
        let breaker = Breaker::default();
        for volume in ["a", "b", "c", "d"] {
            breaker.failed_for("chap", volume, "no answer");
            tokio::time::advance(APART * 2).await;
        }
        assert_eq!(breaker.check(&Scope::Backend("chap".into())), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_others_is_slow_and_not_away() {
        let breaker = Breaker::default();
        breaker.answered(&Scope::Endpoint);
        for _ in 0..FAILURES {
            breaker.silent("no answer");
        }
        assert_eq!(breaker.check(&Scope::Endpoint), Ok(()));
        tokio::time::advance(LIVES * 2).await;
        for _ in 0..FAILURES {
            breaker.silent("no answer");
        }
        assert!(breaker.check(&Scope::Endpoint).is_err());
    }

    #[tokio::test]
    async fn who_stands_in_the_queue_is_told() {
        let breaker = std::sync::Arc::new(Breaker::default());
        let waiting = tokio::spawn({
            let breaker = breaker.clone();
            async move { breaker.opened().await }
        });
        for _ in 0..FAILURES {
            breaker.failed("no answer");
        }
        assert_eq!(waiting.await.expect("runs"), "no answer");
    }
}
