//! `/metrics`: what Prometheus asks for. Behind the same authentication as the rest: who boots when is nobody's
//! business.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::call::Call;

/// OpenMetrics 1.0 §4.1.
const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /v1/metrics`, also `/metrics`
pub(super) async fn get(call: Call) -> Response {
    let watch = &call.state.watch;
    let reading = watch.reading(&call.state).await;
    ([(header::CONTENT_TYPE, KIND)], watch.metrics.text(&reading)).into_response()
}
