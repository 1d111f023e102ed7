//! One call: its address, its token, its deadline, and what its answer means.

use std::time::{Duration, Instant};

use reqwest::header::ACCEPT;
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Cinder, CinderError};
use crate::keystone::{Authorization, Interface, KeystoneError};

/// The names under which a catalogue has Cinder, the present ones first
/// (<https://service-types.openstack.org/>, `block-storage` and its aliases).
const SERVICE_TYPES: [&str; 4] = ["block-storage", "block-store", "volumev3", "volume"];
/// An answer longer than this is not Cinder's.
const LONGEST_ANSWER: usize = 4 << 20;
/// Of a message that is passed on to people.
const LONGEST_MESSAGE: usize = 300;

/// Where Cinder is.
#[derive(Debug, Clone, Default)]
pub struct Endpoint {
    /// There, whatever the catalogue says.
    pub url: Option<String>,
    /// In the catalogue: the region, if there are several.
    pub region: Option<String>,
    /// In the catalogue: the interface.
    pub interface: Interface,
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// What Cinder does by itself.
    pub read: Duration,
    /// What it has a backend do. Cinder itself gives a backend 60 s by default (`rpc_response_timeout`).
    pub work: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { read: Duration::from_secs(10), work: Duration::from_secs(75) }
    }
}

impl Cinder {
    /// Makes a call, and counts it under its `kind`. An answer without content is [`Value::Null`].
    pub(super) async fn call(
        &self,
        kind: &'static str,
        method: Method,
        path: &str,
        version: &str,
        body: Option<Value>,
    ) -> Result<Value, CinderError> {
        let within = match method {
            // What a backend does.
            Method::PUT | Method::DELETE => self.patience.work,
            _ => self.patience.read,
        };
        let began = Instant::now();
        let answer = self.answered(method, path, version, body, within).await;
        let result = match &answer {
            Ok(_) => "ok",
            Err(CinderError::Away(_)) => "away",
            Err(CinderError::Missing(_)) => "missing",
            Err(CinderError::Refused { .. }) => "refused",
        };
        self.metrics.cinder_call(kind, result, began.elapsed());
        answer
    }

    /// A token that is not taken any more is renewed, once.
    async fn answered(
        &self,
        method: Method,
        path: &str,
        version: &str,
        body: Option<Value>,
        within: Duration,
    ) -> Result<Value, CinderError> {
        let authorization = self.session.authorization().await?;
        let answer = self.ask(&authorization, &method, path, version, body.as_ref(), within).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return meaning(answer).await;
        }
        let authorization = self.session.renewed(&authorization).await?;
        let answer = self.ask(&authorization, &method, path, version, body.as_ref(), within).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            return Err(CinderError::Away("Cinder does not accept Keystone's tokens (401)".into()));
        }
        meaning(answer).await
    }

    async fn ask(
        &self,
        authorization: &Authorization,
        method: &Method,
        path: &str,
        version: &str,
        body: Option<&Value>,
        within: Duration,
    ) -> Result<Response, CinderError> {
        let base = self.endpoint.base(authorization)?;
        let mut request = self
            .http
            .request(method.clone(), format!("{base}/{path}"))
            .timeout(within)
            .header(ACCEPT, "application/json")
            .header("OpenStack-API-Version", format!("volume {version}"))
            .header("X-Auth-Token", authorization.header());
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.map_err(|error| unreached(&error))
    }
}

impl Endpoint {
    /// The URL before a path: without a slash, and with the project's id as its last segment, which Cinder wants below
    /// microversion 3.67.
    fn base(&self, authorization: &Authorization) -> Result<String, CinderError> {
        let found = match &self.url {
            Some(url) => Some(url.clone()),
            None => authorization.endpoint(&SERVICE_TYPES, self.region.as_deref(), self.interface),
        };
        let Some(url) = found else {
            let region = self.region.as_deref().map(|region| format!(" of region {region}"));
            return Err(CinderError::Away(format!(
                "Keystone's catalogue{} names no block storage",
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
    /// Whatever Keystone's reason, Cinder cannot be asked; a volume is not refused by it.
    fn from(error: KeystoneError) -> Self {
        Self::Away(error.to_string())
    }
}

async fn meaning(mut answer: Response) -> Result<Value, CinderError> {
    let status = answer.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| unreached(&error))? {
        if bytes.len() + chunk.len() > LONGEST_ANSWER {
            return Err(unreadable());
        }
        bytes.extend_from_slice(&chunk);
    }
    let body = serde_json::from_slice::<Value>(&bytes);
    match status {
        _ if status.is_success() && bytes.is_empty() => Ok(Value::Null),
        _ if status.is_success() => body.map_err(|_| unreadable()),
        StatusCode::NOT_FOUND => match body {
            // A path that is not Cinder's own is no word about a volume.
            Ok(body) if body.get("itemNotFound").is_some() => Err(CinderError::Missing(message(&body))),
            _ => Err(CinderError::Away("what answers at Cinder's address is not Cinder (404)".into())),
        },
        // No word about a volume either, but about how it was asked.
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Err(CinderError::Away(format!("Cinder answers {status}")))
        }
        _ if status.is_client_error() => Err(CinderError::Refused {
            status: status.as_u16(),
            message: body.map(|body| message(&body)).unwrap_or_default(),
        }),
        _ => Err(CinderError::Away(format!("Cinder answers {status}"))),
    }
}

pub(super) fn parsed<T: DeserializeOwned>(answer: Value) -> Result<T, CinderError> {
    serde_json::from_value(answer).map_err(|_| unreadable())
}

fn unreadable() -> CinderError {
    CinderError::Away("what answers at Cinder's address is not Cinder".into())
}

/// Cinder's own words: `{"badRequest": {"message": …}}`, or `{"message": …}` from what stands before it. One line.
fn message(body: &Value) -> String {
    let inner = body.as_object().and_then(|body| body.values().find_map(|value| value.get("message")));
    let text = inner.or(body.get("message")).and_then(Value::as_str).unwrap_or("no reason was given");
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_end_matches('.').chars().take(LONGEST_MESSAGE).collect()
}

/// The error's own text holds the URL, which may hold what its writer would not want on a console.
fn unreached(error: &reqwest::Error) -> CinderError {
    CinderError::Away(
        if error.is_timeout() {
            "Cinder does not answer in time"
        } else if error.is_connect() {
            "Cinder cannot be reached"
        } else {
            "the connection to Cinder broke off"
        }
        .into(),
    )
}
