//! `/healthz` and `/readyz`: liveness and readiness probes, without authentication and therefore without details.
//!
//! Alive: the runtime still runs tasks. Ready: the store responds and no shutdown has begun. During start-up and after
//! a failure, nothing listens on the port. An outage of Cinder is reported but does not make volboot unready: nodes
//! boot from last known connections, and taking volboot out of service would not help. The same holds for a read-only
//! store.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::SharedState;
use crate::store::StoreAccess;

/// The deadline for running a task and for the store's response.
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
    let (is_available, store) = match tokio::time::timeout(TIMEOUT, operator.check_store()).await {
        Ok(Ok(_)) => match operator.store_access() {
            StoreAccess::ReadWrite => (true, "ok"),
            StoreAccess::ReadOnly(_) => (true, "read-only"),
        },
        Ok(Err(_)) => (false, "error"),
        Err(_) => (false, "timeout"),
    };
    let stopping = operator.appliance.stop.is_cancelled();
    let ready = is_available && !stopping;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": ready,
        "stopping": stopping,
        "store": store,
        "history": if operator.timeline.is_recording() { "ok" } else { "not recording" },
        "cinder": operator.cinder_status().as_str(),
    });
    (status, Json(body))
}
