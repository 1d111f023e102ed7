//! The [`Operator`] behind the API and the pages in tests, over a store in memory; and requests to both.

mod enrollment;
mod preview;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use volboot::api;
use volboot::attach::{Attach, Policy};
use volboot::auth::Auth;
use volboot::boot::Boot;
use volboot::config::Config;
use volboot::images::Images;
use volboot::model::{Conductor, ConductorGroup, StorageInterface};
use volboot::operator::{Appliance, Operator};
use volboot::store::{Attachments, Inventory, MemoryStore, Store};
use volboot::telemetry::Metrics;
use volboot::timeline::Timeline;

/// An operator with an empty store and all storage interfaces, stopped already: event streams end at once, so tests that
/// request every path do not wait.
pub(crate) fn build_operator() -> Operator {
    build_operator_with_history(None)
}

/// An operator whose timeline has this history file, if any.
pub(crate) fn build_operator_with_history(history: Option<&Path>) -> Operator {
    let metrics = Metrics::new();
    let timeline = Timeline::open_blocking(history, metrics.clone());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let inventory = Inventory::new(Arc::clone(&store));
    let enabled = vec![StorageInterface::Noop, StorageInterface::External, StorageInterface::Cinder];
    let policy = Policy { resolutions: 1, ..Policy::default() };
    let attach = Attach::new(Attachments::new(store), None, policy);
    let stop = CancellationToken::new();
    stop.cancel();
    Operator {
        boot: Boot::new(inventory.clone(), attach.clone(), timeline.loop_detector(), enabled.clone()),
        inventory,
        attach,
        timeline,
        images: Images::default(),
        scripts: Config::default().boot,
        enabled_storage_interfaces: enabled,
        default_storage_interface: StorageInterface::Noop,
        keep_targets_on_undeploy: false,
        conductor: Conductor { hostname: "boot-1".into(), group: ConductorGroup::default() },
        appliance: Appliance {
            metrics,
            listeners: vec![("tftp", "192.0.2.1:69".parse().expect("an address"))],
            history_path: "/nowhere/history.redb".into(),
            dhcp_status: None,
            tftp_counters: Arc::default(),
            connection_counters: Vec::new(),
            started_at: Timestamp::now(),
            stop,
        },
    }
}

/// Calls the API. Returns the status and the body; for a fault, its text.
async fn call_api(operator: &Arc<Operator>, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let request =
        Request::builder().method(method).uri(path).header("x-openstack-ironic-api-version", "1.33");
    let request =
        request.header("host", "boot.example").body(Body::from(body.to_string())).expect("a request");
    let (status, body) = send(api::router(Arc::clone(operator), Auth::NoAuth), request).await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    match body["error_message"].as_str() {
        Some(text) => {
            let fault: Value = serde_json::from_str(text).expect("JSON within JSON");
            (status, fault["faultstring"].clone())
        }
        None => (status, body),
    }
}

async fn send(router: Router, request: Request<Body>) -> (u16, String) {
    let response = router.oneshot(request).await.expect("a response");
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}
