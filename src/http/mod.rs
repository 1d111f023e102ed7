//! The machines' door (steps 4, 5 and 10): the script for everybody, the script for one machine, and what a machine
//! reports of its tries.
//!
//! Never the listener that people talk to: there is nothing here to log in to, and a script may hold a secret. Who
//! may ask at all is a matter of networks.

mod pace;
mod question;
mod seen;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderName, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use ipnet::IpNet;

use crate::boot::{Boot, Decision, Resolved};
use crate::config::{BootConfig, HttpConfig};
use crate::images::Images;
use crate::listen::Peer;
use crate::model::{Answer, Asker, Mac, Seen};
use crate::neighbours::Neighbours;
use crate::script::{self, Journey, Script};
use crate::timeline::Timeline;
use pace::{Pace, Pacer};
use question::{Event, Malformed, asker};

/// How long a machine waits that asks too often, in seconds.
const PACED_PAUSE: u32 = 15;

/// What machines are answered from.
#[derive(Debug)]
pub struct Machines {
    boot: Boot,
    config: BootConfig,
    images: Images,
    allow: Vec<IpNet>,
    /// What machines are told, if the operator said it.
    url: Option<String>,
    pacer: Pacer,
    /// None if cards are not to be looked for.
    neighbours: Option<Neighbours>,
    timeline: Timeline,
}

impl Machines {
    /// All that the door needs.
    pub fn new(
        boot: Boot,
        config: BootConfig,
        http: &HttpConfig,
        images: Images,
        timeline: Timeline,
    ) -> Self {
        Self {
            boot,
            config,
            images,
            allow: http.allow.clone(),
            url: http.url.clone(),
            pacer: Pacer::new(http.requests_per_second),
            neighbours: config.verify_mac.then(Neighbours::default),
            timeline,
        }
    }

    /// The card that the network shows for who asks; none if there is none to be seen, or none is to be looked for.
    async fn card(&self, peer: Peer) -> Option<Mac> {
        self.neighbours.as_ref()?.seen(peer.remote, peer.local.ip()).await.card()
    }
}

/// The routes of the machines' listener.
pub fn router(machines: Machines) -> Router {
    let machines = Arc::new(machines);
    Router::new()
        .route("/boot.ipxe", get(gather))
        .route("/autoexec.ipxe", get(autoexec))
        .route("/images/autoexec.ipxe", get(autoexec))
        .route("/boot/", get(boot_by_query))
        .route("/boot/{mac}", get(boot))
        .route("/boot/{mac}/event", get(event))
        .route("/images/{name}", get(image))
        .layer(middleware::from_fn_with_state(Arc::clone(&machines), allowed))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "volboot: there is nothing here\n") })
        .with_state(machines)
}

/// Turns away who asks from a network that is not allowed. A connection without a peer is not one of ours.
async fn allowed(State(machines): State<Arc<Machines>>, request: Request, next: Next) -> Response {
    let remote = request.extensions().get::<Peer>().map(|peer| peer.remote.ip().to_canonical());
    match remote {
        Some(remote) if machines.allow.iter().any(|network| network.contains(&remote)) => {
            next.run(request).await
        }
        _ => {
            let remote = remote.map(|remote| remote.to_string()).unwrap_or_default();
            tracing::warn!(remote, "a request from a network that [http] allow does not name");
            // A machine is told so on its console, by a script; whoever else asks can read it too.
            let reason = format!("the address {remote} is in no network of [http] allow");
            match script::refusal(&reason) {
                Ok(script) if request.uri().path().starts_with("/boot") => send(script),
                _ => (StatusCode::FORBIDDEN, format!("volboot: {reason}\n")).into_response(),
            }
        }
    }
}

async fn gather(method: Method, machines: State<Arc<Machines>>, peer: Extension<Peer>) -> Response {
    gather_from("", &method, &machines, *peer).await
}

