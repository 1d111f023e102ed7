//! The Cinder calls that reach a backend, *export* and *delete*, and the diagnosis after a call without a response.
//!
//! Such a call may fail because of the backend, so its failure says nothing about Cinder by itself. Cinder returns 500 for
//! each failure in a driver, a missing connector property among them: the VNX and AS13000 drivers read `connector['ip']`.
//!
//! Before Cinder deletes an attachment with a server, it asks the Compute service. A failure of this call says nothing about
//! the backend.

use std::time::Duration;

use tokio::time::timeout;

use super::breaker::CircuitScope;
use super::monitored_cinder::{CINDER_TIMEOUT, MonitoredCinder, timeout_reason};
use super::steps;
use crate::cinder::{CinderAttachment, CinderError, CinderVolume};
use crate::model::{Attachment, ConnectorProperties};
use crate::store::{Attachments, WritableStore};

/// The time limit of a diagnosis.
const DIAGNOSIS_TIMEOUT: Duration = Duration::from_secs(2);

/// The failure of a call that reaches a backend.
pub(super) enum BackendCallError {
    /// Cinder's own error.
    Cinder(CinderError),
    /// Cinder answers other requests, and returned 500 for this one. With the likely cause.
    Failed(String),
    /// The backend's call has no usable response, such as a time-out or 503, while Cinder answers other requests. The cause
    /// may pass without an operator.
    Unavailable(String),
    /// Cinder answers other requests, but does not delete the attachment of a server. With the likely cause.
    NoComputeService(String),
}

/// Sends the export request. If it takes longer than [`CINDER_TIMEOUT`], diagnoses the cause meanwhile; the request
/// continues.
pub(super) async fn send_export(
    _store: WritableStore,
    cinder: &MonitoredCinder,
    records: &Attachments,
    record: &Attachment,
    id: &str,
    connector: &ConnectorProperties,
) -> Result<CinderAttachment, BackendCallError> {
    let mut call = std::pin::pin!(cinder.send(cinder.unmonitored().export(id, connector)));
    let in_time = timeout(CINDER_TIMEOUT, &mut call).await;
    let result = if let Ok(result) = in_time {
        result
    } else {
        diagnose(cinder, records, record, &CinderError::Unavailable(timeout_reason()), Some(connector)).await;
        call.await
    };
    report(cinder, records, record, Some(connector), result).await
}

/// Sends the delete request.
pub(super) async fn send_delete(
    _store: WritableStore,
    cinder: &MonitoredCinder,
    records: &Attachments,
    record: &Attachment,
    id: &str,
) -> Result<(), BackendCallError> {
    let result = cinder.send(cinder.unmonitored().delete(id)).await;
    report(cinder, records, record, None, result).await
}

/// Reports the result of a call to the circuit breaker. `connector` is the connector of an export.
async fn report<T>(
    cinder: &MonitoredCinder,
    records: &Attachments,
    record: &Attachment,
    connector: Option<&ConnectorProperties>,
    result: Result<T, CinderError>,
) -> Result<T, BackendCallError> {
    match result {
        Err(error @ CinderError::Failed { .. }) => {
            let cinder_answers = diagnose(cinder, records, record, &error, connector).await;
            Err(if cinder_answers && asks_compute_service(record, connector) {
                BackendCallError::NoComputeService(explain_missing_answer(record))
            } else if cinder_answers {
                BackendCallError::Failed(explain_failure(&error, connector))
            } else {
                BackendCallError::Cinder(error)
            })
        }
        Err(error @ CinderError::Unavailable(_)) => {
            let cinder_answers = diagnose(cinder, records, record, &error, connector).await;
            Err(if cinder_answers && asks_compute_service(record, connector) {
                BackendCallError::NoComputeService(explain_missing_answer(record))
            } else if cinder_answers {
                BackendCallError::Unavailable(error.to_string())
            } else {
                BackendCallError::Cinder(error)
            })
        }
        Ok(_) | Err(CinderError::NotFound(_) | CinderError::Refused { .. }) => {
            cinder.report_response();
            result.map_err(BackendCallError::Cinder)
        }
    }
}

/// Whether Cinder asks the Compute service during the call: before the deletion of a server's attachment. `connector` is
/// the connector of an export.
fn asks_compute_service(record: &Attachment, connector: Option<&ConnectorProperties>) -> bool {
    connector.is_none() && record.server().is_some()
}

