//! [`CinderProxy`]: one instance's way to Cinder, on which a test stops the instance at a chosen call.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use volboot::listen::{HttpLimits, Listener};

/// The limit of a body.
const MAX_BODY: usize = 1 << 20;

/// A call of an attachment's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    List,
    Reserve,
    Export,
    Complete,
    Delete,
}

/// When the instance is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before the call, which never reaches Cinder.
    Before,
    /// Before the call, which reaches Cinder after this time.
    Late(Duration),
    /// After the call took effect, before its response.
    After,
}

/// A stop at a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    pub(crate) call: Call,
    pub(crate) moment: Moment,
    pub(crate) signal: Signal,
    pub(crate) process: Pid,
}

struct ProxyState {
    upstream: String,
    client: reqwest::Client,
    stop: Mutex<Option<Stop>>,
    /// Whether the stop has come.
    has_stopped: watch::Sender<bool>,
}

/// A running proxy.
pub(crate) struct CinderProxy {
    /// The endpoint for the instance's configuration.
    pub(crate) endpoint: String,
    state: Arc<ProxyState>,
    _end: DropGuard,
}

impl CinderProxy {
    /// Starts a proxy in front of the Cinder at this endpoint.
    pub(crate) fn start(cinder: &str) -> Self {
        let state = Arc::new(ProxyState {
            upstream: cinder.trim_end_matches("/v3").to_owned(),
            client: reqwest::Client::builder().no_proxy().build().expect("a client"),
            stop: Mutex::default(),
            has_stopped: watch::Sender::new(false),
        });
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).expect("a free port exists");
        let endpoint = format!("http://{}/v3", listener.local_addr());
        let router = Router::new().fallback(forward).with_state(Arc::clone(&state));
        let end = CancellationToken::new();
        let limits = HttpLimits {
            request: Duration::from_secs(600),
            connections_per_client: 1024,
            ..HttpLimits::default()
        };
        tokio::spawn(listener.serve(router, limits, end.clone(), Duration::ZERO));
        Self { endpoint, state, _end: end.drop_guard() }
    }

    /// Orders a stop.
    pub(crate) fn stop_at(&self, stop: Stop) {
        self.state.has_stopped.send_replace(false);
        *self.state.stop.lock() = Some(stop);
    }

    /// Waits for the ordered stop.
    pub(crate) async fn wait_for_stop(&self) {
        let mut has_stopped = self.state.has_stopped.subscribe();
        has_stopped.wait_for(|has| *has).await.expect("the proxy exists");
    }
}

fn classify(method: &str, path: &str) -> Option<Call> {
    match (method, path.rsplit('/').next()) {
        ("GET", Some("detail")) => Some(Call::List),
        ("POST", Some("attachments")) => Some(Call::Reserve),
        ("POST", Some("action")) => Some(Call::Complete),
        ("PUT", _) => Some(Call::Export),
        ("DELETE", _) => Some(Call::Delete),
        _ => None,
    }
}

async fn forward(State(state): State<Arc<ProxyState>>, request: Request) -> Response<Body> {
    let call = classify(request.method().as_str(), request.uri().path());
    let stop = state.stop.lock().take_if(|stop| call == Some(stop.call));
    let Some(stop) = stop else { return state.send(request).await };
    // Whatever becomes of the instance's connection.
    let task = tokio::spawn(async move {
        match stop.moment {
            Moment::Before => {
                state.carry_out(stop);
                std::future::pending().await
            }
            Moment::Late(pause) => {
                state.carry_out(stop);
                tokio::time::sleep(pause).await;
                state.send(request).await
            }
            Moment::After => {
                let response = state.send(request).await;
                state.carry_out(stop);
                response
            }
        }
    });
    // A suspended instance finds the response when it wakes up.
    task.await.unwrap_or_else(|error| panic!("{error}"))
}

impl ProxyState {
    fn carry_out(&self, stop: Stop) {
        kill(stop.process, stop.signal).expect("the instance runs");
        self.has_stopped.send_replace(true);
    }

    async fn send(&self, request: Request) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        let Ok(body) = to_bytes(body, MAX_BODY).await else { return StatusCode::BAD_GATEWAY.into_response() };
        head.headers.remove(header::HOST);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let call = self.client.request(head.method, format!("{}{path}", self.upstream));
        let Ok(response) = call.headers(head.headers).body(body).send().await else {
            return StatusCode::BAD_GATEWAY.into_response();
        };
        let (status, content) = (response.status(), response.headers().get(header::CONTENT_TYPE).cloned());
        let mut forwarded = Response::new(Body::from(response.bytes().await.unwrap_or_default()));
        *forwarded.status_mut() = status;
        if let Some(content) = content {
            forwarded.headers_mut().insert(header::CONTENT_TYPE, content);
        }
        forwarded
    }
}
