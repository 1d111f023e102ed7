//! [`Client`]: an HTTP client of volboot's API, with one-line errors.

use std::error::Error;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

/// The time-out of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time-out of a whole response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// The time-out of a command, which may wait for a BMC.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(150);
/// The time-out between two reads. The event stream has a keep-alive every 15 s.
const READ_TIMEOUT: Duration = Duration::from_secs(45);
/// The newest microversion, which shows all fields.
const VERSION: (&str, &str) = ("X-OpenStack-Ironic-API-Version", "1.33");
/// The most pages of a list.
const MAX_PAGES: usize = 1000;

/// A client of one API.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    credentials: ApiCredentials,
}

/// The credentials from the environment.
enum ApiCredentials {
    None,
    Basic(String, String),
    Token(String),
}

impl Client {
    pub(super) fn new(base: &str) -> Result<Self, Box<dyn Error>> {
        crate::tls::install_provider();
        let builder =
            || reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT);
        // Without CA certificates on the host, plain HTTP still works, and every TLS certificate is rejected.
        let http = builder().build().or_else(|_| builder().tls_certs_only([]).build())?;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let credentials = match (variable("OS_TOKEN"), variable("VOLBOOT_USER")) {
            (_, Some(user)) => ApiCredentials::Basic(user, variable("VOLBOOT_PASSWORD").unwrap_or_default()),
            (Some(token), None) => ApiCredentials::Token(token),
            (None, None) => ApiCredentials::None,
        };
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), credentials })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base)).header(VERSION.0, VERSION.1);
        match &self.credentials {
            ApiCredentials::None => request,
            ApiCredentials::Basic(name, password) => request.basic_auth(name, Some(password)),
            ApiCredentials::Token(token) => request.header("X-Auth-Token", token),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Box<dyn Error>> {
        self.send(self.request(Method::GET, path).timeout(RESPONSE_TIMEOUT)).await
    }

    /// Sends a command without a response body.
    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<(), Box<dyn Error>> {
        self.check(self.request(Method::PUT, path).timeout(COMMAND_TIMEOUT).json(body).send().await).await?;
        Ok(())
    }

    pub(super) async fn delete(&self, path: &str) -> Result<(), Box<dyn Error>> {
        self.check(self.request(Method::DELETE, path).timeout(RESPONSE_TIMEOUT).send().await).await?;
        Ok(())
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Box<dyn Error>> {
        self.send(self.request(Method::POST, path).timeout(RESPONSE_TIMEOUT).json(body)).await
    }

    pub(super) async fn patch(&self, path: &str, body: &Value) -> Result<Value, Box<dyn Error>> {
        self.send(self.request(Method::PATCH, path).timeout(RESPONSE_TIMEOUT).json(body)).await
    }

    /// Reads all pages of a list.
    pub(super) async fn get_all(&self, path: &str, key: &str) -> Result<Vec<Value>, Box<dyn Error>> {
        let mut list = Vec::new();
        let mut path = path.to_owned();
        for _ in 0..MAX_PAGES {
            let mut page = self.get(&path).await?;
            if let Value::Array(items) = page[key].take() {
                list.extend(items);
            }
            // Only the path of `next` is used: behind a proxy the address may differ.
            let Some((_, rest)) = page["next"].as_str().and_then(|next| next.split_once("/v1/")) else {
                break;
            };
            path = format!("/v1/{rest}");
        }
        Ok(list)
    }

    /// Opens an endless response.
    pub(super) async fn stream(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Response, Box<dyn Error>> {
        self.check(self.request(Method::GET, path).query(query).send().await).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value, Box<dyn Error>> {
        Ok(self.check(request.send().await).await?.json().await?)
    }

    async fn check(&self, result: reqwest::Result<Response>) -> Result<Response, Box<dyn Error>> {
        let response = result.map_err(|error| {
            let problem =
                if error.is_connect() { "cannot connect to volboot" } else { "no response from volboot" };
            let text = format!("{problem} at {}: {}", self.base, find_root_cause(&error));
            RequestFailure { status: None, text }
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        // `error_message` is JSON within a string, as in Ironic.
        let inner: Value =
            body["error_message"].as_str().map(serde_json::from_str).transpose()?.unwrap_or_default();
        let text = inner["faultstring"].as_str().map_or_else(|| status.to_string(), str::to_owned);
        Err(RequestFailure { status: Some(status.as_u16()), text }.into())
    }
}

/// The API cannot be reached, or refused a request.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct RequestFailure {
    /// The status of the response; `None` without a response.
    pub(super) status: Option<u16>,
    text: String,
}

impl RequestFailure {
    /// The status of a refusal; `None` if volboot was not reached, refused the credentials, or is not ready.
    pub(super) fn refusal(&self) -> Option<u16> {
        self.status.filter(|status| !matches!(status, 401 | 403 | 503))
    }
}

/// Percent-encodes a name as one segment of a path.
pub(super) fn encode_segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn find_root_cause(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
