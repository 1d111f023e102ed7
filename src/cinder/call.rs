//! [`ApiClient`]: makes an [`ApiCall`], with URL, token, time limit and metrics.

#[cfg(test)]
use std::sync::Arc;
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use reqwest::header::ACCEPT;
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::discovery::VersionDiscovery;
use super::endpoint::EndpointUrl;
use super::response::parse_response;
#[cfg(test)]
use super::server::CinderServer;
use super::{CinderEndpoint, CinderError};
use crate::keystone::{Authorization, ServiceResponse, Session, TransportError};
use crate::telemetry::Metrics;

/// The usual microversion: the first that can complete an attachment. Calls that need a later version request it.
/// <https://docs.openstack.org/cinder/latest/contributor/api_microversion_history.html>
const MICROVERSION: &str = "3.44";

/// Time-outs of calls.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For calls that Cinder answers by itself.
    pub read: Duration,
    /// For calls that need a backend. Cinder gives a backend 60 s by default (`rpc_response_timeout`).
    pub backend: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { read: Duration::from_secs(10), backend: Duration::from_secs(75) }
    }
}

/// One API call.
pub(super) struct ApiCall<'a> {
    /// The name in metrics.
    kind: &'static str,
    method: Method,
    /// The path below the project.
    segments: &'a [&'a str],
    query: &'a [(&'static str, &'a str)],
    microversion: &'static str,
    body: Option<Value>,
}

impl<'a> ApiCall<'a> {
    pub(super) fn new(kind: &'static str, method: Method, segments: &'a [&'a str]) -> Self {
        Self { kind, method, segments, query: &[], microversion: MICROVERSION, body: None }
    }

    pub(super) fn get(kind: &'static str, segments: &'a [&'a str]) -> Self {
        Self::new(kind, Method::GET, segments)
    }

    pub(super) fn with_query(self, query: &'a [(&'static str, &'a str)]) -> Self {
        Self { query, ..self }
    }

    pub(super) fn with_microversion(self, microversion: &'static str) -> Self {
        Self { microversion, ..self }
    }

    pub(super) fn with_body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// The URL. Each segment and value is encoded: an operator can record any text as an id.
    fn url(&self, base_url: &str) -> String {
        let mut url = base_url.to_owned();
        for segment in self.segments {
            url.push_str(&format!("/{}", percent_encode(segment)));
        }
        for (separator, (name, value)) in std::iter::once('?').chain(std::iter::repeat('&')).zip(self.query) {
            url.push_str(&format!("{separator}{name}={}", percent_encode(value)));
        }
        url
    }
}

fn percent_encode(text: &str) -> PercentEncode<'_> {
    /// Everything except the unreserved characters of RFC 3986 §2.3.
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, RESERVED)
}

/// Makes the calls to one Cinder.
#[derive(Debug, Clone)]
pub(super) struct ApiClient {
    pub(super) session: Session,
    pub(super) http: reqwest::Client,
    pub(super) endpoint: CinderEndpoint,
    pub(super) discovery: VersionDiscovery,
    pub(super) timeouts: Timeouts,
    pub(super) metrics: Metrics,
    /// Answers in place of the network.
    #[cfg(test)]
    pub(super) server: Option<Arc<dyn CinderServer>>,
}

impl ApiClient {
    /// Makes a call and counts it under its kind. A response without content is read as [`Value::Null`].
    pub(super) async fn call<T: DeserializeOwned>(&self, call: ApiCall<'_>) -> Result<T, CinderError> {
        let started_at = Instant::now();
        let response = self.send_authorized(&call).await;
        let result = match &response {
            Ok(_) => "ok",
            Err(CinderError::Unavailable(_) | CinderError::Failed { .. }) => "unavailable",
            Err(CinderError::NotFound(_)) => "not_found",
            Err(CinderError::Refused { .. }) => "refused",
        };
        self.metrics.count_cinder_call(call.kind, result, started_at.elapsed());
        response
    }

    /// Sends the request with the session's token; on 401 it renews the token once and retries.
    async fn send_authorized<T: DeserializeOwned>(&self, call: &ApiCall<'_>) -> Result<T, CinderError> {
        let authorization = self.session.authorization().await?;
        let endpoint = self.endpoint.select(&authorization)?;
        let endpoint = self.discovery.resolve(&self.http, endpoint, self.timeouts.read).await?;
        let mut response = self.send(&authorization, &endpoint, call).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let authorization = self.session.reauthorize(&authorization).await?;
            response = self.send(&authorization, &endpoint, call).await?;
            if response.status() == StatusCode::UNAUTHORIZED {
                return Err(CinderError::Unavailable("Cinder rejected a new token (401)".into()));
            }
        }
        let response = ServiceResponse::read(response).await;
        parse_response(&response.map_err(|error| CinderError::from_transport(error, &endpoint))?, &endpoint)
    }

    async fn send(
        &self,
        authorization: &Authorization,
        endpoint: &EndpointUrl,
        call: &ApiCall<'_>,
    ) -> Result<Response, CinderError> {
        let time_limit = match call.method {
            // Calls that need a backend.
            Method::PUT | Method::DELETE => self.timeouts.backend,
            _ => self.timeouts.read,
        };
        let mut base_url = endpoint.url.clone();
        // Cinder requires the project below microversion 3.67.
        if let Some(project) = authorization.project_id() {
            base_url.push_str(&format!("/{project}"));
        }
        let mut request = self
            .http
            .request(call.method.clone(), call.url(&base_url))
            .timeout(time_limit)
            .header(ACCEPT, "application/json")
            .header("OpenStack-API-Version", format!("volume {}", call.microversion))
            .header("X-Auth-Token", authorization.header());
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        #[cfg(test)]
        if let Some(server) = &self.server {
            let request = request.build().expect("a valid request");
            let response = server.answer(request, time_limit).await;
            return response.map_err(|error| CinderError::from_transport(error, endpoint));
        }
        let response = request.send().await.map_err(TransportError::from);
        response.map_err(|error| CinderError::from_transport(error, endpoint))
    }
}
