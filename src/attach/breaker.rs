//! [`Breaker`]: circuit breaker for Cinder's API and for each volume backend.
//!
//! Cinder and each backend (the volumes of one type) have separate circuits, so that one dead array does not affect
//! the others. A circuit opens after [`FAILURE_THRESHOLD`] failures in a row; requests then fail at once. Failures of
//! a backend count only for different volumes, so a single broken volume does not block its siblings. A background
//! task (`reconciler`) probes an open circuit, and the first response closes it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::Instant;

/// Failures in a row that open a circuit.
const FAILURE_THRESHOLD: usize = 3;
/// Failures further apart than this are unrelated.
const FAILURE_WINDOW: Duration = Duration::from_secs(120);
/// After a response to any caller, Cinder counts as slow rather than unavailable for this long.
const RECENT_SUCCESS: Duration = Duration::from_secs(3);
/// The pause between the end of a probe and the next probe.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// The limit of circuits. A cloud has about a dozen backends.
const MAX_CIRCUITS: usize = 256;

/// What a circuit protects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum CircuitScope {
    /// Cinder's API, and Keystone, which provides the tokens for Cinder.
    Endpoint,
    /// The backend of a volume type.
    Backend(String),
}

/// A circuit with recent failures. A circuit without failures has no entry.
#[derive(Debug)]
struct Circuit {
    consecutive_failures: usize,
    /// The volumes that failed, at most [`FAILURE_THRESHOLD`].
    volumes: HashSet<String>,
    is_open: bool,
    reason: String,
    last_failure: Instant,
    /// Whether a probe is running, and when the last one started or ended.
    probe: (bool, Instant),
}

impl Circuit {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            consecutive_failures: 0,
            volumes: HashSet::new(),
            is_open: false,
            reason: String::new(),
            last_failure: now,
            probe: (false, now),
        }
    }
}

/// The circuits of Cinder and its backends.
#[derive(Debug)]
pub(super) struct Breaker {
    circuits: Mutex<HashMap<CircuitScope, Circuit>>,
    /// When Cinder last responded to any caller.
    last_response: Mutex<Option<Instant>>,
    /// Why the endpoint circuit is open; queued resolutions watch this.
    outage: watch::Sender<Option<String>>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { circuits: Mutex::default(), last_response: Mutex::default(), outage: watch::Sender::new(None) }
    }
}

impl Breaker {
    /// Fails with the reason if the circuit is open.
    pub(super) fn check(&self, scope: &CircuitScope) -> Result<(), String> {
        match self.lock_circuits().get(scope) {
            Some(circuit) if circuit.is_open => Err(circuit.reason.clone()),
            _ => Ok(()),
        }
    }

    /// Like [`check`](Self::check), but lets one caller per interval through an open circuit as a probe. No other
    /// caller passes while the probe is held.
    pub(super) fn try_probe(&self, scope: &CircuitScope) -> Result<Option<CircuitProbe<'_>>, String> {
        let mut circuits = self.lock_circuits();
        match circuits.get_mut(scope) {
            Some(circuit) if circuit.is_open => match circuit.probe {
                (false, last_probe) if last_probe.elapsed() >= PROBE_INTERVAL => {
                    circuit.probe = (true, Instant::now());
                    Ok(Some(CircuitProbe { breaker: self, scope: scope.clone() }))
                }
                _ => Err(circuit.reason.clone()),
            },
            _ => Ok(None),
        }
    }

    /// Whether the circuit of any backend is open. Only then does the type of a volume matter.
    pub(super) fn has_open_backend(&self) -> bool {
        self.lock_circuits()
            .iter()
            .any(|(scope, circuit)| circuit.is_open && *scope != CircuitScope::Endpoint)
    }

    /// Counts a failure of Cinder.
    pub(super) fn record_failure(&self, reason: &str) {
        self.count_failure(CircuitScope::Endpoint, None, reason);
    }

    /// Counts a time-out of Cinder, unless Cinder responded to another caller recently.
    pub(super) fn record_timeout(&self, reason: &str) {
        let last_response = *self.last_response.lock();
        if last_response.is_none_or(|at| at.elapsed() > RECENT_SUCCESS) {
            self.record_failure(reason);
        }
    }

    /// Counts a failure of the backend of a volume type, for one volume.
    pub(super) fn record_backend_failure(&self, volume_type: &str, volume: &str, reason: &str) {
        self.count_failure(CircuitScope::Backend(volume_type.to_owned()), Some(volume), reason);
    }

    fn count_failure(&self, scope: CircuitScope, volume: Option<&str>, reason: &str) {
        let mut circuits = self.lock_circuits();
        if circuits.len() >= MAX_CIRCUITS && !circuits.contains_key(&scope) {
            return;
        }
        let circuit = circuits.entry(scope.clone()).or_insert_with(Circuit::new);
        if !circuit.is_open && circuit.last_failure.elapsed() > FAILURE_WINDOW {
            *circuit = Circuit::new();
        }
        circuit.last_failure = Instant::now();
        circuit.consecutive_failures = circuit.consecutive_failures.saturating_add(1);
        reason.clone_into(&mut circuit.reason);
        if let Some(volume) = volume.filter(|_| circuit.volumes.len() < FAILURE_THRESHOLD) {
            circuit.volumes.insert(volume.to_owned());
        }
        let failures = volume.map_or(circuit.consecutive_failures, |_| circuit.volumes.len());
        if circuit.is_open || failures < FAILURE_THRESHOLD {
            return;
        }
        (circuit.is_open, circuit.probe) = (true, (false, Instant::now()));
        tracing::warn!(?scope, reason, "circuit breaker opened");
        if scope == CircuitScope::Endpoint {
            self.outage.send_replace(Some(reason.to_owned()));
        }
    }

    /// Closes the circuit after any response, errors included.
    pub(super) fn record_success(&self, scope: &CircuitScope) {
        if *scope == CircuitScope::Endpoint {
            *self.last_response.lock() = Some(Instant::now());
        }
        if self.lock_circuits().remove(scope).is_some_and(|circuit| circuit.is_open) {
            tracing::info!(?scope, "circuit breaker closed");
            if *scope == CircuitScope::Endpoint {
                self.outage.send_replace(None);
            }
        }
    }

    /// Closes all circuits, for a new Cinder configuration.
    pub(super) fn reset(&self) {
        self.lock_circuits().clear();
        self.outage.send_replace(None);
    }

    /// Waits until the endpoint circuit is open; returns the reason.
    pub(super) async fn wait_until_open(&self) -> String {
        let mut outage = self.outage.subscribe();
        let reason = outage.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| reason.clone()).unwrap_or_default()
    }

    fn lock_circuits(&self) -> MutexGuard<'_, HashMap<CircuitScope, Circuit>> {
        self.circuits.lock()
    }
}

