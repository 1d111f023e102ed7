//! Keystone's token calls: `POST` and `GET /v3/auth/tokens`.

use std::error::Error;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use reqwest::RequestBuilder;
use secrecy::ExposeSecret;
use serde::Deserialize;
use tokio::time::Instant;

use super::catalogue::Catalogue;
use super::{Authorization, Credentials, KeystoneError};

/// Time-out for one request to Keystone.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest response that is read. Catalogues of large clouds have some hundred kilobytes.
const MAX_RESPONSE_BYTES: usize = 4 << 20;
/// The longest part of Keystone's error message that is quoted, in characters.
const MAX_MESSAGE_CHARS: usize = 200;

/// The body of a token response.
#[derive(Deserialize)]
pub(super) struct TokenBody {
    pub(super) expires_at: Timestamp,
    pub(super) issued_at: Option<Timestamp>,
    pub(super) user: Id,
    #[serde(default)]
    pub(super) roles: Vec<Role>,
    pub(super) project: Option<Project>,
    pub(super) system: Option<System>,
    #[serde(default)]
    pub(super) catalog: Catalogue,
}

#[derive(Deserialize)]
pub(super) struct Id {
    pub(super) id: String,
}

#[derive(Deserialize)]
pub(super) struct Role {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Project {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) domain: Id,
}

#[derive(Deserialize)]
pub(super) struct System {
    #[serde(default)]
    pub(super) all: bool,
}

#[derive(Deserialize)]
struct TokenEnvelope {
    token: TokenBody,
}

/// Requests a token: `POST /v3/auth/tokens`.
pub(super) async fn authenticate(
    http: &reqwest::Client,
    credentials: &Credentials,
) -> Result<Authorization, KeystoneError> {
    let Some(auth_url) = credentials.auth_url() else {
        return Err(KeystoneError::Refused("there is no Keystone to authenticate with".into()));
    };
    let url = format!("{auth_url}/auth/tokens");
    let sent_at = Instant::now();
    let request = http.post(&url).json(&credentials.to_request_body());
    let response = TokenResponse::receive(request, &url).await?;
    response.check_status(credentials.secret().map(ExposeSecret::expose_secret))?;
    let token = response.headers.get("x-subject-token").ok_or_else(|| response.invalid())?;
    Authorization::new(token, response.parse_token()?, sent_at).ok_or_else(|| response.invalid())
}

/// Validates a token: `GET /v3/auth/tokens`, authorized by the token itself. `None` if there is no such token.
pub(super) async fn validate(
    http: &reqwest::Client,
    auth_url: &str,
    token: &HeaderValue,
) -> Result<Option<TokenBody>, KeystoneError> {
    let url = format!("{auth_url}/auth/tokens");
    let mut token = token.clone();
    token.set_sensitive(true);
    let request = http.get(format!("{url}?nocatalog"));
    let request = request.header("x-auth-token", &token).header("x-subject-token", &token);
    let response = TokenResponse::receive(request, &url).await?;
    if matches!(response.status, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) {
        return Ok(None);
    }
    response.check_status(token.to_str().ok())?;
    response.parse_token().map(Some)
}

/// A complete response.
struct TokenResponse<'a> {
    url: &'a str,
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl<'a> TokenResponse<'a> {
    /// Sends the request and reads the response.
    async fn receive(request: RequestBuilder, url: &'a str) -> Result<Self, KeystoneError> {
        let request = request.header(header::ACCEPT, "application/json").timeout(TIMEOUT);
        let mut response = request.send().await.map_err(|error| transport_error(url, error))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| transport_error(url, error))? {
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                let message = format!("{url} answered with more than {MAX_RESPONSE_BYTES} bytes");
                return Err(KeystoneError::InvalidResponse(message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { url, status: response.status(), headers: std::mem::take(response.headers_mut()), body })
    }

    /// Maps an unsuccessful status to an error. A message that contains `secret` is not quoted.
    fn check_status(&self, secret: Option<&str>) -> Result<(), KeystoneError> {
        let status = self.status;
        let describe = |text: &str| format!("{} answered {}: {text}", self.url, status.as_u16());
        // Keystone quotes parts of a malformed request in its response, and the request holds the secret.
        let message = parse_error_message(&self.body)
            .filter(|_| status != StatusCode::BAD_REQUEST)
            .filter(|message| secret.is_none_or(|secret| !message.contains(secret)));
        let message = message.as_deref().or(status.canonical_reason()).unwrap_or("unknown status");
        let temporary = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        if temporary || status.is_server_error() {
            return Err(KeystoneError::Unavailable(describe(message)));
        }
        if status.is_client_error() {
            return Err(KeystoneError::Refused(describe(message)));
        }
        if status.is_redirection() {
            let location = self.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
            let location = location.unwrap_or("another URL");
            let message = format!("{} redirects to {location}; check auth_url", self.url);
            return Err(KeystoneError::InvalidResponse(message));
        }
        Ok(())
    }

    fn parse_token(&self) -> Result<TokenBody, KeystoneError> {
        // The error of serde is dropped: it could quote the token.
        let TokenEnvelope { token } = serde_json::from_slice(&self.body).map_err(|_| self.invalid())?;
        Ok(token)
    }

    fn invalid(&self) -> KeystoneError {
        let message = format!("{} answered {} without a token", self.url, self.status.as_u16());
        KeystoneError::InvalidResponse(message)
    }
}

#[derive(Deserialize)]
struct ErrorEnvelope {
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    message: String,
}

/// The first line of Keystone's error message, if the body has one.
fn parse_error_message(body: &[u8]) -> Option<String> {
    let ErrorEnvelope { error: ErrorBody { message } } = serde_json::from_slice(body).ok()?;
    let line = message.lines().next().unwrap_or_default();
    Some(line.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect())
}

/// The error for a request without a response. It names the innermost cause, which tells an operator most.
fn transport_error(url: &str, error: reqwest::Error) -> KeystoneError {
    if error.is_timeout() {
        return KeystoneError::Unavailable(format!("{url}: no answer within {} s", TIMEOUT.as_secs()));
    }
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    KeystoneError::Unavailable(format!("{url}: {cause}"))
}
