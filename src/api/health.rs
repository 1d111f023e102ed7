//! `/healthz` and `/readyz`: liveness and readiness probes, without authentication and therefore without details.
//!
//! Alive: the runtime still runs tasks. Ready: the store responds within two seconds, this instance has a session in it,
//! and no shutdown is requested. During start-up and after a failure, nothing listens on the port. An outage of Cinder
//! is reported but does not make volboot unready: nodes boot from last known connections, and taking volboot out of
//! service would not help. The same holds for a read-only store.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::SharedState;

/// The deadline for running a task.
const TIMEOUT: Duration = Duration::from_secs(2);

/// `GET /healthz`
pub(super) async fn healthz() -> (StatusCode, &'static str) {
    // The task may run on another worker thread, so a blocked worker shows.
    match tokio::time::timeout(TIMEOUT, tokio::spawn(tokio::task::yield_now())).await {
        Ok(Ok(())) => (StatusCode::OK, "ok\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the runtime does not run tasks\n"),
    }
}

/// `GET /readyz`
pub(super) async fn readyz(State(operator): State<SharedState>) -> (StatusCode, Json<Value>) {
    let readiness = operator.check_readiness().await;
    let ready = readiness.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": ready,
        "stopping": readiness.is_stopping,
        "store": readiness.store.to_string(),
        "session": if readiness.has_session { "ok" } else { "none" },
        "history": if operator.timeline.is_recording() { "ok" } else { "not recording" },
        "cinder": operator.cinder_status().as_str(),
    });
    (status, Json(body))
}
