//! Ironic's API, asked as its clients ask it, over a store in memory.

mod agreement;
pub(crate) mod auth;
mod errors;
mod machines;
mod nodes;
mod others;
mod ports;
mod states;
mod together;
mod versions;
mod volumes;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use volboot::api::{ApiState, Watch, router};
use volboot::attach::{Attach, Policy};
use volboot::auth::Auth;
use volboot::boot::Boot;
use volboot::config::Config;
use volboot::images::Images;
use volboot::model::StorageInterface;
use volboot::store::{Attachments, Inventory, MemoryStore, Store};
use volboot::telemetry::Metrics;
use volboot::timeline::Timeline;

/// The last version served, which most tests use.
const LATEST: &str = "1.33";

/// What the API says of itself; the same for all.
static DOCUMENT: OnceCell<Value> = OnceCell::const_new();

/// An API with nothing in it yet.
struct Api {
    router: Router,
    version: &'static str,
}

/// An answer, read whole.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Api {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// One that is not as it is by default.
    fn with(change: impl FnOnce(&mut ApiState)) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let inventory = Inventory::new(Arc::clone(&store));
        let enabled = vec![StorageInterface::Noop, StorageInterface::External, StorageInterface::Cinder];
        let policy = Policy { last_known: None, resolutions: 1 };
        let attach = Attach::new(Attachments::new(store), None, policy);
        let metrics = Metrics::new();
        // What can be followed ends at once, or every test that asks for all there is would wait for ever.
        let stop = CancellationToken::new();
        stop.cancel();
        let watch = Watch {
            timeline: Timeline::open(None, metrics.clone()),
            metrics,
            scripts: Config::default().boot,
            attach: attach.clone(),
            images: Images::default(),
            doors: Vec::new(),
            store: "nowhere".into(),
            history: "nowhere".into(),
            transfers: Arc::default(),
            started: Timestamp::UNIX_EPOCH,
            stop,
        };
        let mut state = ApiState {
            watch,
            boot: Boot::new(inventory.clone(), attach, enabled.clone()),
            inventory,
            enabled_storage_interfaces: enabled,
            default_storage_interface: StorageInterface::Noop,
            auth: Auth::Anybody,
            keep_targets_on_undeploy: false,
        };
        change(&mut state);
        Self { router: router(state), version: LATEST }
    }

    /// The same API, asked in another version.
    fn at(&self, version: &'static str) -> Self {
        Self { router: self.router.clone(), version }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Value::Null).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, body).await
    }

    async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send("PATCH", path, body).await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, body).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, Value::Null).await
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.raw(method, path, &[("x-openstack-ironic-api-version", self.version)], body).await
    }

    async fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "boot.example:6385");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a request");
        let answer = self.answer(request).await;
        let document = DOCUMENT.get_or_init(|| self.document()).await;
        agreement::check(document, method, path, &answer);
        answer
    }

    async fn document(&self) -> Value {
        self.answer(Request::get("/openapi.json").body(Body::empty()).expect("a request")).await.expect(200)
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
        let body = if bytes.is_empty() { Value::Null } else { read(&parts.headers, &bytes) };
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Creates a node and tells its UUID.
    async fn node(&self, more: Value) -> String {
        let mut body = serde_json::json!({"driver": "fake-hardware"});
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.post("/v1/nodes", body).await.expect(201)["uuid"].as_str().expect("a UUID").to_owned()
    }
}

/// A body: JSON, or a text of another kind.
fn read(headers: &HeaderMap, bytes: &[u8]) -> Value {
    if headers.get("content-type").is_some_and(|kind| kind == "application/json") {
        return serde_json::from_slice(bytes).expect("JSON");
    }
    std::str::from_utf8(bytes).expect("a text").into()
}

impl Answer {
    /// The body of an answer that must have this status.
    #[track_caller]
    fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The text of an error that must have this status and Ironic's form.
    #[track_caller]
    fn fault(self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        let inner = self.body["error_message"].as_str().expect("JSON within JSON");
        let inner: Value = serde_json::from_str(inner).expect("JSON within JSON");
        let code = if status < 500 { "Client" } else { "Server" };
        assert_eq!((&inner["faultcode"], &inner["debuginfo"]), (&code.into(), &Value::Null), "{inner}");
        assert_eq!(inner.as_object().expect("an object").len(), 3, "{inner}");
        inner["faultstring"].as_str().expect("a text").to_owned()
    }

    #[track_caller]
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().expect("a text")
    }
}

/// The values under a key of every item of a list.
fn column(body: &Value, list: &str, key: &str) -> Vec<Value> {
    body[list].as_array().expect("a list").iter().map(|item| item[key].clone()).collect()
}
