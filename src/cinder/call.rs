//! One API call: URL, token, deadline, and the classification of its response.

use std::time::{Duration, Instant};

use reqwest::header::ACCEPT;
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Cinder, CinderError};
use crate::keystone::{Authorization, Interface, KeystoneError};

/// The service types of Cinder in a catalogue, the current ones first
/// (<https://service-types.openstack.org/>, `block-storage` and its aliases).
const SERVICE_TYPES: [&str; 4] = ["block-storage", "block-store", "volumev3", "volume"];
/// A longer response cannot be Cinder's.
const MAX_RESPONSE_BYTES: usize = 4 << 20;
/// The limit for a message that is passed on to operators.
const MAX_MESSAGE_CHARS: usize = 300;

/// Where Cinder is: an explicit URL, or a selection from the catalogue.
#[derive(Debug, Clone, Default)]
pub struct CinderEndpoint {
    /// The URL; overrides the catalogue.
    pub url: Option<String>,
    /// The region in the catalogue, if there are several.
    pub region: Option<String>,
    /// The interface in the catalogue.
    pub interface: Interface,
}

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

impl Cinder {
    /// Makes a call and counts it under its `kind`. A response without content is [`Value::Null`].
    pub(super) async fn call(
        &self,
        kind: &'static str,
        method: Method,
        path: &str,
        version: &str,
        body: Option<Value>,
    ) -> Result<Value, CinderError> {
        let time_limit = match method {
            // Calls that need a backend.
            Method::PUT | Method::DELETE => self.timeouts.backend,
            _ => self.timeouts.read,
        };
        let started_at = Instant::now();
        let response = self.send_authorized(method, path, version, body, time_limit).await;
        let result = match &response {
            Ok(_) => "ok",
            Err(CinderError::Unavailable(_)) => "unavailable",
            Err(CinderError::NotFound(_)) => "not_found",
            Err(CinderError::Refused { .. }) => "refused",
        };
        self.metrics.count_cinder_call(kind, result, started_at.elapsed());
        response
    }

    /// Sends the request with the session's token; on 401 it renews the token once and retries.
    async fn send_authorized(
        &self,
        method: Method,
        path: &str,
        version: &str,
        body: Option<Value>,
        time_limit: Duration,
    ) -> Result<Value, CinderError> {
        let authorization = self.session.authorization().await?;
        let response = self.send(&authorization, &method, path, version, body.as_ref(), time_limit).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return read_response(response).await;
        }
        let authorization = self.session.reauthorize(&authorization).await?;
        let response = self.send(&authorization, &method, path, version, body.as_ref(), time_limit).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(CinderError::Unavailable("Cinder rejected a new token (401)".into()));
        }
        read_response(response).await
    }

    async fn send(
        &self,
        authorization: &Authorization,
        method: &Method,
        path: &str,
        version: &str,
        body: Option<&Value>,
        time_limit: Duration,
    ) -> Result<Response, CinderError> {
        let base_url = self.endpoint.base_url(authorization)?;
        let mut request = self
            .http
            .request(method.clone(), format!("{base_url}/{path}"))
            .timeout(time_limit)
            .header(ACCEPT, "application/json")
            .header("OpenStack-API-Version", format!("volume {version}"))
            .header("X-Auth-Token", authorization.header());
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.map_err(|error| transport_error(&error))
    }
}

impl CinderEndpoint {
    /// The URL in front of a path, without a trailing slash. The last segment is the project id, which Cinder
    /// requires below microversion 3.67.
    fn base_url(&self, authorization: &Authorization) -> Result<String, CinderError> {
        let url = match &self.url {
            Some(url) => Some(url.clone()),
            None => authorization.endpoint(&SERVICE_TYPES, self.region.as_deref(), self.interface),
        };
        let Some(url) = url else {
            let region = self.region.as_deref().map(|region| format!(" in region {region}"));
            return Err(CinderError::Unavailable(format!(
                "Keystone's catalogue has no block-storage endpoint{}",
                region.unwrap_or_default()
            )));
        };
        let url = url.trim_end_matches('/');
        Ok(match authorization.project_id() {
            Some(project) if !url.ends_with(&format!("/{project}")) => format!("{url}/{project}"),
            _ => url.to_owned(),
        })
    }
}

impl From<KeystoneError> for CinderError {
    /// Every Keystone error means that Cinder is unavailable. None of them refuses a volume.
    fn from(error: KeystoneError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

async fn read_response(mut response: Response) -> Result<Value, CinderError> {
    let status = response.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport_error(&error))? {
        if bytes.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err(invalid_response());
        }
        bytes.extend_from_slice(&chunk);
    }
    let body = serde_json::from_slice::<Value>(&bytes);
    match status {
        _ if status.is_success() && bytes.is_empty() => Ok(Value::Null),
        _ if status.is_success() => body.map_err(|_| invalid_response()),
        StatusCode::NOT_FOUND => match body {
            // Only Cinder's own 404 concerns a volume; an unknown path does not.
            Ok(body) if body.get("itemNotFound").is_some() => {
                Err(CinderError::NotFound(extract_message(&body)))
            }
            _ => Err(CinderError::Unavailable("the server at Cinder's endpoint is not Cinder (404)".into())),
        },
        // These concern the request, not the volume.
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Err(CinderError::Unavailable(format!("Cinder returned {status}")))
        }
        _ if status.is_client_error() => Err(CinderError::Refused {
            status: status.as_u16(),
            message: body.map(|body| extract_message(&body)).unwrap_or_default(),
        }),
        _ => Err(CinderError::Unavailable(format!("Cinder returned {status}"))),
    }
}

pub(super) fn parse<T: DeserializeOwned>(response: Value) -> Result<T, CinderError> {
    serde_json::from_value(response).map_err(|_| invalid_response())
}

fn invalid_response() -> CinderError {
    CinderError::Unavailable("the server at Cinder's endpoint is not Cinder".into())
}

/// The message of an error response, on one line. Cinder sends `{"badRequest": {"message": …}}`, middleware in front
/// of it `{"message": …}`.
fn extract_message(body: &Value) -> String {
    let inner = body.as_object().and_then(|body| body.values().find_map(|value| value.get("message")));
    let text = inner.or(body.get("message")).and_then(Value::as_str).unwrap_or("no reason was given");
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_end_matches('.').chars().take(MAX_MESSAGE_CHARS).collect()
}

/// Describes an error without its own text: that contains the URL, which may contain secrets.
fn transport_error(error: &reqwest::Error) -> CinderError {
    CinderError::Unavailable(
        if error.is_timeout() {
            "Cinder did not answer in time"
        } else if error.is_connect() {
            "Cinder cannot be reached"
        } else {
            "the connection to Cinder broke off"
        }
        .into(),
    )
}
