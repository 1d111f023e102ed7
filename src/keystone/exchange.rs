//! One request to Keystone, and what its answer means.

use std::error::Error;
use std::time::Duration;

use axum::http::{StatusCode, header};
use reqwest::Response;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::authorization::Authorization;
use super::{Credentials, KeystoneError};

/// How long Keystone may take for one answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest answer that is read. Catalogues of large clouds have some hundred kilobytes.
const LONGEST_ANSWER: usize = 4 << 20;
/// So much of what Keystone says is repeated.
const LONGEST_MESSAGE: usize = 200;

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
    let request = http.post(&url).header(header::ACCEPT, "application/json").json(&credentials.request());
    let answer = request.timeout(DEADLINE).send().await.map_err(|error| away(&url, error))?;
    let status = answer.status();
    let token = answer.headers().get("x-subject-token").cloned();
    let location = answer.headers().get(header::LOCATION).cloned();
    let body = read(&url, answer).await?;
    let secret = credentials.secret().map(ExposeSecret::expose_secret);
    if let Some(error) = said_no(&url, status, &body, secret) {
        return Err(error);
    }
    if let Some(location) = location.as_ref().and_then(|location| location.to_str().ok()) {
        return Err(KeystoneError::Unreadable(format!("{url} sends us to {location}: is auth_url right?")));
    }
    let token = token.filter(|_| status.is_success()).ok_or_else(|| unreadable(&url, status))?;
    let Answered { token: body } = parse(&url, status, &body)?;
    Authorization::new(&token, body, asked).ok_or_else(|| unreadable(&url, status))
}

#[derive(Deserialize)]
struct Answered<T> {
    token: T,
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

/// An answer that is no success, as what it means for us.
fn said_no(url: &str, status: StatusCode, body: &[u8], secret: Option<&str>) -> Option<KeystoneError> {
    let with = |text: &str| format!("{url} answers {}: {text}", status.as_u16());
    // Of a malformed request, Keystone repeats parts: the secret may be among them.
    let words = message(body)
        .filter(|_| status != StatusCode::BAD_REQUEST)
        .filter(|words| secret.is_none_or(|secret| !words.contains(secret)));
    let words = words.as_deref().or(status.canonical_reason()).unwrap_or("no");
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Some(KeystoneError::Away(with(words))),
        _ if status.is_server_error() => Some(KeystoneError::Away(with(words))),
        _ if status.is_client_error() => Some(KeystoneError::Refused(with(words))),
        _ => None,
    }
}

fn parse<T: DeserializeOwned>(url: &str, status: StatusCode, body: &[u8]) -> Result<T, KeystoneError> {
    // What serde finds wrong could quote what it read.
    serde_json::from_slice(body).map_err(|_| unreadable(url, status))
}

fn unreadable(url: &str, status: StatusCode) -> KeystoneError {
    KeystoneError::Unreadable(format!("{url} answers {} without a token", status.as_u16()))
}

async fn read(url: &str, mut answer: Response) -> Result<Vec<u8>, KeystoneError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| away(url, error))? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err(KeystoneError::Unreadable(format!(
                "{url} answers with more than {LONGEST_ANSWER} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
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
