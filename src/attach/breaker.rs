//! [`Breaker`]: who does not answer is not asked by everybody, one after another, for nothing.
//!
//! Counted apart: Cinder itself, and each kind of backend (volumes of one type), since one array that is dead must not
//! take the others with it. After [`FAILURES`] in a row it opens: who asks is told at once. A backend has failed only
//! if it did so for as many volumes: one that is broken by itself must not close the door to its siblings. Somebody in
//! the background goes on asking (`reconcile`), and the first answer closes it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// So many failures in a row are no accident.
const FAILURES: usize = 3;
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

#[derive(Debug, Default)]
struct Failing {
    in_a_row: usize,
    /// The volumes it failed for; at most [`FAILURES`].
    volumes: HashSet<String>,
    open: bool,
    reason: String,
    /// Somebody is finding out whether it answers again.
    probed: bool,
}

/// Whether Cinder and what is behind it answer.
#[derive(Debug)]
pub(super) struct Breaker {
    failing: Mutex<HashMap<Scope, Failing>>,
    /// Why Cinder is not asked at all, for those who stand in a queue for it.
    closed_to_all: watch::Sender<Option<String>>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failing: Mutex::default(), closed_to_all: watch::Sender::new(None) }
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

    /// Whether some backend is not asked: then it matters on which a volume is.
    pub(super) fn some_backend_is_away(&self) -> bool {
        self.failing().iter().any(|(scope, failing)| failing.open && *scope != Scope::Endpoint)
    }

    /// Cinder did not answer.
    pub(super) fn failed(&self, reason: &str) {
        self.count(Scope::Endpoint, None, reason);
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
        let failing = all.entry(scope.clone()).or_default();
        failing.in_a_row = failing.in_a_row.saturating_add(1);
        reason.clone_into(&mut failing.reason);
        if let Some(volume) = volume.filter(|_| failing.volumes.len() < FAILURES) {
            failing.volumes.insert(volume.to_owned());
        }
        let enough = volume.map_or(failing.in_a_row, |_| failing.volumes.len()) >= FAILURES;
        if failing.open || !enough {
            return;
        }
        failing.open = true;
        tracing::warn!(?scope, reason, "does not answer: nobody is made to wait for it until it does");
        if scope == Scope::Endpoint {
            self.closed_to_all.send_replace(Some(reason.to_owned()));
        }
    }

    /// It answered, whatever it said.
    pub(super) fn answered(&self, scope: &Scope) {
        if self.failing().remove(scope).is_some_and(|failing| failing.open) {
            tracing::info!(?scope, "answers again");
            if *scope == Scope::Endpoint {
                self.closed_to_all.send_replace(None);
            }
        }
    }

    /// Takes it on to find out whether it answers again; `None` if it answers, or another does so already.
    pub(super) fn probe(&self, scope: &Scope) -> Option<Probe<'_>> {
        let mut all = self.failing();
        let failing = all.get_mut(scope).filter(|failing| failing.open && !failing.probed)?;
        failing.probed = true;
        Some(Probe { breaker: self, scope: scope.clone() })
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
            failing.probed = false;
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

    #[test]
    fn one_at_a_time_finds_out_whether_it_answers_again() {
        let breaker = Breaker::default();
        assert!(breaker.probe(&Scope::Endpoint).is_none(), "it answers");
        for _ in 0..FAILURES {
            breaker.failed("no answer");
        }
        let probe = breaker.probe(&Scope::Endpoint);
        assert!(probe.is_some());
        assert!(breaker.probe(&Scope::Endpoint).is_none());
        drop(probe);
        assert!(breaker.probe(&Scope::Endpoint).is_some());
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
