//! [`CinderNetwork`]: brings the calls of instances to the [`VirtualCinder`]: soon, late or not at all.
//!
//! A call that was sent takes effect whether its sender waits, sleeps or is dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use reqwest::{Method, Request, Response};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::cinder::{Call, CinderReply, VirtualCinder};
use super::history::{RunEvent, RunHistory};
use super::link::Link;
use super::random::Random;
use crate::cinder::CinderServer;
use crate::keystone::TransportError;

/// How Cinder is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CinderOutage {
    /// It refuses connections.
    NotConnected,
    /// Requests get no answer, and have no effect.
    Silent,
    /// A proxy answers 503.
    Unavailable,
}

/// The fate of a call.
#[derive(Debug, Clone, Copy)]
struct Fate {
    /// The time until the effect; `None`: the request is lost.
    arrives_after: Option<Duration>,
    /// What Cinder does with it.
    treatment: Treatment,
    /// The time until the response; `None`: the response is lost.
    answered_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    Done,
    /// 500 after the effect.
    DoneAndFailed,
    /// 500 without effect.
    Failed,
    /// 409 without effect.
    Conflict,
}

/// The way to one Cinder, for all instances.
#[derive(Debug)]
pub(super) struct CinderNetwork {
    pub(super) cinder: Mutex<VirtualCinder>,
    outage: Mutex<Option<CinderOutage>>,
    history: RunHistory,
    calls: AtomicU32,
}

/// The way of one instance.
#[derive(Debug)]
pub(super) struct CinderRoute {
    pub(super) network: Arc<CinderNetwork>,
    pub(super) link: Arc<Link>,
}

impl Fate {
    const SMOOTH: Self = Self {
        arrives_after: Some(Duration::from_millis(1)),
        treatment: Treatment::Done,
        answered_after: Some(Duration::from_millis(1)),
    };

    /// A late request arrives within the time that volboot waits for it at most ([`crate::attach::Windows`]).
    fn draw(random: &mut Random) -> Self {
        let usual = Self {
            arrives_after: Some(random.millis(1, 60)),
            treatment: Treatment::Done,
            answered_after: Some(random.millis(1, 400)),
        };
        match random.below(40) {
            0 => Self { arrives_after: None, ..usual },
            1 => Self { arrives_after: Some(random.millis(1_000, 60_000)), ..usual },
            2 => Self { answered_after: None, ..usual },
            3 => Self { treatment: Treatment::DoneAndFailed, ..usual },
            4 => Self { treatment: Treatment::Failed, ..usual },
            5 => Self { treatment: Treatment::Conflict, ..usual },
            6 | 7 => Self { answered_after: Some(random.millis(1_000, 8_000)), ..usual },
            8 => Self { arrives_after: Some(random.millis(500, 5_000)), ..usual },
            _ => usual,
        }
    }
}

impl CinderNetwork {
    pub(super) fn new(cinder: VirtualCinder, history: RunHistory) -> Self {
        Self { cinder: Mutex::new(cinder), outage: Mutex::default(), history, calls: AtomicU32::new(0) }
    }

    pub(super) fn started_at(&self) -> Instant {
        self.history.started_at()
    }

    pub(super) fn set_outage(&self, outage: Option<CinderOutage>) {
        *self.outage.lock() = outage;
    }

    /// The call arrives. `None`: it gets no response.
    async fn arrive(
        &self,
        number: u32,
        call: Call,
        treatment: Treatment,
        backend: Duration,
    ) -> Option<CinderReply> {
        let outage = *self.outage.lock();
        match outage {
            Some(CinderOutage::NotConnected | CinderOutage::Silent) => return None,
            Some(CinderOutage::Unavailable) => return Some(CinderReply::unavailable()),
            None => {}
        }
        match treatment {
            Treatment::Failed => return Some(CinderReply::failure()),
            Treatment::Conflict if matches!(call, Call::Reserve(_) | Call::Export(..) | Call::Delete(_)) => {
                return Some(CinderReply::conflict());
            }
            Treatment::Done | Treatment::DoneAndFailed | Treatment::Conflict => {}
        }
        if let Call::Delete(id) = &call {
            self.cinder.lock().begin_deletion(id);
            sleep(backend).await;
        }
        let mut reply = self.cinder.lock().perform(&call);
        if let Some(effect) = reply.effect.take() {
            self.history.record(RunEvent::CallEffect { call: number, effect });
        }
        if treatment == Treatment::DoneAndFailed { Some(CinderReply::failure()) } else { Some(reply) }
    }
}

