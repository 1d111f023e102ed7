//! [`CrashProxy`]: a proxy in front of Cinder that kills volboot at a chosen call.
//!
//! The kill comes either before the call reaches Cinder, or after the call took effect and before volboot gets the
//! response. volboot needs no code for these tests.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, Response, StatusCode, header};
use axum::{Router, body};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

const CINDER: &str = "http://127.0.0.1:8776";
const LIMIT: Duration = Duration::from_secs(60);
/// The limit of a request body.
const MAX_BODY_BYTES: usize = 1 << 20;

/// The moment of the kill relative to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before the call reaches Cinder.
    Before,
    /// After the call took effect in Cinder.
    After,
}

/// A running proxy.
pub(crate) struct CrashProxy {
    /// The URL for volboot's configuration.
    pub(crate) endpoint: String,
    order: Arc<Mutex<Option<KillOrder>>>,
    kills: Receiver<String>,
}

/// The process to kill, and the call.
#[derive(Clone)]
struct KillOrder {
    calls_left: usize,
    moment: Moment,
    volume: String,
    victim: Pid,
}

#[derive(Clone)]
struct ProxyState {
    order: Arc<Mutex<Option<KillOrder>>>,
    kills: Sender<String>,
    client: reqwest::Client,
}

impl CrashProxy {
    /// Starts the proxy on a separate thread, in the caller's network namespace.
    pub(crate) fn start() -> Result<Self> {
        volboot::tls::install_provider();
        let (address_sender, address) = channel();
        let (kill_sender, kills) = channel();
        let order = Arc::default();
        let state = ProxyState {
            order: Arc::clone(&order),
            kills: kill_sender,
            client: reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?,
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("proxy".into()).spawn(move || {
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                // Fails only if the test has failed meanwhile.
                let _disconnected = address_sender.send(listener.local_addr()?);
                let service = Router::new().fallback(forward).with_state(state);
                loop {
                    let (stream, _) = listener.accept().await?;
                    let service = TowerToHyperService::new(service.clone());
                    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    tokio::spawn(connection);
                }
                // Unreachable; determines the error type of the block.
                #[allow(unreachable_code, reason = "a loop has no other type")]
                Ok::<_, std::io::Error>(())
            })
        })?;
        let address = address.recv_timeout(LIMIT).context("the proxy does not start")?;
        Ok(Self { endpoint: format!("http://{address}/v3"), order, kills })
    }

    /// Orders a kill of `victim` at the call for this volume with this number, starting at 1.
    pub(crate) fn kill_at(&self, call: usize, moment: Moment, volume: &str, victim: Pid) {
        let order = KillOrder { calls_left: call, moment, volume: volume.to_owned(), victim };
        *self.order.lock() = Some(order);
    }

    /// Returns the call of the kill, if any. Cancels the order: all further calls pass.
    pub(crate) fn take_kill(&self) -> Option<String> {
        *self.order.lock() = None;
        self.kills.try_recv().ok()
    }
}

impl ProxyState {
    /// Takes the order if this call is due.
    ///
    /// Reads of volumes do not count: volboot sends them to diagnose slow calls. Neither do lists of the attachments of
    /// other volumes: volboot looks for the late attachment of a create request without a response, even after the
    /// detachment.
    fn take_due_order(&self, method: &Method, path: &str) -> Option<KillOrder> {
        let mut pending = self.order.lock();
        let order = pending.as_mut()?;
        let is_read = method == Method::GET;
        if is_read && (path.contains("/volumes/") || !path.contains(&order.volume)) {
            return None;
        }
        order.calls_left -= 1;
        if order.calls_left == 0 { pending.take() } else { None }
    }

    fn kill(&self, order: &KillOrder, call: &str) -> Response<Body> {
        // Sent first: the test reads the call as soon as volboot has ended.
        let _disconnected = self.kills.send(format!("{:?} {call}", order.moment));
        // volboot may have ended by itself.
        let _no_process = signal::kill(order.victim, Signal::SIGKILL);
        bad_gateway()
    }
}

async fn forward(State(state): State<ProxyState>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let call = format!("{} {}", head.method, head.uri.path());
    let order = state.take_due_order(&head.method, path);
    if let Some(order) = &order
        && order.moment == Moment::Before
    {
        return state.kill(order, &call);
    }
    let Ok(body) = body::to_bytes(body, MAX_BODY_BYTES).await else { return bad_gateway() };
    let mut headers = head.headers;
    headers.remove(header::HOST);
    let upstream = state.client.request(head.method, format!("{CINDER}{path}")).headers(headers).body(body);
    let Ok(response) = upstream.send().await else { return bad_gateway() };
    let status = response.status();
    let content = response.headers().get(header::CONTENT_TYPE).cloned();
    let text = response.bytes().await.unwrap_or_else(|_| Bytes::new());
    if let Some(order) = &order {
        return state.kill(order, &call);
    }
    let mut forwarded = Response::new(Body::from(text));
    *forwarded.status_mut() = status;
    if let Some(content) = content {
        forwarded.headers_mut().insert(header::CONTENT_TYPE, content);
    }
    forwarded
}

fn bad_gateway() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
