//! `/metrics`: the metrics for Prometheus, with the same authentication as the API. Boot times are confidential.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::request::ApiRequest;

/// The content type of OpenMetrics 1.0 §4.1.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /v1/metrics`, also `/metrics`
pub(super) async fn get(request: ApiRequest) -> Response {
    let reading = request.operator.measure().await;
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], request.operator.appliance.metrics.encode(&reading))
        .into_response()
}
