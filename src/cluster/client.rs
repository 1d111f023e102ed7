//! [`PeerClient`]: requests events of another instance, and verifies the response.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Certificate, Client, Response, StatusCode, Url, redirect};
use serde::Deserialize;

use super::clock_offset::ClockExchange;
use super::membership::Membership;
use super::proof::{CHALLENGE, INSTANCE, NONCE, PROOF, ProvedRequest, ProvedResponse, encode_hex};
use super::secret::random;
use super::server::EVENTS;
use crate::model::InstanceName;
use crate::telemetry::Event;
use crate::timeline::EventPosition;
use crate::tls;

/// Time-out for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the other instance may wait for events. Short, so that an instance that is away is noticed soon.
const WAIT: Duration = Duration::from_secs(2);
/// Time-out for a whole response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a response.
const MAX_BYTES: usize = 4 << 20;
/// Events of a response.
const MAX_EVENTS: usize = 16_384;

/// The HTTP client cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("cannot use [cluster] cacert: {0}")]
pub struct PeerClientError(String);

/// Builds the HTTP client for the other instances. It trusts only the authorities in the file `cacert`; without a file,
/// those of the system.
pub fn build_client(cacert: Option<&Path>) -> Result<Client, PeerClientError> {
    tls::install_provider();
    let builder = || {
        Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(RESPONSE_TIMEOUT)
            .user_agent(concat!("volboot/", env!("CARGO_PKG_VERSION")))
    };
    let client = match cacert {
        Some(path) => {
            let error = |cause: String| PeerClientError(format!("{}: {cause}", path.display()));
            let pem = std::fs::read(path).map_err(|cause| error(cause.to_string()))?;
            let authorities = Certificate::from_pem_bundle(&pem).map_err(|cause| error(cause.to_string()))?;
            builder().tls_certs_only(authorities).build()
        }
        // A host without CA certificates can still use plain HTTP.
        None => builder().build().or_else(|_| builder().tls_certs_only([]).build()),
    };
    client.map_err(|error| PeerClientError(error.to_string()))
}

/// Why an instance gave no events.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error("cannot reach it: {0}")]
    Unreachable(String),
    #[error("the secret of the cluster has not been read from the store yet")]
    NoSecret,
    #[error(
        "it rejects the proof of the cluster's secret; is it an instance on the same store, with the name {0}?"
    )]
    Rejected(InstanceName),
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("its response is not proved: it was forged or cut")]
    Unproved,
    #[error("its response cannot be read: {0}")]
    Malformed(String),
}

/// A response with events.
#[derive(Debug, Deserialize)]
pub(super) struct EventsResponse {
    received_at: Timestamp,
    answered_at: Timestamp,
    #[serde(rename = "complete")]
    pub(super) is_complete: bool,
    #[serde(rename = "gap")]
    pub(super) has_gap: bool,
    pub(super) end: Option<EventPosition>,
    /// An event that another version writes, and this one cannot read, is `None`.
    events: Vec<(u64, serde_json::Value)>,
}

impl EventsResponse {
    /// The readable events, by number.
    pub(super) fn events(&mut self) -> Vec<(u64, Event)> {
        let events = std::mem::take(&mut self.events).into_iter().take(MAX_EVENTS);
        let read = |(number, event)| {
            let event = serde_json::from_value::<Event>(event);
            let event = event.inspect_err(|error| tracing::debug!(%error, "skipped an unreadable event"));
            Some((number, event.ok()?.with_cut_texts()))
        };
        events.filter_map(read).collect()
    }
}

/// Requests to one other instance.
pub(super) struct PeerClient {
    membership: Membership,
    http: Client,
    peer: InstanceName,
    url: String,
    /// The challenge for the next request.
    challenge: String,
}

impl PeerClient {
    pub(super) fn new(membership: Membership, http: Client, peer: InstanceName, url: &str) -> Self {
        Self { membership, http, peer, url: url.trim_end_matches('/').to_owned(), challenge: String::new() }
    }

    /// Requests the events after a place, and waits a while for the first.
    pub(super) async fn request_events(
        &mut self,
        after: Option<EventPosition>,
    ) -> Result<(EventsResponse, ClockExchange), PeerError> {
        let mut query = format!("wait={}", WAIT.as_millis());
        if let Some(EventPosition { stream, number }) = after {
            query.push_str(&format!("&stream={stream}&after={number}"));
        }
        let url: Url = format!("{}{EVENTS}?{query}", self.url)
            .parse()
            .map_err(|error| PeerError::Unreachable(format!("{error}")))?;
        // The first request, and one after a restart of the other instance, gets a challenge.
        for _ in 0..2 {
            if let Some(result) = self.try_request(&url).await? {
                return Ok(result);
            }
        }
        Err(PeerError::Rejected(self.peer.clone()))
    }

    /// Sends the request. `None`: the other instance wants an answer to its new challenge.
    async fn try_request(&mut self, url: &Url) -> Result<Option<(EventsResponse, ClockExchange)>, PeerError> {
        let secret = self.membership.secret().ok_or(PeerError::NoSecret)?;
        let nonce = random::<16>().map_err(|error| PeerError::Unreachable(error.to_string()))?;
        let (nonce, challenge) = (encode_hex(&nonce), std::mem::take(&mut self.challenge));
        // A path of the base URL is for a proxy, which removes it.
        let target = format!("{EVENTS}?{}", url.query().unwrap_or_default());
        let request = ProvedRequest {
            method: "GET",
            target: &target,
            from: self.membership.name(),
            to: &self.peer,
            challenge: &challenge,
            nonce: &nonce,
            body: b"",
        };
        let sending = self
            .http
            .get(url.clone())
            .header(INSTANCE, self.membership.name().as_str())
            .header(CHALLENGE, &challenge)
            .header(NONCE, &nonce)
            .header(PROOF, request.sign(&secret));
        let requested_at = self.membership.now();
        let response = sending.send().await.map_err(|error| PeerError::Unreachable(find_cause(&error)))?;
        let header = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (next_challenge, proof) = (header(CHALLENGE), header(PROOF));
        match response.status() {
            StatusCode::UNAUTHORIZED => {
                self.challenge = next_challenge;
                return Ok(None);
            }
            StatusCode::OK => {}
            other => return Err(PeerError::Status(other.as_u16())),
        }
        let body = read_body(response).await?;
        let arrived_at = self.membership.now();
        let proved = ProvedResponse { status: 200, next_challenge: &next_challenge, body: &body };
        if !request.verify_response(&secret, &proved, &proof) {
            return Err(PeerError::Unproved);
        }
        self.challenge = next_challenge;
        let events: EventsResponse =
            serde_json::from_slice(&body).map_err(|error| PeerError::Malformed(error.to_string()))?;
        let EventsResponse { received_at, answered_at, .. } = events;
        let exchange = ClockExchange {
            requested: requested_at,
            received: received_at,
            answered: answered_at,
            arrived: arrived_at,
        };
        Ok(Some((events, exchange)))
    }
}

/// Reads a body of at most [`MAX_BYTES`].
async fn read_body(mut response: Response) -> Result<Vec<u8>, PeerError> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_BYTES => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(PeerError::Malformed("it is too long".to_owned())),
            Ok(None) => return Ok(body),
            Err(error) => return Err(PeerError::Unreachable(find_cause(&error))),
        }
    }
}

/// The root cause of an error, without the URL.
fn find_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_timeout() { "time-out".to_owned() } else { cause.to_string() }
}
