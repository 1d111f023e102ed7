//! Reports the result of each Cinder call to the circuit breaker, and finds out whether Cinder or a backend failed.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::CINDER_TIMEOUT;
use super::breaker::CircuitScope;
use super::volume::AttachmentWorker;
use crate::cinder::{self, CinderError};
use crate::model::Attachment;

/// The time limit of a diagnosis.
const DIAGNOSIS_TIMEOUT: Duration = Duration::from_secs(2);

impl AttachmentWorker {
    /// Finds out, after a backend call without a response, whether Cinder is unavailable or only the backend.
    pub(super) async fn diagnose(&self, record: &Attachment, reason: &str) {
        match timeout(DIAGNOSIS_TIMEOUT, self.cinder.volume(&record.volume)).await {
            Ok(Ok(cinder::CinderVolume { volume_type: Some(volume_type), .. })) => {
                self.breaker.record_success(&CircuitScope::Endpoint);
                self.record_volume_type(record, &volume_type).await;
                self.breaker.record_backend_failure(&volume_type, &record.volume, reason);
            }
            Ok(Ok(_)) => self.breaker.record_success(&CircuitScope::Endpoint),
            Ok(Err(CinderError::NotFound(_) | CinderError::Refused { .. })) => {
                self.breaker.record_success(&CircuitScope::Endpoint);
                // Cinder refused the volume itself. A pending export stays pending.
                if let Err(error) = self.clear_connection(record, record.pending_export).await {
                    tracing::error!(?error, "cannot clear stored connection");
                }
            }
            Ok(Err(CinderError::Unavailable(reason))) => self.breaker.record_failure(&reason),
            Err(_) => self.breaker.record_timeout(reason),
        }
    }

    /// Reports the result of a call to the circuit breaker and passes the result on.
    pub(super) fn report<T>(&self, result: Result<T, CinderError>) -> Result<T, CinderError> {
        match &result {
            Err(CinderError::Unavailable(reason)) => self.breaker.record_failure(reason),
            _ => self.report_success(),
        }
        result
    }

    pub(super) fn report_success(&self) {
        *self.last_response.lock() = Instant::now();
        self.breaker.record_success(&CircuitScope::Endpoint);
    }

    /// Waits until this worker has had no response for [`CINDER_TIMEOUT`]. A sequence of calls may take longer.
    pub(super) async fn wait_for_timeout(&self) {
        loop {
            let deadline = *self.last_response.lock() + CINDER_TIMEOUT;
            if deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}