/// The likely cause of a failed deletion. Always the same text, as the attachment's record holds the text.
fn explain_missing_answer(record: &Attachment) -> String {
    let server = record.server().unwrap_or_default();
    format!(
        "Cinder does not delete the attachment of server {server}: before that it asks Nova, which probably does not answer"
    )
}

/// The connector property that the driver misses, if Cinder names one that the connector lacks. A driver's `KeyError` may
/// concern a record of its own with a key of the same name.
fn find_missing_property<'a>(
    error: &'a CinderError,
    connector: Option<&ConnectorProperties>,
) -> Option<&'a str> {
    let CinderError::Failed { missing_property: Some(name) } = error else { return None };
    let sent = serde_json::to_value(connector).unwrap_or_default();
    sent.get(name).is_none().then_some(name)
}

/// The error with its likely cause for this node, provided that Cinder answers other requests.
fn explain_failure(error: &CinderError, connector: Option<&ConnectorProperties>) -> String {
    let has_ip = connector.is_none_or(|connector| connector.ip.is_some());
    let cause = match find_missing_property(error, connector) {
        // A detachment uses the connector of the export.
        Some("ip") if connector.is_some() => {
            "its driver needs the node's IP address: create a volume connector of type ip".to_owned()
        }
        Some(name) => {
            format!("its driver needs the connector property \"{name}\": see the log of cinder-volume")
        }
        None if has_ip => "see the log of cinder-volume".to_owned(),
        None => {
            "its driver may need the node's IP address (as VNX does): create a volume connector of type ip, \
                 or see the log of cinder-volume"
                .to_owned()
        }
    };
    format!("{error}; {cause}")
}

/// Finds out, after a call without a usable response, whether Cinder is unavailable or only the backend. Returns whether
/// Cinder answers and has the volume.
///
/// A property that the node's connector lacks is no failure of the backend: other nodes may have it.
async fn diagnose(
    cinder: &MonitoredCinder,
    records: &Attachments,
    record: &Attachment,
    failure: &CinderError,
    connector: Option<&ConnectorProperties>,
) -> bool {
    let breaker = cinder.breaker();
    match timeout(DIAGNOSIS_TIMEOUT, cinder.send(cinder.unmonitored().volume(&record.volume))).await {
        _ if cinder.has_lost_claim() => {}
        Ok(Ok(CinderVolume { volume_type, .. })) => {
            breaker.record_success(&CircuitScope::Endpoint);
            if let Some(volume_type) = volume_type {
                steps::record_volume_type(records, record, &volume_type).await;
                if find_missing_property(failure, connector).is_none()
                    && !asks_compute_service(record, connector)
                {
                    breaker.record_backend_failure(&volume_type, &record.volume, &failure.to_string());
                }
            }
            return true;
        }
        Ok(Err(CinderError::NotFound(_) | CinderError::Refused { .. })) => {
            breaker.record_success(&CircuitScope::Endpoint);
            // Cinder refused the volume itself. A pending export stays pending.
            if let Err(error) = steps::clear_connection(records, record, record.pending_export).await {
                tracing::error!(?error, "cannot clear stored connection");
            }
        }
        Ok(Err(error @ (CinderError::Unavailable(_) | CinderError::Failed { .. }))) => {
            breaker.record_failure(&error.to_string());
        }
        Err(_) => {
            breaker.record_timeout(&format!("no answer within {} s", DIAGNOSIS_TIMEOUT.as_secs()));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_property_that_the_connector_lacks_is_missing() {
        let without_ip = ConnectorProperties {
            initiator: "iqn.2017-08.org.openstack.web-1".into(),
            host: "web-1".into(),
            ip: None,
            multipath: true,
            mountpoint: None,
        };
        let with_ip = ConnectorProperties { ip: Some("192.0.2.9".into()), ..without_ip.clone() };
        for (name, connector, cause) in [
            (
                "ip",
                &without_ip,
                "its driver needs the node's IP address: create a volume connector of type ip",
            ),
            ("ip", &with_ip, "see the log of cinder-volume"),
            ("host", &with_ip, "see the log of cinder-volume"),
            (
                "wwpns",
                &with_ip,
                "its driver needs the connector property \"wwpns\": see the log of cinder-volume",
            ),
        ] {
            let error = CinderError::Failed { missing_property: Some(name.into()) };
            let expected = format!("Cinder returned 500 Internal Server Error; {cause}");
            assert_eq!(explain_failure(&error, Some(connector)), expected, "{name}");
        }
    }
}
