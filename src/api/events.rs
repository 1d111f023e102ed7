//! `/v1/events`: what happens, told while it happens (server-sent events, WHATWG HTML §9.2).
//!
//! An extension of ours: Ironic has no such path. Every message is one object: the machine as it stands by now, and
//! what happened. Who reads too slowly is told how many it missed, by an event `missed`; a list shows how things are.

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

use super::call::Call;
use super::fault::Fault;
use super::node::found;
use crate::timeline::{Key, Told};

/// Programs and people that may follow at once.
const FOLLOWERS: usize = 64;
/// Without anything to tell, a sign of life is sent so often: proxies close what is silent for long.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// What somebody follows, and how.
struct Following {
    told: Receiver<Arc<Told>>,
    stop: CancellationToken,
    machine: Option<Key>,
    node: Option<Uuid>,
    greeted: bool,
}

/// `GET /v1/events`
pub(super) async fn follow(call: Call) -> Result<Response, Fault> {
    call.query.only(&["machine", "node"])?;
    let machine = match call.query.text("machine")? {
        Some(text) => Some(text.parse().map_err(|error| Fault::Invalid(format!("\"{text}\": {error}")))?),
        None => None,
    };
    let node = match call.query.text("node")? {
        Some(ident) => Some(found(&call, ident).await?.uuid),
        None => None,
    };
    let watch = &call.state.watch;
    if watch.timeline.followers() >= FOLLOWERS {
        return Err(Fault::Unavailable);
    }
    let (told, stop) = (watch.timeline.follow(), watch.stop.clone());
    let following = Following { told, stop, machine, node, greeted: false };
    let messages = stream::unfold(following, |mut following| async move {
        let message = following.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(message)), following))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(messages)).into_response())
}

impl Following {
    /// The next message; none at the end.
    async fn next(&mut self) -> Option<String> {
        if !self.greeted {
            self.greeted = true;
            // The client learns at once that it is connected, and when to come back if it is not any more.
            return Some("retry: 2000\n\n".to_owned());
        }
        loop {
            let told = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                told = tokio::time::timeout(SIGN_OF_LIFE, self.told.recv()) => told,
            };
            match told {
                Err(_) => return Some(":\n\n".to_owned()),
                Ok(Ok(told)) if self.wants(&told) => {
                    let data = serde_json::to_string(&*told).unwrap_or_default();
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

    fn wants(&self, told: &Told) -> bool {
        self.machine.is_none_or(|machine| told.machine.id == machine)
            && self.node.is_none_or(|node| told.machine.node == Some(node))
    }
}
