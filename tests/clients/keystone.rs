//! [`FakeKeystone`]: gives every user a token of an administrator, and validates it.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use volboot::listen::{HttpLimits, Listener};

/// The only valid token.
const TOKEN: &str = "4f6b9a1c";

/// A running Keystone; stopped when it is dropped.
pub(crate) struct FakeKeystone {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// Runs the server; dropping it ends the server.
    _runtime: Runtime,
}

impl FakeKeystone {
    /// Starts it on a port of the kernel's choice, with an empty catalogue.
    pub(crate) fn start() -> Self {
        Self::with_catalog(json!([]))
    }

    /// Starts it with a bare metal API in its catalogue.
    pub(crate) fn with_baremetal_api(api: SocketAddr) -> Self {
        let url = format!("http://{api}");
        let endpoint =
            json!({ "id": "e1", "interface": "public", "region": "r", "region_id": "r", "url": url });
        Self::with_catalog(json!([
            { "id": "s1", "type": "baremetal", "name": "ironic", "endpoints": [endpoint] },
        ]))
    }

    fn with_catalog(catalog: Value) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let guard = runtime.enter();
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = listener.local_addr();
        let router = Router::new().fallback(async move |method: Method, headers: HeaderMap| {
            let subject = headers.get("x-subject-token");
            match (method, subject.map(|token| token == TOKEN)) {
                (Method::POST, None) => {
                    (StatusCode::CREATED, [("x-subject-token", TOKEN)], token(&catalog)).into_response()
                }
                (Method::GET, Some(true)) => token(&catalog).into_response(),
                (Method::GET, None) => describe_version(address),
                _ => StatusCode::NOT_FOUND.into_response(),
            }
        });
        tokio::spawn(listener.serve(router, HttpLimits::default(), CancellationToken::new(), Duration::ZERO));
        drop(guard);
        Self { address, _runtime: runtime }
    }
}

fn describe_version(address: SocketAddr) -> Response {
    let links = json!([{ "rel": "self", "href": format!("http://{address}/v3/") }]);
    Json(json!({ "version": { "id": "v3.14", "status": "stable", "links": links } })).into_response()
}

fn token(catalog: &Value) -> Json<Value> {
    Json(json!({ "token": {
        "methods": ["password"],
        "user": { "id": "u1", "name": "ann", "domain": { "id": "default", "name": "Default" } },
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "expires_at": "2999-01-01T00:00:00.000000Z",
        "roles": [{ "id": "r1", "name": "admin" }],
        "system": { "all": true },
        "catalog": catalog,
    } }))
}
