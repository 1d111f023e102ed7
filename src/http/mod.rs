//! The boot listener: serves `/boot.ipxe`, the boot script of each machine and iPXE binaries, and takes boot reports.
//!
//! Always a listener of its own, apart from the operator listener: firmware cannot log in, and a script may hold a
//! secret. Access is limited by network (`[http] allow`), by rate, and by the neighbour check (`[boot] verify_mac`).

mod events;
mod rate_limit;
mod request;

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

use crate::boot::{Boot, Decision, VolumeResolution};
use crate::config::{BootConfig, HttpConfig};
use crate::images::Images;
use crate::listen::Peer;
use crate::model::{BootAnswer, BootRequest, BootStep, Mac, NeighbourCheck};
use crate::neighbours::Neighbours;
use crate::script::{self, Journey, Script};
use crate::timeline::Timeline;
use rate_limit::{RateDecision, RateLimiter};
use request::{BootReport, RequestError, parse_boot_request};

/// The wait of a machine over the rate limit, in seconds.
const RATE_LIMIT_WAIT: u32 = 15;

/// The state behind all handlers.
#[derive(Debug)]
pub struct HttpState {
    boot: Boot,
    config: BootConfig,
    images: Images,
    allow: Vec<IpNet>,
    /// The listener's external URL, if configured.
    url: Option<String>,
    rate_limiter: RateLimiter,
    /// `None` if `verify_mac` is off.
    neighbours: Option<Neighbours>,
    timeline: Timeline,
}

impl HttpState {
    /// Takes the parts; reads the networks, the URL and the rate limit from `http`.
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
            rate_limiter: RateLimiter::new(http.requests_per_second),
            neighbours: config.verify_mac.then(Neighbours::default),
            timeline,
        }
    }

    /// The requester's MAC address in the neighbour table, if the check is on and finds one.
    async fn find_mac(&self, peer: Peer) -> Option<Mac> {
        self.neighbours.as_ref()?.check(peer.remote, peer.local.ip()).await.mac()
    }
}

/// The routes of the boot listener.
pub fn router(state: HttpState) -> Router {
    let state = Arc::new(state);
    Router::new()
        .route("/boot.ipxe", get(gather))
        .route("/autoexec.ipxe", get(autoexec))
        .route("/images/autoexec.ipxe", get(autoexec))
        .route("/boot/", get(boot_by_query))
        .route("/boot/{mac}", get(boot))
        .route("/boot/{mac}/event", get(event))
        .route("/images/{name}", get(image))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), check_network))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "volboot: no such path\n") })
        .with_state(state)
}

/// Rejects requesters outside the networks of `[http] allow`, and requests without a [`Peer`].
async fn check_network(State(state): State<Arc<HttpState>>, request: Request, next: Next) -> Response {
    let remote = request.extensions().get::<Peer>().map(|peer| peer.remote.ip().to_canonical());
    match remote {
        Some(remote) if state.allow.iter().any(|network| network.contains(&remote)) => {
            next.run(request).await
        }
        _ => {
            let remote = remote.map(|remote| remote.to_string()).unwrap_or_default();
            tracing::warn!(remote, "request rejected: address not in [http] allow");
            // A script shows the reason on the machine's console, and is plain text for any other client.
            let reason = format!("address {remote} is not in any network of [http] allow");
            match script::build_refusal(&reason) {
                Ok(script) if request.uri().path().starts_with("/boot") => respond_script(script),
                _ => (StatusCode::FORBIDDEN, format!("volboot: {reason}\n")).into_response(),
            }
        }
    }
}

async fn gather(method: Method, state: State<Arc<HttpState>>, peer: Extension<Peer>) -> Response {
    respond_gather("", &method, &state, *peer).await
}

/// `autoexec.ipxe`: an iPXE that UEFI firmware fetched over HTTP requests it before DHCP, first beside its own
/// binary, then in the root.
///
/// After a later DHCP exchange iPXE has lost the script's own URL, so the script must not contain relative URLs.
async fn autoexec(method: Method, state: State<Arc<HttpState>>, peer: Extension<Peer>) -> Response {
    let local_url = || {
        let scheme = if peer.tls { "https" } else { "http" };
        format!("{scheme}://{}", SocketAddr::new(peer.local.ip().to_canonical(), peer.local.port()))
    };
    let url = state.url.clone().unwrap_or_else(local_url);
    respond_gather(&format!("{url}/"), &method, &state, *peer).await
}

async fn respond_gather(base: &str, method: &Method, state: &HttpState, peer: Peer) -> Response {
    if method == Method::GET {
        state.timeline.record(events::session_started(peer, state.find_mac(peer).await));
    }
    match script::build_gather(base, Journey::new()) {
        Ok(script) => respond_script(script),
        Err(error) => respond_script_error(&error),
    }
}

/// `/boot/`: the path lacks the MAC address if iPXE has none for the boot card; the query lists the other cards.
async fn boot_by_query(
    method: Method,
    state: State<Arc<HttpState>>,
    peer: Extension<Peer>,
    query: RawQuery,
) -> Result<Response, RequestError> {
    boot(method, state, peer, Path(String::new()), query).await
}