impl CinderServer for CinderRoute {
    fn answer(
        &self,
        request: Request,
        time_limit: Duration,
    ) -> BoxFuture<'static, Result<Response, TransportError>> {
        let (network, link) = (Arc::clone(&self.network), Arc::clone(&self.link));
        let call = parse(&request);
        let number = network.calls.fetch_add(1, Relaxed) + 1;
        let text = format!("{call:?}");
        network.history.record(RunEvent::CallSent {
            call: number,
            instance: link.instance,
            text: text.clone(),
        });
        Box::pin(async move {
            link.pass().await;
            if *network.outage.lock() == Some(CinderOutage::NotConnected) {
                return Err(TransportError::NotConnected("Connection refused".into()));
            }
            let (fate, backend) = match link.draw(&text) {
                Some(mut random) => (Fate::draw(&mut random), random.millis(1, 2_000)),
                None => (Fate::SMOOTH, Duration::from_millis(1)),
            };
            let (sender, mut receiver) = oneshot::channel();
            let under_way = Arc::clone(&network);
            tokio::spawn(async move {
                let Some(delay) = fate.arrives_after else { return lose(sender).await };
                sleep(delay).await;
                let reply = under_way.arrive(number, call, fate.treatment, backend).await;
                match (reply, fate.answered_after) {
                    (Some(reply), Some(delay)) => {
                        sleep(delay).await;
                        // The sender may have gone.
                        let _ = sender.send(reply);
                    }
                    (None, _) | (_, None) => lose(sender).await,
                }
            });
            let in_time = timeout(time_limit, &mut receiver).await;
            // While an instance is suspended, it sees neither the response nor the end of its time.
            link.pass().await;
            let reply = match in_time {
                Ok(reply) => reply.ok(),
                Err(_) => receiver.try_recv().ok(),
            };
            let Some(reply) = reply else { return Err(TransportError::TimedOut) };
            network.history.record(RunEvent::CallAnswered { call: number, status: reply.status });
            let body = if reply.body.is_null() { String::new() } else { reply.body.to_string() };
            let response = http::Response::builder().status(reply.status).body(body);
            Ok(response.expect("a valid response").into())
        })
    }
}

/// Waits until nobody waits for the response any more.
async fn lose(mut sender: oneshot::Sender<CinderReply>) {
    sender.closed().await;
}

/// The call in a request of volboot's client.
fn parse(request: &Request) -> Call {
    let path: Vec<_> = request.url().path_segments().expect("a path").skip(2).map(str::to_owned).collect();
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or(b"null");
    let body: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    let method = request.method();
    match path.as_slice() {
        ["volumes"] => Call::Ping,
        ["volumes", id] => Call::Volume((*id).to_owned()),
        ["attachments", "detail"] => {
            let mut query = request.url().query_pairs();
            let volume = query.find(|(name, _)| name == "volume_id").expect("names a volume").1;
            Call::List(volume.into_owned())
        }
        ["attachments"] => {
            Call::Reserve(body["attachment"]["volume_uuid"].as_str().expect("names a volume").to_owned())
        }
        ["attachments", id, "action"] => Call::Complete((*id).to_owned()),
        ["attachments", id] if method == Method::PUT => {
            let host = body["attachment"]["connector"]["host"].as_str().expect("names a host");
            Call::Export((*id).to_owned(), host.parse::<Uuid>().expect("the node's UUID"))
        }
        ["attachments", id] if method == Method::DELETE => Call::Delete((*id).to_owned()),
        ["attachments", id] => Call::Show((*id).to_owned()),
        _ => panic!("an unknown call: {method} {}", request.url()),
    }
}