/// What an iPXE that UEFI firmware fetched over HTTP asks for before it asks DHCP: where it came from, then in the root.
///
/// It forgets the script's own URL once it has asked DHCP after all, so relative URLs would lead elsewhere.
async fn autoexec(method: Method, machines: State<Arc<Machines>>, peer: Extension<Peer>) -> Response {
    let reached = || {
        let scheme = if peer.tls { "https" } else { "http" };
        format!("{scheme}://{}", SocketAddr::new(peer.local.ip().to_canonical(), peer.local.port()))
    };
    let url = machines.url.clone().unwrap_or_else(reached);
    gather_from(&format!("{url}/"), &method, &machines, *peer).await
}

async fn gather_from(base: &str, method: &Method, machines: &Machines, peer: Peer) -> Response {
    if method == Method::GET {
        machines.timeline.tell(seen::gathered(peer, machines.card(peer).await));
    }
    match script::gather(base, Journey::new()) {
        Ok(script) => send(script),
        Err(error) => unwritten(&error),
    }
}

/// A machine that could not name the card it booted through names its others.
async fn boot_by_query(
    method: Method,
    state: State<Arc<Machines>>,
    peer: Extension<Peer>,
    query: RawQuery,
) -> Result<Response, Malformed> {
    boot(method, state, peer, Path(String::new()), query).await
}

