//! The front: what is done for every request before its route is looked for, and for every answer.
//!
//! Here the path is brought into its one spelling, version and caller are made out, and the headers are set that
//! clients expect on every answer, errors included.

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

use super::ApiState;
use super::call::Facts;
use super::fault::Fault;
use super::links::Links;
use super::version::Version;
use crate::auth::{Caller, Right};

/// By what a request is found in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("openstack-request-id");
const REQUEST_ID_OF_OLD: HeaderName = HeaderName::from_static("x-openstack-request-id");

/// What everybody may see, so that clients can find out what they are talking to.
const PUBLIC: [&str; 3] = ["/", "/v1", "/openapi.json"];

/// Wraps the routes.
pub(super) async fn front(State(state): State<Arc<ApiState>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = format!("req-{}", Uuid::new_v4());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let negotiated = Version::negotiated(request.headers());
    let used = negotiated.as_ref().ok().copied();
    let span = tracing::info_span!("api", id);
    let mut response = match negotiated {
        Ok(version) => answer(&state, version, request, next).instrument(span).await,
        Err(fault) => fault.into_response(),
    };
    if !method.is_safe() {
        // What changes something is told; what only looks would drown it.
        let (status, millis) = (response.status().as_u16(), began.elapsed().as_millis() as u64);
        let caller = response.extensions().get::<Arc<Caller>>();
        let name = caller.and_then(|caller| caller.name.as_deref());
        tracing::info!(id, user = name, %method, path, status, millis, "api request");
    }
    Version::announce(used, response.headers_mut());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id.clone());
        response.headers_mut().insert(REQUEST_ID_OF_OLD, id);
    }
    response
}

async fn answer(state: &ApiState, version: Version, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let (path, json_suffix) = canonical(parts.uri.path());
    let Some(uri) = with_path(&parts.uri, &path) else {
        return Fault::Invalid("Malformed request URI.".into()).into_response();
    };
    let mut caller = None;
    if !PUBLIC.contains(&path.as_str()) {
        match state.auth.check(&parts.headers).await {
            Ok(found) => caller = Some(found),
            Err(denied) => return Fault::denied(denied, &state.auth).into_response(),
        }
    }
    let right = caller.as_ref().map_or(Right::See, |caller| caller.right);
    let facts = Facts { version, links: Links::of(&parts), now: Timestamp::now(), json_suffix, right };
    parts.uri = uri;
    parts.extensions.insert(facts);
    let mut response = next.run(Request::from_parts(parts, body)).await;
    if let Some(caller) = caller {
        response.extensions_mut().insert(caller);
    }
    response
}

/// A path as the routes know it, and whether `.json` was cut off: `/nodes/` is `/v1/nodes`, as Ironic's bookmark
/// links want it.
fn canonical(path: &str) -> (String, bool) {
    let trimmed = path.trim_end_matches('/');
    let (trimmed, json_suffix) = match trimmed.strip_suffix(".json") {
        // The document that describes the API is called so.
        Some(_) if trimmed == "/openapi.json" => return (trimmed.to_owned(), false),
        Some(rest) if !rest.is_empty() && !rest.ends_with('/') => (rest, true),
        _ => (trimmed, false),
    };
    let path = match trimmed {
        "" => "/".to_owned(),
        path if path == "/v1" || path.starts_with("/v1/") => path.to_owned(),
        path => format!("/v1{path}"),
    };
    (path, json_suffix)
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
    fn every_spelling_of_a_path_is_one() {
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
            ("/v10/nodes", "/v1/v10/nodes", false),
        ] {
            assert_eq!(canonical(path), (canonical_path.to_owned(), suffix), "{path}");
        }
    }
}
