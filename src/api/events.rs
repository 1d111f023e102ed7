//! `/v1/events`: the live event stream (server-sent events, WHATWG HTML §9.2).
//!
//! A volboot extension; Ironic has no such path. Each message is one object with the machine's present state and the
//! event. A slow subscriber receives an event `missed` with the number of skipped messages; `/v1/machines` then
//! provides the present state.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::fault::Fault;
use super::node::find_node;
use super::request::ApiRequest;
use crate::timeline::{MachineId, Update};

/// The maximum number of concurrent subscribers, including those of the UI.
const MAX_SUBSCRIBERS: usize = 64;
/// The interval of keep-alive comments on an idle stream; proxies close idle connections.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// A subscriber's filter and its source of updates.
struct Subscription {
    updates: Receiver<Arc<Update>>,
    stop: CancellationToken,
    machine: Option<MachineId>,
    node: Option<Uuid>,
    retry_sent: bool,
}

/// `GET /v1/events`
pub(super) async fn subscribe(request: ApiRequest) -> Result<Response, Fault> {
    request.query.reject_unknown(&["machine", "node"])?;
    let machine = match request.query.text("machine")? {
        Some(text) => Some(text.parse().map_err(|error| Fault::Invalid(format!("\"{text}\": {error}")))?),
        None => None,
    };
    let node = match request.query.text("node")? {
        Some(ident) => Some(find_node(&request, ident).await?.uuid),
        None => None,
    };
    let operator = &request.operator;
    if operator.timeline.subscriber_count() >= MAX_SUBSCRIBERS {
        return Err(Fault::Unavailable);
    }
    let (updates, stop) = (operator.timeline.subscribe(), operator.appliance.stop.clone());
    let subscription = Subscription { updates, stop, machine, node, retry_sent: false };
    let messages = stream::unfold(subscription, |mut subscription| async move {
        let message = subscription.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(message)), subscription))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(messages)).into_response())
}

impl Subscription {
    /// Waits for the next message; `None` ends the stream.
    async fn next(&mut self) -> Option<String> {
        if !self.retry_sent {
            self.retry_sent = true;
            // Confirms the connection at once, and sets the reconnection delay.
            return Some("retry: 2000\n\n".to_owned());
        }
        loop {
            let update = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                update = tokio::time::timeout(KEEP_ALIVE_INTERVAL, self.updates.recv()) => update,
            };
            match update {
                Err(_) => return Some(":\n\n".to_owned()),
                Ok(Ok(update)) if self.matches(&update) => {
                    let data = serde_json::to_string(&*update).unwrap_or_default();
                    return Some(format!("data: {data}\n\n"));
                }
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Lagged(missed))) => {
                    return Some(format!("event: missed\ndata: {missed}\n\n"));
                }
                Ok(Err(RecvError::Closed)) => return None,
            }
        }
    }

    fn matches(&self, update: &Update) -> bool {
        self.machine.is_none_or(|machine| update.machine.id == machine)
            && self.node.is_none_or(|node| update.machine.node == Some(node))
    }
}
