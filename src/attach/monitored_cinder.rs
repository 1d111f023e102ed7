//! [`MonitoredCinder`]: a client for Cinder that reports the result of each call to the circuit breaker.
//!
//! Calls that reach a backend are in `backend_calls`: their failures need a diagnosis first.
//!
//! The holder of a claim calls through [`MonitoredCinder::fenced`]. No call begins after the claim's deadline, and none
//! is waited for beyond it. Cinder knows no fencing, so a call that was sent may still take effect.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::breaker::{Breaker, CircuitScope};
use super::claims::HeldClaim;
use crate::cinder::{Cinder, CinderAttachment, CinderError, CinderVolume};
use crate::store::WritableStore;

/// How long Cinder may be silent before a machine boots from a last known connection.
pub(super) const CINDER_TIMEOUT: Duration = Duration::from_secs(5);

/// The reason after [`CINDER_TIMEOUT`] without a response.
pub(super) fn timeout_reason() -> String {
    format!("no answer within {} s", CINDER_TIMEOUT.as_secs())
}

/// When Cinder last responded to one sequence of calls. Clones share the time.
#[derive(Debug, Clone)]
pub(super) struct ResponseClock(Arc<Mutex<ResponseTime>>);

#[derive(Debug)]
struct ResponseTime {
    last_response: Instant,
    is_stopped: bool,
}

impl ResponseClock {
    fn start() -> Self {
        Self(Arc::new(Mutex::new(ResponseTime { last_response: Instant::now(), is_stopped: false })))
    }

    fn restart(&self) {
        self.0.lock().last_response = Instant::now();
    }

    /// Stops the clock while this waits: Cinder is not silent, it has not been asked.
    pub(super) async fn stop_during<T>(&self, wait: impl Future<Output = T>) -> T {
        self.0.lock().is_stopped = true;
        let result = wait.await;
        *self.0.lock() = ResponseTime { last_response: Instant::now(), is_stopped: false };
        result
    }

    /// Waits until Cinder has been silent for [`CINDER_TIMEOUT`]. The sequence of calls may take longer.
    pub(super) async fn wait_for_timeout(&self) {
        loop {
            let deadline = {
                let time = self.0.lock();
                let since = if time.is_stopped { Instant::now() } else { time.last_response };
                since + CINDER_TIMEOUT
            };
            if deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}

/// A client for Cinder that informs the circuit breaker. Each sequence of calls has its own, with its own clock.
#[derive(Debug, Clone)]
pub(super) struct MonitoredCinder {
    client: Cinder,
    breaker: Arc<Breaker>,
    clock: ResponseClock,
    /// The claims of the sequence.
    claims: Vec<Arc<HeldClaim>>,
}

impl MonitoredCinder {
    /// Starts the clock of a new sequence of calls.
    pub(super) fn new(client: Cinder, breaker: Arc<Breaker>) -> Self {
        Self { client, breaker, clock: ResponseClock::start(), claims: Vec::new() }
    }

    /// The same client with the same clock, for the holder of this claim.
    pub(super) fn fenced(&self, claim: &Arc<HeldClaim>) -> Self {
        let mut claims = self.claims.clone();
        claims.push(Arc::clone(claim));
        Self { claims, ..self.clone() }
    }

    /// Whether a claim of the sequence is lost. Its calls then fail without saying anything about Cinder.
    pub(super) fn has_lost_claim(&self) -> bool {
        self.claims.iter().any(|claim| claim.is_lost())
    }

    /// Sends a call within the deadlines of the claims.
    pub(super) async fn send<T>(
        &self,
        call: impl Future<Output = Result<T, CinderError>>,
    ) -> Result<T, CinderError> {
        let lost = || CinderError::Unavailable("the claim of the work was lost".into());
        if self.has_lost_claim() {
            return Err(lost());
        }
        let mut losses: FuturesUnordered<_> = self.claims.iter().map(|claim| claim.wait_for_loss()).collect();
        tokio::select! {
            biased;
            result = call => result,
            Some(()) = losses.next() => Err(lost()),
        }
    }

    /// The clock that every reported response restarts.
    pub(super) fn clock(&self) -> ResponseClock {
        self.clock.clone()
    }

    pub(super) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// The client itself, whose results are not reported: for reads that only explain an error, and for calls that
    /// the caller reports.
    pub(super) fn unmonitored(&self) -> &Cinder {
        &self.client
    }

    pub(super) async fn ping(&self) -> Result<(), CinderError> {
        self.report(self.send(self.client.ping()).await)
    }

    pub(super) async fn volume(&self, id: &str) -> Result<CinderVolume, CinderError> {
        self.report(self.send(self.client.volume(id)).await)
    }

    pub(super) async fn list_attachments(&self, volume: &str) -> Result<Vec<CinderAttachment>, CinderError> {
        self.report(self.send(self.client.list_attachments(volume)).await)
    }

    pub(super) async fn attachment(&self, id: &str) -> Result<CinderAttachment, CinderError> {
        self.report(self.send(self.client.attachment(id)).await)
    }

    pub(super) async fn reserve(
        &self,
        _store: WritableStore,
        volume: &str,
        read_only: bool,
    ) -> Result<String, CinderError> {
        self.report(self.send(self.client.reserve(volume, read_only)).await)
    }

    pub(super) async fn complete(&self, _store: WritableStore, id: &str) -> Result<(), CinderError> {
        self.report(self.send(self.client.complete(id)).await)
    }

    fn report<T>(&self, result: Result<T, CinderError>) -> Result<T, CinderError> {
        match &result {
            Err(CinderError::Unavailable(_)) if self.has_lost_claim() => {}
            Err(error @ (CinderError::Unavailable(_) | CinderError::Failed { .. })) => {
                self.breaker.record_failure(&error.to_string());
            }
            Ok(_) | Err(CinderError::NotFound(_) | CinderError::Refused { .. }) => self.report_response(),
        }
        result
    }

    /// Reports that Cinder responded. A refusal is a response too.
    pub(super) fn report_response(&self) {
        self.clock.restart();
        self.breaker.record_success(&CircuitScope::Endpoint);
    }
}
