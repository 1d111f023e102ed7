//! [`Route`]: one operation of the API, from which both the router and the OpenAPI document are made.

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};

use super::Shared;
use super::call::Facts;
use super::fault::Fault;
use super::version::Version;

/// A method on a path, what it does, and who does it.
#[expect(dead_code, reason = "told by the OpenAPI document")]
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// What it does, in a few words.
    pub(super) does: &'static str,
    pub(super) since: Version,
    serves: MethodRouter<Shared>,
}

impl Route {
    pub(super) fn get<T: 'static, H: Handler<T, Shared>>(
        path: &'static str,
        does: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::GET, MethodFilter::GET, path, does, handler)
    }

    pub(super) fn post<T: 'static, H: Handler<T, Shared>>(
        path: &'static str,
        does: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::POST, MethodFilter::POST, path, does, handler)
    }

    pub(super) fn put<T: 'static, H: Handler<T, Shared>>(
        path: &'static str,
        does: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::PUT, MethodFilter::PUT, path, does, handler)
    }

    pub(super) fn patch<T: 'static, H: Handler<T, Shared>>(
        path: &'static str,
        does: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::PATCH, MethodFilter::PATCH, path, does, handler)
    }

    pub(super) fn delete<T: 'static, H: Handler<T, Shared>>(
        path: &'static str,
        does: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::DELETE, MethodFilter::DELETE, path, does, handler)
    }

    fn new<T: 'static, H: Handler<T, Shared>>(
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        does: &'static str,
        handler: H,
    ) -> Self {
        Self { method, path, does, since: Version::MIN, serves: on(filter, handler) }
    }

    /// It came with this version; before, there was no such path.
    pub(super) fn since(self, minor: u16) -> Self {
        Self { since: Version(minor), ..self }
    }
}

/// The router of all routes, with Ironic's answers where there is none.
pub(super) fn router(routes: Vec<Route>) -> Router<Shared> {
    let served = routes.into_iter().fold(Router::new(), |router, route| {
        router.route(route.path, route.serves.layer(from_fn_with_state(route.since, gate)))
    });
    served.fallback(no_route).method_not_allowed_fallback(no_method)
}

/// A path that came later does not exist yet.
async fn gate(State(since): State<Version>, request: Request, next: Next) -> Response {
    match request.extensions().get::<Facts>() {
        Some(facts) if facts.version >= since => next.run(request).await,
        _ => no_route().await,
    }
}

async fn no_route() -> Response {
    Fault::NotFound("The resource could not be found.".into()).into_response()
}

async fn no_method() -> Response {
    Fault::MethodNotAllowed.into_response()
}
