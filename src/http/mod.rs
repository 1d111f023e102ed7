//! The boot listener: serves `/boot.ipxe`, the boot script of each machine and iPXE binaries, and takes boot reports.
//!
//! Always a listener of its own, apart from the operator listener: firmware cannot log in, and a script may hold a
//! secret. Access is limited by network (`[http] allow`), by rate, and by the neighbour check (`[boot] verify_mac`).

mod base_url;
mod boot_requests;
mod events;
mod files;
mod origin;
mod proxy;
mod rate_limit;
mod recorded_boot;
mod rejection;
mod request;
mod resource;
mod respond;
mod second_look;

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use ipnet::IpNet;

use crate::boot::Boot;
use crate::config::{BootConfig, HttpConfig};
use crate::images::{BootFile, Images};
use crate::listen::Peer;
use crate::model::{NeighbourCheck, RequesterFault};
use crate::neighbours::Neighbours;
use crate::telemetry::Metrics;
use crate::timeline::Timeline;
use base_url::build_base_url;
use origin::RequestOrigin;
use rate_limit::{RateDecision, RateLimiter};
use rejection::{Rejection, RejectionLog, respond_rejected};
use resource::BootResource;
use second_look::SecondLooks;

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
    rejection_log: RejectionLog,
    trusted_proxies: Vec<IpNet>,
    neighbours: Neighbours,
    timeline: Timeline,
    second_looks: SecondLooks,
}

impl HttpState {
    /// Takes the parts; reads the networks, the URL and the rate limit from `http`.
    pub fn new(
        boot: Boot,
        config: BootConfig,
        http: &HttpConfig,
        images: Images,
        timeline: Timeline,
        neighbours: Neighbours,
    ) -> Self {
        Self {
            boot,
            config,
            images,
            allow: http.allow.clone(),
            url: http.url.clone(),
            rate_limiter: RateLimiter::new(http.requests_per_second),
            rejection_log: RejectionLog::new(),
            trusted_proxies: http.trusted_proxies.clone(),
            neighbours,
            timeline,
            second_looks: SecondLooks::default(),
        }
    }

    /// Finds the place of the requester in the network.
    async fn check_requester(&self, origin: RequestOrigin) -> NeighbourCheck {
        let RequestOrigin { peer, .. } = origin;
        origin.judge(self.neighbours.check(peer.remote, peer.local.ip()).await)
    }

    /// Logs and counts a requester whose place in the network is the reason of a rejection.
    fn record_fault(&self, origin: RequestOrigin, path: &str, fault: &RequesterFault) {
        self.metrics().count_requester_fault(fault);
        self.rejection_log.log(origin.peer.remote.ip().to_canonical(), path, fault);
    }

    fn metrics(&self) -> &Metrics {
        self.timeline.metrics()
    }

    /// Counts and logs a rejected request, and builds its response.
    fn reject(
        &self,
        peer: Peer,
        uri: &Uri,
        resource: &BootResource,
        rejection: Rejection,
        reason: impl Display,
    ) -> Response {
        self.timeline.metrics().count_http_rejection(rejection.as_label());
        self.rejection_log.log(peer.remote.ip().to_canonical(), uri.path(), &reason);
        respond_rejected(resource, rejection.status(), reason)
    }

    /// Counts a request over the rate limit. It is no log line: one broken machine would flood the log.
    fn count_rate_limited(&self) {
        self.timeline.metrics().count_http_rejection(Rejection::RateLimit.as_label());
    }

    /// The response to a request for a file or a missing path over the rate limit; `None` for allowed requests. Nothing
    /// is recorded, so names cannot fill the history. iPXE honours `Retry-After` for scripts too.
    fn limit_file_rate(&self, peer: Peer, resource: &BootResource) -> Option<Response> {
        let remote = peer.remote.ip().to_canonical();
        let decision = match resource {
            BootResource::File(BootFile::BootScript | BootFile::Autoexec | BootFile::Image(_)) => {
                self.rate_limiter.check_file(remote)
            }
            BootResource::Unknown { .. } => self.rate_limiter.check_missing(remote),
            // Their limits need the requester's MAC address.
            BootResource::BootScript { .. }
            | BootResource::BootReport { .. }
            | BootResource::RecordedBoot { .. } => RateDecision::Allowed,
        };
        if decision == RateDecision::Allowed {
            return None;
        }
        self.count_rate_limited();
        let headers = [(header::RETRY_AFTER, boot_requests::RATE_LIMIT_WAIT.to_string())];
        let text =
            format!("volboot: requests from {remote} exceed the rate limit ([http] requests_per_second)\n");
        Some((Rejection::RateLimit.status(), headers, text).into_response())
    }
}