async fn boot(
    method: Method,
    State(state): State<Arc<HttpState>>,
    Extension(peer): Extension<Peer>,
    Path(mac): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, RequestError> {
    let started_at = Instant::now();
    let mut request = parse_boot_request(&mac, query.as_deref().unwrap_or_default())?;
    let remote = peer.remote.ip().to_canonical();
    let decision = state.rate_limiter.check_address(remote);
    if let Some(response) = respond_rate_limited(decision, &request, remote, state.config) {
        return Ok(response);
    }
    if let Some(neighbours) = &state.neighbours {
        request.neighbour_check = neighbours.check(peer.remote, peer.local.ip()).await;
    }
    let mac =
        if let NeighbourCheck::Entry { mac, .. } = request.neighbour_check { mac } else { request.mac() };
    let decision = state.rate_limiter.check_mac(remote, mac);
    if let Some(response) = respond_rate_limited(decision, &request, remote, state.config) {
        return Ok(response);
    }
    // HEAD is safe: the script is previewed, and no volume is attached.
    let boots = method != Method::HEAD;
    let mut decision =
        if boots { state.boot.answer(&request).await } else { state.boot.preview(&request).await };
    if boots && let Some(delay) = decision.held.filter(|delay| delay.is_first) {
        state.timeline.record(events::loop_delay(peer, &request, delay));
    }
    let mut script = script::build_script(&decision.answer, &request, state.config);
    if script.is_err() {
        // The types of `model` should have prevented this. The console and the log line below say so.
        decision.answer = BootAnswer::Refused {
            reason: "a value in this node's records cannot be written into an iPXE script".into(),
        };
        script = script::build_script(&decision.answer, &request, state.config);
    }
    if boots {
        state.timeline.record(events::boot_request(
            peer,
            &request,
            &decision,
            state.config.tries,
            started_at,
        ));
    }
    let Decision { answer, node, resolutions: resolved, .. } = decision;
    for VolumeResolution { volume, source, duration: took } in &resolved {
        let duration_ms = took.as_millis() as u64;
        tracing::info!(mac = %request.mac(), volume, source = source.as_str(), duration_ms, "volume resolved");
    }
    tracing::info!(
        mac = %request.mac(),
        node = node.map(tracing::field::display),
        attempt = request.attempt,
        tls = peer.tls,
        outcome = answer.outcome().as_str(),
        reason = answer.reason(),
        duration_us = started_at.elapsed().as_micros() as u64,
        "boot request"
    );
    Ok(script.map_or_else(|error| respond_script_error(&error), respond_script))
}

async fn event(
    method: Method,
    State(state): State<Arc<HttpState>>,
    Extension(peer): Extension<Peer>,
    Path(mac): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, RequestError> {
    let report = BootReport::parse(&mac, query.as_deref().unwrap_or_default())?;
    if state.rate_limiter.check_address(peer.remote.ip().to_canonical()) != RateDecision::Allowed {
        // Without Retry-After: iPXE would honour it and hold up the boot.
        return Ok((StatusCode::TOO_MANY_REQUESTS, "volboot: rate limit exceeded\n").into_response());
    }
    let BootReport { mac, step, rc, attempt } = &report;
    let step = step.as_ref().map(BootStep::to_string);
    if let Some(sender) = state.find_mac(peer).await
        && !state.boot.is_same_machine(sender, *mac).await
    {
        tracing::info!(%mac, %sender, step, rc, attempt, "boot report rejected: sender is another machine");
        let text =
            format!("volboot: {mac} and {sender} do not belong to the same machine ([boot] verify_mac)\n");
        return Ok((StatusCode::FORBIDDEN, text).into_response());
    }
    tracing::info!(%mac, step, rc, attempt, tls = peer.tls, "boot report");
    if method == Method::GET {
        state.timeline.record(events::boot_report(peer, report));
    }
    // A body with its length: after a 204, iPXE would wait for the connection to close.
    Ok((NO_STORE, "noted\n").into_response())
}

/// The response to a request over the rate limit; `None` for allowed requests.
///
/// Logged at debug level only: at any other, one broken machine would flood the log.
fn respond_rate_limited(
    decision: RateDecision,
    request: &BootRequest,
    remote: IpAddr,
    config: BootConfig,
) -> Option<Response> {
    match decision {
        RateDecision::Allowed => None,
        RateDecision::OverLimit => {
            tracing::debug!(mac = %request.mac(), %remote, "rate limit exceeded");
            let reason = format!(
                "requests from {} or {remote} exceed the rate limit ([http] requests_per_second)",
                request.mac()
            );
            let answer = BootAnswer::Wait { reason, seconds: RATE_LIMIT_WAIT };
            let script = script::build_script(&answer, request, config);
            Some(script.map_or_else(|error| respond_script_error(&error), respond_script))
        }
        // iPXE honours Retry-After by itself, without a line on the console.
        RateDecision::TableFull => {
            let headers = [(header::RETRY_AFTER, RATE_LIMIT_WAIT.to_string())];
            Some((StatusCode::SERVICE_UNAVAILABLE, headers, "volboot: too many requests\n").into_response())
        }
    }
}

async fn image(
    method: Method,
    State(state): State<Arc<HttpState>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Response {
    let image = state.images.get(&name);
    if method == Method::GET {
        let (mac, size) = (state.find_mac(peer).await, image.as_ref().map(|content| content.len() as u64));
        state.timeline.record(events::http_fetch(peer, mac, name.clone(), size));
    }
    match image {
        // UEFI HTTP boot derives the file type from the media type, or from the extension.
        Some(content) if name.to_ascii_lowercase().ends_with(".efi") => {
            ([(header::CONTENT_TYPE, "application/efi")], content).into_response()
        }
        Some(content) => ([(header::CONTENT_TYPE, "application/octet-stream")], content).into_response(),
        None => (StatusCode::NOT_FOUND, "volboot: no such image\n").into_response(),
    }
}

const NO_STORE: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

fn respond_script(script: Script) -> Response {
    (NO_STORE, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], script.into_text()).into_response()
}

fn respond_script_error(error: &script::ScriptError) -> Response {
    tracing::error!(error = %error, "cannot write a boot script");
    (StatusCode::INTERNAL_SERVER_ERROR, "volboot: cannot write the boot script; see volboot's log\n")
        .into_response()
}

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, format!("volboot: {self}\n")).into_response()
    }
}
