//! The operator API: requests through the whole router, over a store in memory.

mod allocations;
pub(crate) mod auth;
mod chassis;
mod concurrency;
mod conductors;
mod config_drives;
mod drivers;
mod errors;
mod fields;
mod instances;
mod machines;
mod node_fields;
mod nodes;
mod openapi;
mod portgroups;
mod ports;
pub(crate) mod states;
mod traits;
mod versions;
mod volumes;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use serde_json::Value;
use tokio::sync::OnceCell;
use tower::ServiceExt as _;
use volboot::api::router;
use volboot::auth::Auth;
use volboot::operator::Operator;

use crate::operator::build_operator;

/// The last supported microversion, used by most tests.
const LATEST: &str = "1.52";

/// The OpenAPI document, shared by all tests.
static DOCUMENT: OnceCell<Value> = OnceCell::const_new();

/// An API with an empty store.
pub(crate) struct Api {
    router: Router,
    version: &'static str,
}

/// A response with its complete body.
#[derive(Debug)]
pub(crate) struct ApiResponse {
    pub(crate) status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Api {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// An API with a changed operator.
    pub(crate) fn with(configure: impl FnOnce(&mut Operator)) -> Self {
        let mut operator = build_operator();
        configure(&mut operator);
        Self::serving(operator, Auth::NoAuth)
    }

    fn with_auth(auth: Auth) -> Self {
        Self::serving(build_operator(), auth)
    }

    fn serving(operator: Operator, auth: Auth) -> Self {
        Self { router: router(Arc::new(operator), auth), version: LATEST }
    }

    /// The same API with requests at another microversion.
    fn with_version(&self, version: &'static str) -> Self {
        Self { router: self.router.clone(), version }
    }

    pub(crate) async fn get(&self, path: &str) -> ApiResponse {
        self.send("GET", path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> ApiResponse {
        self.send("POST", path, body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> ApiResponse {
        self.send("PATCH", path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> ApiResponse {
        self.send("PUT", path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> ApiResponse {
        self.send("DELETE", path, Value::Null).await
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> ApiResponse {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send_raw(method, path, &[("x-openstack-ironic-api-version", self.version)], body).await
    }

    async fn send_raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> ApiResponse {
        let mut request = Request::builder().method(method).uri(path).header("host", "boot.example:6385");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a request");
        let response = self.call_router(request).await;
        let document = DOCUMENT.get_or_init(|| self.document()).await;
        openapi::check_response(document, method, path, &response);
        response
    }

    async fn document(&self) -> Value {
        self.call_router(Request::get("/openapi.json").body(Body::empty()).expect("a request"))
            .await
            .expect(200)
    }

    async fn call_router(&self, request: Request<Body>) -> ApiResponse {
        let response = self.router.clone().oneshot(request).await.expect("a response");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
        let body = if bytes.is_empty() { Value::Null } else { read_body(&parts.headers, &bytes) };
        ApiResponse { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Creates a node and returns its UUID.
    pub(crate) async fn create_node(&self, more: Value) -> String {
        let mut body = serde_json::json!({"driver": "fake-hardware"});
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.post("/v1/nodes", body).await.expect(201)["uuid"].as_str().expect("a UUID").to_owned()
    }
}

/// Reads a body: JSON, or a string for other content types.
fn read_body(headers: &HeaderMap, bytes: &[u8]) -> Value {
    if headers.get("content-type").is_some_and(|kind| kind == "application/json") {
        return serde_json::from_slice(bytes).expect("JSON");
    }
    std::str::from_utf8(bytes).expect("a string").into()
}

impl ApiResponse {
    /// Asserts the status and returns the body.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// Asserts the status and Ironic's error form, and returns the error's text.
    #[track_caller]
    pub(crate) fn expect_fault(self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        let inner = self.body["error_message"].as_str().expect("JSON within JSON");
        let inner: Value = serde_json::from_str(inner).expect("JSON within JSON");
        let code = if status < 500 { "Client" } else { "Server" };
        assert_eq!((&inner["faultcode"], &inner["debuginfo"]), (&code.into(), &Value::Null), "{inner}");
        assert_eq!(inner.as_object().expect("an object").len(), 3, "{inner}");
        inner["faultstring"].as_str().expect("a string").to_owned()
    }

    #[track_caller]
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().expect("a string")
    }
}

/// The values of a key in all items of a list.
fn column(body: &Value, list: &str, key: &str) -> Vec<Value> {
    body[list].as_array().expect("a list").iter().map(|item| item[key].clone()).collect()
}
