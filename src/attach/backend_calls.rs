//! The Cinder calls that reach a backend, *export* and *delete*, and the diagnosis after a call without a response.
//!
//! Such a call may fail because of the backend, so its failure says nothing about Cinder by itself.

use std::time::Duration;

use tokio::time::timeout;

use super::breaker::CircuitScope;
use super::monitored_cinder::{CINDER_TIMEOUT, MonitoredCinder, timeout_reason};
use super::steps;
use crate::cinder::{CinderAttachment, CinderError, CinderVolume};
use crate::model::{Attachment, ConnectorProperties};
use crate::store::Attachments;

/// The time limit of a diagnosis.
const DIAGNOSIS_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends the export request. If it takes longer than [`CINDER_TIMEOUT`], diagnoses the cause meanwhile; the request
/// continues.
pub(super) async fn send_export(
    cinder: &MonitoredCinder,
    records: &Attachments,
    record: &Attachment,
    id: &str,
    connector: &ConnectorProperties,
) -> Result<CinderAttachment, CinderError> {
    let mut call = std::pin::pin!(cinder.unmonitored().export(id, connector));
    let in_time = timeout(CINDER_TIMEOUT, &mut call).await;
    let result = if let Ok(result) = in_time {
        result
    } else {
        diagnose(cinder, records, record, &timeout_reason()).await;
        call.await
    };
    report(cinder, records, record, result).await
}

/// Sends the delete request.
pub(super) async fn send_delete(
    cinder: &MonitoredCinder,
    records: &Attachments,
    record: &Attachment,
    id: &str,
) -> Result<(), CinderError> {
    report(cinder, records, record, cinder.unmonitored().delete(id).await).await
}

async fn report<T>(
    cinder: &MonitoredCinder,
    records: &Attachments,
    record: &Attachment,
    result: Result<T, CinderError>,
) -> Result<T, CinderError> {
    match &result {
        Err(CinderError::Unavailable(reason)) => diagnose(cinder, records, record, reason).await,
        Ok(_) | Err(CinderError::NotFound(_) | CinderError::Refused { .. }) => cinder.report_response(),
    }
    result
}

/// Finds out, after a call without a response, whether Cinder is unavailable or only the backend.
async fn diagnose(cinder: &MonitoredCinder, records: &Attachments, record: &Attachment, reason: &str) {
    let breaker = cinder.breaker();
    match timeout(DIAGNOSIS_TIMEOUT, cinder.unmonitored().volume(&record.volume)).await {
        Ok(Ok(CinderVolume { volume_type: Some(volume_type), .. })) => {
            breaker.record_success(&CircuitScope::Endpoint);
            steps::record_volume_type(records, record, &volume_type).await;
            breaker.record_backend_failure(&volume_type, &record.volume, reason);
        }
        Ok(Ok(_)) => breaker.record_success(&CircuitScope::Endpoint),
        Ok(Err(CinderError::NotFound(_) | CinderError::Refused { .. })) => {
            breaker.record_success(&CircuitScope::Endpoint);
            // Cinder refused the volume itself. A pending export stays pending.
            if let Err(error) = steps::clear_connection(records, record, record.pending_export).await {
                tracing::error!(?error, "cannot clear stored connection");
            }
        }
        Ok(Err(CinderError::Unavailable(reason))) => breaker.record_failure(&reason),
        Err(_) => breaker.record_timeout(reason),
    }
}
