//! The REST API on the operator listener: OpenStack Ironic's API plus volboot's extensions.
//!
//! Paths, fields, statuses and even quirks are Ironic's, at microversions 1.1 to 1.52. `openstack baremetal`,
//! openstacksdk and the tools built on both work unchanged. Where Ironic answers 500 for a client's error, volboot
//! answers 400 with a reason. `tests/clients/differences.toml` lists the other deliberate differences.
//!
//! The extensions, absent from Ironic, are in `machines`, `preview`, `events`, `appliance`, `enroll`, `metrics` and
//! `health`. They and the web pages share the operations of [`crate::operator`].
//!
//! A request passes [`middleware`] (path, microversion, authentication) and is matched against the table of
//! [`routes`]. The handler reads a [`request::ApiRequest`] and returns a [`reply::Reply`] or a [`fault::Fault`]. The
//! tables of [`field::Field`] define each attribute of each resource once.

mod allocations;
mod appliance;
mod bios;
mod boot_once;
mod chassis;
mod collection;
mod conductors;
mod config_drive;
mod connectors;
mod drivers;
mod enroll;
mod events;
mod fallback;
mod fault;
mod field;
mod health;
mod later_paths;
mod links;
mod list;
mod machines;
mod management;
mod metrics;
mod middleware;
mod negotiation;
mod node;
mod node_filter;
mod nodes;
mod openapi;
mod patch;
mod portgroups;
mod ports;
mod preview;
mod protection;
mod provision;
mod query;
mod raid;
mod relink;
mod reply;
mod request;
mod resource;
mod root;
mod route;
mod routes;
mod states;
mod targets;
mod traits;
mod unsupported;
mod validate;
mod version;
mod volume_check;
mod volumes;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tower::Layer;

use crate::auth::Auth;
use crate::operator::Operator;

type SharedState = Arc<Operator>;

/// Builds the router of the whole API, for the operator listener. `auth` authenticates and authorizes its clients.
pub fn router(operator: Arc<Operator>, auth: Auth) -> Router {
    let table = routes::routes();
    let document = openapi::build_document(&table);
    let openapi = get(async move || axum::Json(document.clone()));
    let routes = route::router(table).route("/openapi.json", openapi).with_state(Arc::clone(&operator));
    // The middleware rewrites paths, so it must run before the router matches them.
    let api = from_fn_with_state(auth, middleware::handle_request).layer(routes);
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .with_state(operator)
        .fallback_service(api)
}
