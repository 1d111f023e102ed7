//! A gate before Cinder: everything volboot asks goes through it, is counted, and can be cut off at any call.
//!
//! So volboot can be ended exactly before a call reaches Cinder, or exactly after Cinder has done it and before volboot
//! hears of it, and volboot needs nothing for that.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use axum::{Router, body};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

const CINDER: &str = "http://127.0.0.1:8776";
const LIMIT: Duration = Duration::from_secs(60);
/// More than anybody here says at once.
const LONGEST: usize = 1 << 20;

/// When volboot is ended, seen from the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Cinder has not heard of it.
    Before,
    /// Cinder has done it.
    After,
}

/// A running gate.
pub(crate) struct Gate {
    /// Where volboot is to ask.
    pub(crate) endpoint: String,
    order: Arc<Mutex<Option<Order>>>,
    cut: Receiver<String>,
}

/// Whom to end, and at which call.
#[derive(Clone, Copy)]
struct Order {
    calls_left: usize,
    moment: Moment,
    victim: Pid,
}

#[derive(Clone)]
struct Keeper {
    order: Arc<Mutex<Option<Order>>>,
    cut: Sender<String>,
    client: reqwest::Client,
}

impl Gate {
    /// Opens it on a thread of its own, in the caller's network.
    pub(crate) fn open() -> Result<Self> {
        volboot::tls::install_provider();
        let (tell, told) = channel();
        let (cut, cuts) = channel();
        let order = Arc::default();
        let keeper = Keeper {
            order: Arc::clone(&order),
            cut,
            client: reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?,
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("gate".into()).spawn(move || {
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                // Unheard only if the test has failed meanwhile.
                let _unheard = tell.send(listener.local_addr()?);
                let service = Router::new().fallback(pass).with_state(keeper);
                loop {
                    let (stream, _) = listener.accept().await?;
                    let service = TowerToHyperService::new(service.clone());
                    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    tokio::spawn(connection);
                }
                // Ends only with the program; says of which kind its errors are.
                #[allow(unreachable_code, reason = "a loop has no other type")]
                Ok::<_, std::io::Error>(())
            })
        })?;
        let address = told.recv_timeout(LIMIT).context("the gate does not open")?;
        Ok(Self { endpoint: format!("http://{address}/v3"), order, cut: cuts })
    }

    /// Has `victim` killed at the call of that number, from 1 on.
    pub(crate) fn kill_at(&self, call: usize, moment: Moment, victim: Pid) {
        let order = Order { calls_left: call, moment, victim };
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
    }

    /// At which call it was killed, if it was: from now on all calls pass.
    pub(crate) fn was_cut(&self) -> Option<String> {
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.cut.try_recv().ok()
    }
}

impl Keeper {
    /// Whom to end at this call, if it is the one. To look at a volume counts for none: volboot does so when Cinder takes
    /// its time.
    fn due(&self, call: &str) -> Option<Order> {
        if call.starts_with("GET ") && call.contains("/volumes/") {
            return None;
        }
        let mut kept = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let order = kept.as_mut()?;
        order.calls_left -= 1;
        if order.calls_left == 0 { kept.take() } else { None }
    }

    fn end(&self, order: Order, call: &str) -> Response<Body> {
        // Said first: who sees that it has ended asks at which call.
        let _unheard = self.cut.send(format!("{:?} {call}", order.moment));
        // It may have been faster.
        let _gone = kill(order.victim, Signal::SIGKILL);
        unanswered()
    }
}

async fn pass(State(keeper): State<Keeper>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let call = format!("{} {}", head.method, head.uri.path());
    let order = keeper.due(&call);
    if let Some(order) = order
        && order.moment == Moment::Before
    {
        return keeper.end(order, &call);
    }
    let Ok(body) = body::to_bytes(body, LONGEST).await else { return unanswered() };
    let mut headers = head.headers;
    headers.remove(header::HOST);
    let onward = keeper.client.request(head.method, format!("{CINDER}{path}")).headers(headers).body(body);
    let Ok(answer) = onward.send().await else { return unanswered() };
    let status = answer.status();
    let content = answer.headers().get(header::CONTENT_TYPE).cloned();
    let text = answer.bytes().await.unwrap_or_else(|_| Bytes::new());
    if let Some(order) = order {
        return keeper.end(order, &call);
    }
    let mut passed = Response::new(Body::from(text));
    *passed.status_mut() = status;
    if let Some(content) = content {
        passed.headers_mut().insert(header::CONTENT_TYPE, content);
    }
    passed
}

fn unanswered() -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
}
