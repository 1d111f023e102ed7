//! Web pages for operators: every machine's boots, their verdicts and causes, and a form to enroll machines.
//!
//! Pages work without JavaScript: rendering, filters, search and forms are on the server. The only script re-renders
//! parts of a page on events. Pages load no third-party resources. Secrets are removed or masked before a template
//! sees them.
//!
//! [`Auth`] authorizes requests as in the API. [`crate::auth::BrowserGuard`] protects the pages against other sites.

mod appliance;
mod assets;
mod enroll;
mod format;
mod machine;
mod machines;
mod middleware;
mod node;
mod page;
mod records;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::Redirect;
use axum::routing::{any, get, post};
use jiff::Timestamp;

use crate::attach::Attach;
use crate::auth::Auth;
use crate::boot::Boot;
use crate::config::BootConfig;
use crate::images::Images;
use crate::store::Inventory;
use crate::timeline::Timeline;

/// The services and settings behind the pages.
#[derive(Debug)]
pub struct WebState {
    /// The records.
    pub inventory: Inventory,
    /// Computes boot previews.
    pub boot: Boot,
    /// Settings of boot scripts.
    pub scripts: BootConfig,
    /// The Cinder attachments of nodes.
    pub attach: Attach,
    /// The events of machines.
    pub timeline: Timeline,
    /// The iPXE binaries.
    pub images: Images,
    /// Authentication of operators.
    pub auth: Auth,
    /// Listeners with their addresses.
    pub listeners: Vec<(&'static str, SocketAddr)>,
    /// The file of the store.
    pub store_path: PathBuf,
    /// The file of the timeline's history.
    pub history_path: PathBuf,
    /// When volboot started.
    pub started_at: Timestamp,
}

type SharedState = Arc<WebState>;

/// The routes from `/ui` on; the API's router is their fallback.
pub fn router(state: WebState) -> Router {
    let state = Arc::new(state);
    let pages = Router::new()
        .route("/ui/", get(machines::list))
        .route("/ui/machines/{machine}", get(machine::show))
        .route("/ui/machines/{machine}/enroll", post(enroll::submit))
        .route("/ui/nodes/{node}", get(node::redirect_to_machine))
        .route("/ui/appliance", get(appliance::show))
        .route("/ui/{*path}", any(middleware::not_found))
        .route_layer(from_fn_with_state(Arc::clone(&state), middleware::authorize))
        .with_state(state);
    // The assets are public: they are part of the source code.
    Router::new()
        .route("/ui", get(|| async { Redirect::permanent("/ui/") }))
        .route("/ui/style.css", get(assets::get_style))
        .route("/ui/live.js", get(assets::get_script))
        .route("/ui/icon.svg", get(assets::get_icon))
        .merge(pages)
}