async fn boot(
    method: Method,
    State(machines): State<Arc<Machines>>,
    Extension(peer): Extension<Peer>,
    Path(mac): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Malformed> {
    let began = Instant::now();
    let mut asker = asker(&mac, query.as_deref().unwrap_or_default())?;
    let remote = peer.remote.ip().to_canonical();
    if let Some(slowly) = paced(machines.pacer.address(remote), &asker, remote, machines.config) {
        return Ok(slowly);
    }
    if let Some(neighbours) = &machines.neighbours {
        asker.seen = neighbours.seen(peer.remote, peer.local.ip()).await;
    }
    let card = if let Seen::Card { mac, .. } = asker.seen { mac } else { asker.mac() };
    if let Some(slowly) = paced(machines.pacer.card(remote, card), &asker, remote, machines.config) {
        return Ok(slowly);
    }
    // Who only asks for the headers does not boot: nothing is attached for it.
    let boots = method != Method::HEAD;
    let mut decision =
        if boots { machines.boot.answer(&asker).await } else { machines.boot.preview(&asker).await };
    if boots && let Some(wait) = looping(&machines, &asker, peer, &decision.answer) {
        decision.answer = wait;
    }
    let mut script = script::answer(&decision.answer, &asker, machines.config);
    if script.is_err() {
        // The types should have stopped it. The machine is told, and so is whoever reads the log line below.
        decision.answer = Answer::Refuse {
            reason: "a value in this node's records cannot be written into a script".into(),
        };
        script = script::answer(&decision.answer, &asker, machines.config);
    }
    if boots {
        machines.timeline.tell(seen::answered(peer, &asker, &decision, machines.config.tries, began));
    }
    let Decision { answer, node, resolved, .. } = decision;
    for Resolved { volume, source, took } in &resolved {
        tracing::info!(mac = %asker.mac(), volume, source = source.as_str(), millis = took.as_millis() as u64, "volume");
    }
    tracing::info!(
        mac = %asker.mac(),
        node = node.map(tracing::field::display),
        attempt = asker.attempt,
        tls = peer.tls,
        outcome = answer.outcome(),
        reason = answer.reason(),
        micros = began.elapsed().as_micros() as u64,
        "boot request"
    );
    Ok(script.map_or_else(|error| unwritten(&error), send))
}

/// What a machine is told that begins journey after journey and never hooks its volume: to wait, and why. Nothing for
/// any other, and for whoever asks without having begun.
fn looping(machines: &Machines, asker: &Asker, peer: Peer, answer: &Answer) -> Option<Answer> {
    let (Answer::Boot(_), Some(journey), 1) = (answer, &asker.journey, asker.attempt) else { return None };
    let paced = machines.timeline.begins(asker.mac(), journey)?;
    if paced.first {
        machines.timeline.tell(seen::paced(peer, asker, paced));
    }
    let reason = format!(
        "it began {} times without ever hooking its volume, and waits before it tries again; its timeline tells why",
        paced.journeys
    );
    Some(Answer::Wait { reason, seconds: paced.seconds })
}

async fn event(
    method: Method,
    State(machines): State<Arc<Machines>>,
    Extension(peer): Extension<Peer>,
    Path(mac): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Malformed> {
    let event = Event::read(&mac, query.as_deref().unwrap_or_default())?;
    if machines.pacer.address(peer.remote.ip().to_canonical()) != Pace::Go {
        // Without Retry-After, on which iPXE would ask again.
        return Ok((StatusCode::TOO_MANY_REQUESTS, "volboot: too many events\n").into_response());
    }
    let Event { mac, step, rc, attempt } = &event;
    if let Some(card) = machines.card(peer).await
        && !machines.boot.speaks_for(card, *mac).await
    {
        tracing::info!(%mac, %card, step, rc, attempt, "boot event of another machine");
        let text = format!("volboot: {mac} and {card} are not of one machine ([boot] verify_mac)\n");
        return Ok((StatusCode::FORBIDDEN, text).into_response());
    }
    tracing::info!(%mac, step, rc, attempt, tls = peer.tls, "boot event");
    if method == Method::GET {
        machines.timeline.tell(seen::reported(peer, event));
    }
    // A body with its length: on a 204, iPXE would wait for the connection to close.
    Ok((NO_STORE, "noted\n").into_response())
}

/// What a machine is told that asks too often. Not in the log: there it would drown what else is told.
fn paced(pace: Pace, asker: &Asker, remote: IpAddr, config: BootConfig) -> Option<Response> {
    match pace {
        Pace::Go => None,
        Pace::TooSoon => {
            tracing::debug!(mac = %asker.mac(), %remote, "a machine asks too often");
            let reason = format!("{} or {remote} asks too often", asker.mac());
            let answer = Answer::Wait { reason, seconds: PACED_PAUSE };
            let script = script::answer(&answer, asker, config);
            Some(script.map_or_else(|error| unwritten(&error), send))
        }
        // iPXE honours this by itself, without a word on the console.
        Pace::TooMany => {
            let headers = [(header::RETRY_AFTER, PACED_PAUSE.to_string())];
            Some((StatusCode::SERVICE_UNAVAILABLE, headers, "volboot: too many requests\n").into_response())
        }
    }
}

async fn image(
    method: Method,
    State(machines): State<Arc<Machines>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Response {
    let found = machines.images.get(&name);
    if method == Method::GET {
        let (card, size) = (machines.card(peer).await, found.as_ref().map(|content| content.len() as u64));
        machines.timeline.tell(seen::fetched(peer, card, name.clone(), size));
    }
    match found {
        // UEFI HTTP boot takes the kind of file from the type, or from the name's ending.
        Some(content) if name.to_ascii_lowercase().ends_with(".efi") => {
            ([(header::CONTENT_TYPE, "application/efi")], content).into_response()
        }
        Some(content) => ([(header::CONTENT_TYPE, "application/octet-stream")], content).into_response(),
        None => (StatusCode::NOT_FOUND, "volboot: there is no such image\n").into_response(),
    }
}

const NO_STORE: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

fn send(script: Script) -> Response {
    (NO_STORE, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], script.into_text()).into_response()
}

fn unwritten(error: &script::ScriptError) -> Response {
    tracing::error!(error = %error, "no script could be written");
    (StatusCode::INTERNAL_SERVER_ERROR, "volboot: no script could be written; its log says more\n")
        .into_response()
}

impl IntoResponse for Malformed {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, format!("volboot: {self}\n")).into_response()
    }
}