/// A running probe of an open circuit. Dropping the probe permits the next.
pub(super) struct CircuitProbe<'a> {
    breaker: &'a Breaker,
    scope: CircuitScope,
}

impl Drop for CircuitProbe<'_> {
    fn drop(&mut self) {
        if let Some(circuit) = self.breaker.lock_circuits().get_mut(&self.scope) {
            circuit.probe = (false, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_consecutive_failures_and_closes_on_the_first_response() {
        let breaker = Breaker::default();
        for _ in 1..FAILURE_THRESHOLD {
            breaker.record_failure("no answer");
            assert_eq!(breaker.check(&CircuitScope::Endpoint), Ok(()));
        }
        breaker.record_failure("no answer");
        assert_eq!(breaker.check(&CircuitScope::Endpoint), Err("no answer".into()));
        breaker.record_success(&CircuitScope::Endpoint);
        breaker.record_failure("no answer");
        assert_eq!(breaker.check(&CircuitScope::Endpoint), Ok(()), "the count starts again");
    }

    #[test]
    fn a_dead_backend_does_not_affect_the_others() {
        let breaker = Breaker::default();
        for volume in ["a", "b", "c"] {
            assert!(!breaker.has_open_backend());
            breaker.record_backend_failure("dead", volume, "no answer");
        }
        assert!(breaker.check(&CircuitScope::Backend("dead".into())).is_err());
        assert!(breaker.has_open_backend());
        assert_eq!(breaker.check(&CircuitScope::Backend("alive".into())), Ok(()));
        assert_eq!(breaker.check(&CircuitScope::Endpoint), Ok(()));
    }

    #[test]
    fn a_broken_volume_does_not_open_the_circuit_of_its_backend() {
        let breaker = Breaker::default();
        for _ in 0..20 {
            breaker.record_backend_failure("chap", "broken", "Cinder returned 500");
        }
        assert_eq!(breaker.check(&CircuitScope::Backend("chap".into())), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn probes_run_one_at_a_time() {
        let breaker = Breaker::default();
        assert!(matches!(breaker.try_probe(&CircuitScope::Endpoint), Ok(None)), "the circuit is closed");
        for _ in 0..FAILURE_THRESHOLD {
            breaker.record_failure("no answer");
        }
        assert!(breaker.try_probe(&CircuitScope::Endpoint).is_err(), "the circuit has just opened");
        tokio::time::advance(PROBE_INTERVAL).await;
        let probe = breaker.try_probe(&CircuitScope::Endpoint);
        assert!(matches!(probe, Ok(Some(_))));
        tokio::time::advance(PROBE_INTERVAL).await;
        assert!(breaker.try_probe(&CircuitScope::Endpoint).is_err(), "a probe is running");
        drop(probe);
        tokio::time::advance(PROBE_INTERVAL).await;
        assert!(matches!(breaker.try_probe(&CircuitScope::Endpoint), Ok(Some(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_far_apart_do_not_open_the_circuit() {
        let breaker = Breaker::default();
        for volume in ["a", "b", "c", "d"] {
            breaker.record_backend_failure("chap", volume, "no answer");
            tokio::time::advance(FAILURE_WINDOW * 2).await;
        }
        assert_eq!(breaker.check(&CircuitScope::Backend("chap".into())), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_soon_after_a_response_does_not_count() {
        let breaker = Breaker::default();
        breaker.record_success(&CircuitScope::Endpoint);
        for _ in 0..FAILURE_THRESHOLD {
            breaker.record_timeout("no answer");
        }
        assert_eq!(breaker.check(&CircuitScope::Endpoint), Ok(()));
        tokio::time::advance(RECENT_SUCCESS * 2).await;
        for _ in 0..FAILURE_THRESHOLD {
            breaker.record_timeout("no answer");
        }
        assert!(breaker.check(&CircuitScope::Endpoint).is_err());
    }

    #[tokio::test]
    async fn waiters_are_notified_when_the_circuit_opens() {
        let breaker = std::sync::Arc::new(Breaker::default());
        let waiter = tokio::spawn({
            let breaker = breaker.clone();
            async move { breaker.wait_until_open().await }
        });
        for _ in 0..FAILURE_THRESHOLD {
            breaker.record_failure("no answer");
        }
        assert_eq!(waiter.await.expect("the waiter does not panic"), "no answer");
    }
}
