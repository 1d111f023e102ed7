//! The routes of the cluster listener: `GET /internal/events`, for the other instances alone.
//!
//! The response is one page of events. Without events after the requested place, the request waits for the next ones.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde::Deserialize;

use super::membership::Membership;
use super::proof::{CHALLENGE, INSTANCE, NONCE, PROOF, ProvedRequest, ProvedResponse};
use super::secret::ClusterSecret;
use crate::model::InstanceName;
use crate::timeline::{EventPosition, OutboxPage};

/// The path of the events.
pub(super) const EVENTS: &str = "/internal/events";
/// The longest wait for events.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(5);
/// Characters of a nonce.
const MAX_NONCE: usize = 128;

/// The query of a request for events.
#[derive(Debug, Deserialize)]
struct EventsQuery {
    /// The place after which to read; without one, all events that are left.
    stream: Option<u64>,
    after: Option<u64>,
    /// How long to wait for events, in milliseconds.
    #[serde(default)]
    wait: u64,
}

/// The routes of the cluster listener.
pub fn router(membership: Membership) -> Router {
    Router::new().route(EVENTS, get(answer_events)).with_state(membership)
}

/// `GET /internal/events?stream=…&after=…&wait=…`
async fn answer_events(
    State(membership): State<Membership>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    query: Result<Query<EventsQuery>, QueryRejection>,
    body: Bytes,
) -> Response {
    let received_at = membership.now();
    let Some(secret) = membership.secret() else {
        let text = "volboot: the secret of the cluster has not been read from the store yet\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let target = uri.path_and_query().map_or(uri.path(), |target| target.as_str());
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let from: Option<InstanceName> = text(INSTANCE).parse().ok();
    let (challenge, nonce) = (text(CHALLENGE), text(NONCE));
    let Some(from) = from.filter(|_| nonce.len() <= MAX_NONCE) else { return challenge_sender(&membership) };
    let request = ProvedRequest {
        method: method.as_str(),
        target,
        from: &from,
        to: membership.name(),
        challenge,
        nonce,
        body: &body,
    };
    // The proof first: an unproved request takes no memory.
    if !request.verify(&secret, text(PROOF)) || !membership.challenges().redeem(challenge) {
        return challenge_sender(&membership);
    }
    let Ok(Query(query)) = query else { return StatusCode::BAD_REQUEST.into_response() };
    let after = query.stream.zip(query.after).map(|(stream, number)| EventPosition { stream, number });
    let wait = Duration::from_millis(query.wait).min(MAX_WAIT);
    let (page, is_complete) = wait_for_page(&membership, after, wait).await;
    if is_complete {
        membership.note_complete(&from);
    }
    let body = format_page(&page, is_complete, received_at, membership.now());
    prove_response(&membership, &secret, &request, body)
}

/// Waits for events after a place. The second value: whether there will be no more, as this instance is shutting down.
async fn wait_for_page(
    membership: &Membership,
    after: Option<EventPosition>,
    wait: Duration,
) -> (OutboxPage, bool) {
    let timeline = membership.timeline();
    let mut changes = timeline.outbox_changes();
    let waiting = async {
        loop {
            changes.mark_unchanged();
            if !timeline.outbox_page(after).events.is_empty() || changes.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(wait, waiting) => {}
        () = membership.closed().cancelled() => {}
    }
    let is_closed = membership.closed().is_cancelled();
    let page = timeline.outbox_page(after);
    let is_complete = is_closed && page.events.is_empty();
    (page, is_complete)
}

fn format_page(
    page: &OutboxPage,
    is_complete: bool,
    received_at: Timestamp,
    answered_at: Timestamp,
) -> String {
    let end = page.end.map_or_else(
        || "null".to_owned(),
        |EventPosition { stream, number }| format!("{{\"stream\":{stream},\"number\":{number}}}"),
    );
    let events: Vec<_> = page.events.iter().map(|(number, event)| format!("[{number},{event}]")).collect();
    format!(
        "{{\"received_at\":\"{received_at}\",\"answered_at\":\"{answered_at}\",\"complete\":{is_complete},\
         \"gap\":{},\"end\":{end},\"events\":[{}]}}",
        page.has_gap,
        events.join(",")
    )
}

fn prove_response(
    membership: &Membership,
    secret: &Arc<ClusterSecret>,
    request: &ProvedRequest<'_>,
    body: String,
) -> Response {
    let Ok(next_challenge) = membership.challenges().issue() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let response = ProvedResponse { status: 200, next_challenge: &next_challenge, body: body.as_bytes() };
    let proof = request.sign_response(secret, &response);
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/json".to_owned()),
        (header::CACHE_CONTROL.as_str(), "no-store".to_owned()),
        (CHALLENGE, next_challenge),
        (PROOF, proof),
    ];
    (headers, body).into_response()
}

/// The response to a request without a proof: a challenge.
fn challenge_sender(membership: &Membership) -> Response {
    match membership.challenges().issue() {
        Ok(challenge) => {
            let text = "volboot: the request has no proof of the cluster's secret\n";
            (StatusCode::UNAUTHORIZED, [(CHALLENGE, challenge)], text).into_response()
        }
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
