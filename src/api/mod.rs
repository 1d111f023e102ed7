//! The people's door: Ironic's API, so that its own clients cannot tell the difference.
//!
//! The contract is not ours: paths, fields, statuses and even the quirks are those of OpenStack Ironic's API at
//! microversions 1.1 to 1.33 (its last before Queens), because `openstack baremetal`, openstacksdk and what is
//! built on them are to work unchanged. Where Ironic answers 500 for something that the client did, 400 with a
//! reason is given; other deliberate differences are listed beside the differential test.
//!
//! What Ironic has no word for, volboot's own, is in `machines`, `preview`, `events`, `appliance` and `metrics`.
//!
//! A request goes through [`front`] (path, version, caller), is found in the table of [`routes`], and ends in a
//! handler that reads its [`call::Call`] and answers or fails with a [`fault::Fault`]. What the attributes of each
//! resource are is said once, in tables of [`field::Field`].

mod absent;
mod appliance;
mod call;
mod chassis;
mod connectors;
mod drivers;
mod enroll;
mod events;
mod fault;
mod field;
mod front;
mod health;
mod interfaces;
mod links;
mod list;
mod machines;
mod management;
mod metrics;
mod node;
mod nodes;
mod openapi;
mod patch;
mod portgroups;
mod ports;
mod preview;
mod provision;
mod query;
mod reply;
mod root;
mod route;
mod routes;
mod shown;
mod states;
mod targets;
mod validate;
mod version;
mod volumes;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tower::Layer;

use crate::auth::Auth;
use crate::boot::Boot;
use crate::model::StorageInterface;
use crate::store::Inventory;
pub use watch::Watch;

/// What the API needs to know and to reach.
#[derive(Debug)]
pub struct ApiState {
    /// The records.
    pub inventory: Inventory,
    /// What machines are told.
    pub boot: Boot,
    /// The storage interfaces that nodes may have.
    pub enabled_storage_interfaces: Vec<StorageInterface>,
    /// The one that a node has if nobody says.
    pub default_storage_interface: StorageInterface,
    /// Who may use it.
    pub auth: Auth,
    /// Whether undeploying a node leaves it its volume targets. Ironic removes them.
    pub keep_targets_on_undeploy: bool,
    /// What happens, and what volboot is.
    pub watch: Watch,
}

type Shared = Arc<ApiState>;

/// The whole API, to be served on the people's listener.
pub fn router(state: ApiState) -> Router {
    let state = Arc::new(state);
    let table = routes::routes();
    let document = openapi::document(&table);
    let described = get(async move || axum::Json(document.clone()));
    let routes = route::router(table).route("/openapi.json", described).with_state(Arc::clone(&state));
    // The front changes paths, so it stands before the router, not in it.
    let front = from_fn_with_state(Arc::clone(&state), front::front).layer(routes);
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .with_state(state)
        .fallback_service(front)
}
