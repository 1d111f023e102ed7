//! The people's door: Ironic's API, so that its own clients cannot tell the difference.
//!
//! The contract is not ours: paths, fields, statuses and even the quirks are those of OpenStack Ironic's API at
//! microversions 1.1 to 1.33 (its last before Queens), because `openstack baremetal`, openstacksdk and what is
//! built on them are to work unchanged. Where Ironic answers 500 for something that the client did, 400 with a
//! reason is given; other deliberate differences are listed beside the differential test.
//!
//! A request goes through [`front`] (path, version, caller), is found in the table of [`routes`], and ends in a
//! handler that reads its [`call::Call`] and answers or fails with a [`fault::Fault`]. What the attributes of each
//! resource are is said once, in tables of [`field::Field`].

mod call;
mod connectors;
mod fault;
mod field;
mod front;
mod interfaces;
mod links;
mod list;
mod node;
mod nodes;
mod patch;
mod ports;
mod query;
mod reply;
mod root;
mod route;
mod shown;
mod targets;
mod version;
mod volumes;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tower::Layer;

use crate::model::{StorageInterface, VolumeConnector, VolumeTarget};
use crate::store::Inventory;
use route::Route;

/// What the API needs to know and to reach.
#[derive(Debug)]
pub struct ApiState {
    /// The records.
    pub inventory: Inventory,
    /// The storage interfaces that nodes may have.
    pub enabled_storage_interfaces: Vec<StorageInterface>,
    /// The one that a node has if nobody says.
    pub default_storage_interface: StorageInterface,
    /// Whether undeploying a node leaves it its volume targets. Ironic removes them.
    pub keep_targets_on_undeploy: bool,
}

type Shared = Arc<ApiState>;

/// The whole API, to be served on the people's listener.
pub fn router(state: ApiState) -> Router {
    let state = Arc::new(state);
    let routes = route::router(routes()).with_state(Arc::clone(&state));
    // The front changes paths, so it stands before the router, not in it.
    Router::new().fallback_service(from_fn_with_state(state, front::front).layer(routes))
}

/// Everything that is served.
fn routes() -> Vec<Route> {
    [root_routes(), node_routes(), port_routes(), volume_routes()].into_iter().flatten().collect()
}

fn root_routes() -> Vec<Route> {
    vec![
        Route::get("/", "Tell the versions of the API", root::versions),
        Route::get("/v1", "Tell what the API has", root::v1),
    ]
}

fn node_routes() -> Vec<Route> {
    const NODE: &str = "/v1/nodes/{node}";
    const MAINTENANCE: &str = "/v1/nodes/{node}/maintenance";
    vec![
        Route::get("/v1/nodes", "List nodes", nodes::list),
        Route::post("/v1/nodes", "Create a node", nodes::create),
        Route::get("/v1/nodes/detail", "List nodes with all their fields", nodes::detail),
        Route::get(NODE, "Show a node", nodes::get),
        Route::patch(NODE, "Change a node", nodes::update),
        Route::delete(NODE, "Delete a node", nodes::delete),
        Route::put(MAINTENANCE, "Take a node into maintenance", nodes::set_maintenance),
        Route::delete(MAINTENANCE, "End a node's maintenance", nodes::clear_maintenance),
    ]
}

fn port_routes() -> Vec<Route> {
    const PORT: &str = "/v1/ports/{port}";
    vec![
        Route::get("/v1/ports", "List ports", ports::list),
        Route::post("/v1/ports", "Create a port", ports::create),
        Route::get("/v1/ports/detail", "List ports with all their fields", ports::detail),
        Route::get(PORT, "Show a port", ports::get),
        Route::patch(PORT, "Change a port", ports::update),
        Route::delete(PORT, "Delete a port", ports::delete),
        Route::get("/v1/nodes/{node}/ports", "List a node's ports", ports::list_of_node),
        Route::get(
            "/v1/nodes/{node}/ports/detail",
            "List a node's ports with all their fields",
            ports::detail_of_node,
        ),
    ]
}

fn volume_routes() -> Vec<Route> {
    const CONNECTORS: &str = "/v1/volume/connectors";
    const CONNECTOR: &str = "/v1/volume/connectors/{connector}";
    const CONNECTORS_OF_NODE: &str = "/v1/nodes/{node}/volume/connectors";
    const TARGETS: &str = "/v1/volume/targets";
    const TARGET: &str = "/v1/volume/targets/{target}";
    const TARGETS_OF_NODE: &str = "/v1/nodes/{node}/volume/targets";
    let routes = vec![
        Route::get("/v1/volume", "Tell where volume records are", volumes::index),
        Route::get(
            "/v1/nodes/{node}/volume",
            "Tell where a node's volume records are",
            volumes::index_of_node,
        ),
        Route::get(CONNECTORS, "List volume connectors", volumes::list::<VolumeConnector>),
        Route::post(CONNECTORS, "Create a volume connector", volumes::create::<VolumeConnector>),
        Route::get(CONNECTOR, "Show a volume connector", volumes::get::<VolumeConnector>),
        Route::patch(CONNECTOR, "Change a volume connector", volumes::update::<VolumeConnector>),
        Route::delete(CONNECTOR, "Delete a volume connector", volumes::delete::<VolumeConnector>),
        Route::get(CONNECTORS_OF_NODE, "List a node's connectors", volumes::list_of_node::<VolumeConnector>),
        Route::post(CONNECTORS_OF_NODE, "Nothing: connectors are created elsewhere", volumes::malformed),
        Route::get(TARGETS, "List volume targets", volumes::list::<VolumeTarget>),
        Route::post(TARGETS, "Create a volume target", volumes::create::<VolumeTarget>),
        Route::get(TARGET, "Show a volume target", volumes::get::<VolumeTarget>),
        Route::patch(TARGET, "Change a volume target", volumes::update::<VolumeTarget>),
        Route::delete(TARGET, "Delete a volume target", volumes::delete::<VolumeTarget>),
        Route::get(TARGETS_OF_NODE, "List a node's targets", volumes::list_of_node::<VolumeTarget>),
        Route::post(TARGETS_OF_NODE, "Nothing: targets are created elsewhere", volumes::malformed),
    ];
    routes.into_iter().map(|route| route.since(32)).collect()
}
