//! The [`Operator`] behind the API and the pages in tests, over a store in memory; and requests to both.

mod enrollment;
mod preview;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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
use volboot::check::VolumeChecks;
use volboot::cluster::Membership;
use volboot::config::Config;
use volboot::images::Images;
use volboot::model::{Announcement, Conductor, ConductorGroup, EnabledHardware, StorageInterface};
use volboot::operator::{Appliance, Operator};
use volboot::power::{Power, PowerLimits};
use volboot::redfish::CallLimits;
use volboot::store::{Attachments, Inventory, MemoryStore, Store};
use volboot::telemetry::Metrics;
use volboot::timeline::Timeline;

/// Short limits: the BMCs of tests answer at once, or not at all.
pub(crate) const POWER_LIMITS: PowerLimits = PowerLimits {
    change: Duration::from_millis(500),
    soft: Duration::from_millis(800),
    poll: Duration::from_millis(20),
    settle: Duration::from_millis(40),
    round: Duration::from_millis(100),
    first_request: Duration::from_millis(300),
    calls: CallLimits {
        connect: Duration::from_millis(500),
        exchange: Duration::from_secs(3),
        pause: Duration::from_millis(5),
    },
};

/// An operator with an empty store and all storage interfaces, stopped already: event streams end at once, so tests that
/// request every path do not wait.
pub(crate) fn build_operator() -> Operator {
    build_operator_with_history(None)
}

/// An operator whose timeline has this history file, if any.
pub(crate) fn build_operator_with_history(history: Option<&Path>) -> Operator {
    build_operator_on(MemoryStore::default(), history)
}

/// An operator on this store.
pub(crate) fn build_operator_on(store: MemoryStore, history: Option<&Path>) -> Operator {
    let metrics = Metrics::new();
    let timeline = Timeline::open_blocking(history, metrics.clone());
    let store: Arc<dyn Store> = Arc::new(store);
    let inventory = Inventory::new(Arc::clone(&store));
    let enabled = vec![StorageInterface::Noop, StorageInterface::External, StorageInterface::Cinder];
    let policy = Policy { resolutions: 1, ..Policy::default() };
    let attach = Attach::new(Attachments::new(Arc::clone(&store)), None, policy);
    let announcement: Announcement = serde_json::from_str("{}").expect("every field has a default");
    let name = "boot-1".parse().expect("a name");
    let membership = Membership::new(name, store, timeline.clone(), announcement).expect("random numbers");
    let stop = CancellationToken::new();
    stop.cancel();
    Operator {
        boot: Boot::new(inventory.clone(), attach.clone(), timeline.loop_detector(), enabled.clone()),
        power: Power::new(inventory.clone(), 8, POWER_LIMITS),
        inventory,
        attach,
        volume_checks: VolumeChecks::new(env!("CARGO_BIN_EXE_volboot")),
        timeline,
        images: Images::default(),
        scripts: Config::default().boot,
        enabled_storage_interfaces: enabled,
        default_storage_interface: StorageInterface::Noop,
        keep_targets_on_undeploy: false,
        membership,
        conductor: Conductor {
            hostname: "boot-1".into(),
            group: ConductorGroup::default(),
            hardware: EnabledHardware::default(),
        },
        appliance: Appliance {
            metrics,
            listeners: vec![("tftp", "192.0.2.1:69".parse().expect("an address"))],
            history_path: "/nowhere/history.redb".into(),
            dhcp_status: None,
            tftp_counters: Arc::default(),
            connection_counters: Vec::new(),
            started_at: Timestamp::now(),
            leaving: stop.clone(),
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
