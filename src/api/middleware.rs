//! The middleware around all routes: normalizes the path, negotiates the microversion and authenticates the caller.
//!
//! It also sets the headers that clients expect on every response, including errors.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use tracing::Instrument as _;
use uuid::Uuid;

use super::fault::Fault;
use super::links::Links;
use super::negotiation::negotiate;
use super::request::RequestContext;
use super::version::Microversion;
use crate::auth::{AccessRole, Auth, Caller};

/// Carries the id under which the log records the request.
const REQUEST_ID: HeaderName = HeaderName::from_static("openstack-request-id");
const LEGACY_REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");

/// The paths served without authentication, for API discovery.
pub(super) const PUBLIC_PATHS: [&str; 3] = ["/", "/v1", "/openapi.json"];

/// Handles one request; must run before the router.
pub(super) async fn handle_request(State(auth): State<Auth>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = format!("req-{}", Uuid::new_v4());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let negotiated = negotiate(request.headers());
    let version = negotiated.as_ref().ok().copied();
    let span = tracing::info_span!("api", id);
    let mut response = match negotiated {
        Ok(version) => dispatch(&auth, version, request, next).instrument(span).await,
        Err(fault) => fault.into_response(),
    };
    if !method.is_safe() {
        // Only changes are logged; reads are too many.
        let (status, duration_ms) = (response.status().as_u16(), started.elapsed().as_millis() as u64);
        let caller = response.extensions().get::<Arc<Caller>>();
        let name = caller.and_then(|caller| caller.name.as_deref());
        tracing::info!(id, user = name, %method, path, status, duration_ms, "API request");
    }
    Microversion::write_headers(version, response.headers_mut());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id.clone());
        response.headers_mut().insert(LEGACY_REQUEST_ID, id);
    }
    response
}

async fn dispatch(auth: &Auth, version: Microversion, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let (path, json_suffix) = canonicalize(parts.uri.path());
    let Some(uri) = with_path(&parts.uri, &path) else {
        return Fault::Invalid("Malformed request URI.".into()).into_response();
    };
    let mut caller = None;
    if !PUBLIC_PATHS.contains(&path.as_str()) {
        match auth.check(&parts).await {
            Ok(authenticated) => caller = Some(authenticated),
            Err(error) => return Fault::from_auth_error(error, auth).into_response(),
        }
    }
    let role = caller.as_ref().map_or(AccessRole::Reader, |caller| caller.role);
    let context = RequestContext {
        version,
        links: Links::from_request(&parts),
        now: Timestamp::now(),
        json_suffix,
        role,
    };
    parts.uri = uri;
    parts.extensions.insert(context);
    let mut response = next.run(Request::from_parts(parts, body)).await;
    if let Some(caller) = caller {
        response.extensions_mut().insert(caller);
    }
    response
}

/// Normalizes a path for the router, and returns whether the suffix `.json` was removed. `/nodes/` becomes
/// `/v1/nodes`, as Ironic's bookmark links require.
fn canonicalize(path: &str) -> (String, bool) {
    let trimmed = path.trim_end_matches('/');
    let (trimmed, json_suffix) = match trimmed.strip_suffix(".json") {
        // Here `.json` is part of the document's name.
        Some(_) if trimmed == "/openapi.json" => return (trimmed.to_owned(), false),
        Some(rest) if !rest.is_empty() && !rest.ends_with('/') => (rest, true),
        _ => (trimmed, false),
    };
    let path = match trimmed {
        "" => "/".to_owned(),
        path if path == "/v1" || path.starts_with("/v1/") => path.to_owned(),
        path => format!("/v1{path}"),
    };
    (move_node(&path).unwrap_or(path), json_suffix)
}

/// Moves a node from the end of a path to its place: `/v1/nodes/states/console/web-1` is the same resource as
/// `/v1/nodes/web-1/states/console`. Ironic serves both, and tempest uses the first.
fn move_node(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/v1/nodes/")?;
    let (resource, node) = rest.rsplit_once('/')?;
    let is_resource = [
        "maintenance",
        "management/boot_device",
        "states",
        "states/console",
        "states/power",
        "states/provision",
        "states/raid",
    ]
    .contains(&resource);
    is_resource.then(|| format!("/v1/nodes/{node}/{resource}"))
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let path_and_query: PathAndQuery = path_and_query.parse().ok()?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalized() {
        for (path, canonical_path, suffix) in [
            ("/", "/", false),
            ("//", "/", false),
            ("/v1", "/v1", false),
            ("/v1/", "/v1", false),
            ("/v1/nodes/", "/v1/nodes", false),
            ("/nodes/a/states", "/v1/nodes/a/states", false),
            ("/v1/nodes/a.json", "/v1/nodes/a", true),
            ("/v1/nodes.json/", "/v1/nodes", true),
            ("/v1/nodes/.json", "/v1/nodes/.json", false),
            ("/openapi.json", "/openapi.json", false),
            ("/v1/nodes/states/console/a", "/v1/nodes/a/states/console", false),
            ("/nodes/states/a.json", "/v1/nodes/a/states", true),
            ("/v1/nodes/maintenance/a", "/v1/nodes/a/maintenance", false),
            ("/v1/nodes/a/states/console", "/v1/nodes/a/states/console", false),
            ("/v1/nodes/states", "/v1/nodes/states", false),
            ("/v1/nodes/ports/a", "/v1/nodes/ports/a", false),
            ("/v10/nodes", "/v1/v10/nodes", false),
        ] {
            assert_eq!(canonicalize(path), (canonical_path.to_owned(), suffix), "{path}");
        }
    }
}