/// The routes of the boot listener. A path names a [`BootResource`].
pub fn router(state: HttpState) -> Router {
    let state = Arc::new(state);
    Router::new()
        .fallback_service(get(serve).with_state(Arc::clone(&state)))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), check_network))
        .layer(middleware::from_fn_with_state(state, identify_origin))
        .route("/healthz", get(|| async { "ok\n" }))
}

/// Adds the [`RequestOrigin`]: the client of a trusted proxy, else the peer. Rejects requests without a [`Peer`].
async fn identify_origin(State(state): State<Arc<HttpState>>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().copied() else {
        return StatusCode::FORBIDDEN.into_response();
    };
    match RequestOrigin::identify(peer, request.headers(), &state.trusted_proxies) {
        Ok(origin) => {
            request.extensions_mut().insert(origin);
            next.run(request).await
        }
        Err(error) => {
            let resource = BootResource::from_path(request.uri().path());
            state.reject(peer, request.uri(), &resource, Rejection::Malformed, error)
        }
    }
}

/// Rejects requesters outside the networks of `[http] allow`.
async fn check_network(
    State(state): State<Arc<HttpState>>,
    Extension(RequestOrigin { peer, .. }): Extension<RequestOrigin>,
    request: Request,
    next: Next,
) -> Response {
    let remote = peer.remote.ip().to_canonical();
    if state.allow.iter().any(|network| network.contains(&remote)) {
        return next.run(request).await;
    }
    let resource = BootResource::from_path(request.uri().path());
    let reason = format!("address {remote} is not in any network of [http] allow");
    state.reject(peer, request.uri(), &resource, Rejection::Network, reason)
}

async fn serve(
    method: Method,
    State(state): State<Arc<HttpState>>,
    Extension(origin): Extension<RequestOrigin>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let (state, peer) = (&*state, origin.peer);
    let query = uri.query().unwrap_or_default();
    let resource = BootResource::from_path(uri.path());
    let reject = |rejection, reason: &dyn Display| state.reject(peer, &uri, &resource, rejection, reason);
    if let Some(response) = state.limit_file_rate(peer, &resource) {
        return response;
    }
    match &resource {
        BootResource::File(BootFile::BootScript) => files::serve_gather(state, peer, &method, "").await,
        BootResource::File(BootFile::Autoexec) => {
            let configured = state.url.as_ref().map(|url| format!("{url}/"));
            let base = configured.unwrap_or_else(|| build_base_url(&uri, &headers, peer));
            files::serve_gather(state, peer, &method, &base).await
        }
        BootResource::File(BootFile::Image(name)) => {
            let response = files::serve_image(state, peer, &method, name).await;
            response.unwrap_or_else(|| {
                let reason = format!("this host lacks {name}; `volboot images` names its package");
                reject(Rejection::NotFound, &reason)
            })
        }
        BootResource::BootScript { address } => {
            let response = boot_requests::answer_boot_request(state, origin, &method, address, query).await;
            response.unwrap_or_else(|error| reject(Rejection::Malformed, &error))
        }
        BootResource::BootReport { address } => {
            let response = boot_requests::take_boot_report(state, origin, &method, address, query).await;
            response.unwrap_or_else(|error| reject(Rejection::Malformed, &error))
        }
        BootResource::RecordedBoot { address } => {
            let response =
                recorded_boot::respond_recorded_boot(state, origin, address, query, &headers).await;
            response.unwrap_or_else(|error| reject(Rejection::Malformed, &error))
        }
        BootResource::Unknown { boot_file } => {
            if let Some(name) = boot_file {
                files::record_fetch(state, peer, &method, name, None).await;
            }
            let reason =
                "no such path; machines read /boot.ipxe, and the binaries that `volboot images` lists";
            reject(Rejection::NotFound, &reason)
        }
    }
}
