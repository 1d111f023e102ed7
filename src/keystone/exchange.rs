//! One request to Keystone, and what its answer means.

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

/// How long Keystone may take for one answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest answer that is read. Catalogues of large clouds have some hundred kilobytes.
const LONGEST_ANSWER: usize = 4 << 20;
/// So much of what Keystone says is repeated.
const LONGEST_MESSAGE: usize = 200;

/// The body of Keystone's answer: what a token stands for.
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
struct Answered {
    token: TokenBody,
}

/// `POST /v3/auth/tokens`
pub(super) async fn authenticate(
    http: &reqwest::Client,
    credentials: &Credentials,
) -> Result<Authorization, KeystoneError> {
    let Some(auth_url) = credentials.auth_url() else {
        return Err(KeystoneError::Refused("there is nobody to ask".into()));
    };
    let url = format!("{auth_url}/auth/tokens");
    let asked = Instant::now();
    let answer = Answer::to(http.post(&url).json(&credentials.request()), &url).await?;
    answer.is_yes(credentials.secret().map(ExposeSecret::expose_secret))?;
    let token = answer.headers.get("x-subject-token").ok_or_else(|| answer.unreadable())?;
    Authorization::new(token, answer.token()?, asked).ok_or_else(|| answer.unreadable())
}

/// `GET /v3/auth/tokens`, asked with the very token that it is about. None if there is no such token.
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
    let answer = Answer::to(request, &url).await?;
    if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) {
        return Ok(None);
    }
    answer.is_yes(token.to_str().ok())?;
    answer.token().map(Some)
}

/// What came back, read whole.
struct Answer<'a> {
    url: &'a str,
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl<'a> Answer<'a> {
    async fn to(request: RequestBuilder, url: &'a str) -> Result<Self, KeystoneError> {
        let request = request.header(header::ACCEPT, "application/json").timeout(DEADLINE);
        let mut answer = request.send().await.map_err(|error| away(url, error))?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| away(url, error))? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                let message = format!("{url} answers with more than {LONGEST_ANSWER} bytes");
                return Err(KeystoneError::Unreadable(message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { url, status: answer.status(), headers: std::mem::take(answer.headers_mut()), body })
    }

    /// An answer that is no success, as the error that it is for us. `secret` is not repeated.
    fn is_yes(&self, secret: Option<&str>) -> Result<(), KeystoneError> {
        let status = self.status;
        let with = |text: &str| format!("{} answers {}: {text}", self.url, status.as_u16());
        // Of a malformed request, Keystone repeats parts: the secret may be among them.
        let words = message(&self.body)
            .filter(|_| status != StatusCode::BAD_REQUEST)
            .filter(|words| secret.is_none_or(|secret| !words.contains(secret)));
        let words = words.as_deref().or(status.canonical_reason()).unwrap_or("no");
        let temporary = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        if temporary || status.is_server_error() {
            return Err(KeystoneError::Away(with(words)));
        }
        if status.is_client_error() {
            return Err(KeystoneError::Refused(with(words)));
        }
        if status.is_redirection() {
            let elsewhere = self.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
            let elsewhere = elsewhere.unwrap_or("elsewhere");
            let message = format!("{} sends us to {elsewhere}: is auth_url right?", self.url);
            return Err(KeystoneError::Unreadable(message));
        }
        Ok(())
    }

    fn token(&self) -> Result<TokenBody, KeystoneError> {
        // What serde finds wrong could quote what it read.
        let Answered { token } = serde_json::from_slice(&self.body).map_err(|_| self.unreadable())?;
        Ok(token)
    }

    fn unreadable(&self) -> KeystoneError {
        KeystoneError::Unreadable(format!("{} answers {} without a token", self.url, self.status.as_u16()))
    }
}

#[derive(Deserialize)]
struct Failed {
    error: Message,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

/// Keystone's own words, if the answer has any.
fn message(body: &[u8]) -> Option<String> {
    let Failed { error: Message { message } } = serde_json::from_slice(body).ok()?;
    let line = message.lines().next().unwrap_or_default();
    Some(line.chars().filter(|c| !c.is_control()).take(LONGEST_MESSAGE).collect())
}

/// No answer at all, with the innermost cause: that is what tells an operator most.
fn away(url: &str, error: reqwest::Error) -> KeystoneError {
    if error.is_timeout() {
        return KeystoneError::Away(format!("{url}: nothing within {} s", DEADLINE.as_secs()));
    }
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    KeystoneError::Away(format!("{url}: {cause}"))
}
