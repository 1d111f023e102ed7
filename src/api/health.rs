//! `/healthz` and `/readyz`: whether volboot is alive, and whether it can do its work. Open to everybody, and so they
//! tell no more than that.
//!
//! Alive: whoever is asked can still run tasks. Ready: the store answers and nobody has asked volboot to stop; while it
//! starts or has failed, nobody listens at all. Cinder's absence does not make it unready, for nodes boot from what is
//! known, and taking volboot out of service would help nobody; but it is told.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::ApiState;
use super::watch::alive;

/// How long a task may take to run, and the store to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /healthz`
pub(super) async fn healthz() -> (StatusCode, &'static str) {
    // On another worker, if there is one: one that is stuck shows.
    match tokio::time::timeout(PATIENCE, tokio::spawn(tokio::task::yield_now())).await {
        Ok(Ok(())) => (StatusCode::OK, "ok\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "tasks do not run\n"),
    }
}

/// `GET /readyz`
pub(super) async fn readyz(State(state): State<Arc<ApiState>>) -> (StatusCode, Json<Value>) {
    let watch = &state.watch;
    let store = match tokio::time::timeout(PATIENCE, alive(&state)).await {
        Ok(Ok(())) => "answers",
        Ok(Err(_)) => "fails",
        Err(_) => "does not answer",
    };
    let stopping = watch.stop.is_cancelled();
    let ready = store == "answers" && !stopping;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let cinder = match watch.attach.cinder_is_away() {
        _ if !watch.attach.is_configured() => "not configured",
        None => "answers",
        Some(_) => "is away",
    };
    let told = json!({
        "ready": ready,
        "stopping": stopping,
        "store": store,
        "history": if watch.timeline.is_kept() { "is kept" } else { "is not kept" },
        "cinder": cinder,
    });
    (status, Json(told))
}
