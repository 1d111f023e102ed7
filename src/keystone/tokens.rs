//! Keystone's token calls: `POST` and `GET /v3/auth/tokens`.

use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderValue, LOCATION};
use reqwest::{RequestBuilder, StatusCode};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::time::Instant;

use super::response::{MAX_BODY_BYTES, ServiceResponse, StatusClass, TransportError};
use super::types::TokenBody;
use super::{Authorization, Credentials, KeystoneError};

/// Time-out for one request to Keystone.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest part of Keystone's error message that is quoted, in characters.
const MAX_MESSAGE_CHARS: usize = 200;

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
    let body = response.parse_token()?;
    let token = response.inner.headers.get("x-subject-token");
    let token = token.ok_or_else(|| response.invalid("without the header X-Subject-Token"))?;
    let authorization = Authorization::new(token, body, sent_at);
    authorization.ok_or_else(|| response.invalid("with a token that is no text"))
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
    if matches!(response.inner.status, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) {
        return Ok(None);
    }
    response.check_status(token.to_str().ok())?;
    response.parse_token().map(Some)
}

/// A response to a token call.
struct TokenResponse<'a> {
    url: &'a str,
    inner: ServiceResponse,
}

impl<'a> TokenResponse<'a> {
    /// Sends the request and reads the response.
    async fn receive(request: RequestBuilder, url: &'a str) -> Result<Self, KeystoneError> {
        let request = request.header(ACCEPT, "application/json").timeout(TIMEOUT);
        let response = request.send().await.map_err(|error| transport_error(url, error.into()))?;
        let inner = ServiceResponse::read(response).await.map_err(|error| transport_error(url, error))?;
        Ok(Self { url, inner })
    }

    /// Maps an unsuccessful status to an error. A message that contains `secret` is not quoted.
    fn check_status(&self, secret: Option<&str>) -> Result<(), KeystoneError> {
        match StatusClass::from(self.inner.status) {
            StatusClass::Success => Ok(()),
            StatusClass::Refused => Err(KeystoneError::Refused(self.describe(secret))),
            StatusClass::Temporary => Err(KeystoneError::Unavailable(self.describe(secret))),
            StatusClass::Unexpected if self.inner.status.is_redirection() => {
                let location = self.inner.headers.get(LOCATION).and_then(|location| location.to_str().ok());
                let location = location.unwrap_or("another URL");
                let message = format!("{} redirects to {location}; check auth_url", self.url);
                Err(KeystoneError::InvalidResponse(message))
            }
            StatusClass::Unexpected => Err(self.invalid("without a token")),
        }
    }

    /// The status with Keystone's message, else with the meaning of the status.
    fn describe(&self, secret: Option<&str>) -> String {
        let status = self.inner.status;
        // Keystone quotes parts of a malformed request in its response, and the request holds the secret.
        let message = parse_error_message(&self.inner.body)
            .filter(|_| status != StatusCode::BAD_REQUEST)
            .filter(|message| secret.is_none_or(|secret| !message.contains(secret)));
        let message = message.as_deref().or(status.canonical_reason()).unwrap_or("unknown status");
        format!("{} answered {}: {message}", self.url, status.as_u16())
    }

    fn parse_token(&self) -> Result<TokenBody, KeystoneError> {
        TokenBody::parse(&self.inner.body).map_err(|defect| self.invalid(defect))
    }

    /// The error for a response with a defect, such as "without a token".
    fn invalid(&self, defect: &str) -> KeystoneError {
        let message = format!("{} answered {} {defect}", self.url, self.inner.status.as_u16());
        KeystoneError::InvalidResponse(message)
    }
}

/// The first line of Keystone's error message, if the body has one.
fn parse_error_message(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let line = body["error"]["message"].as_str()?.lines().next().unwrap_or_default();
    Some(line.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect())
}

/// The error for a request without a complete response.
fn transport_error(url: &str, error: TransportError) -> KeystoneError {
    match error {
        TransportError::TimedOut => {
            KeystoneError::Unavailable(format!("{url}: no answer within {} s", TIMEOUT.as_secs()))
        }
        TransportError::NotConnected(cause) | TransportError::Interrupted(cause) => {
            KeystoneError::Unavailable(format!("{url}: {cause}"))
        }
        TransportError::BodyTooLarge => {
            KeystoneError::InvalidResponse(format!("{url} answered with more than {MAX_BODY_BYTES} bytes"))
        }
    }
}
