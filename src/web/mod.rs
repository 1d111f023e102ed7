//! The page: what happened to each machine, and why, for people with a browser (step 11).
//!
//! Pages are whole without a script: they are drawn on the server, filtered and searched there, and a form is sent as
//! a form. The one script draws a page again when something happens. Nothing is loaded from anywhere else, and no page
//! shows a secret: what volboot would have to hide is left out or masked before a template sees it.
//!
//! Who may see what is decided as in the API, by the same [`Auth`]; what other people's pages could do with ours is
//! [`crate::auth::Browsers`]' business.

mod appliance;
mod assets;
mod draw;
mod enrol;
mod front;
mod machine;
mod machines;
mod node;
mod records;
mod words;

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

/// What the pages show.
#[derive(Debug)]
pub struct WebState {
    /// The records.
    pub inventory: Inventory,
    /// What machines are told.
    pub boot: Boot,
    /// How it is told.
    pub scripts: BootConfig,
    /// What is held in Cinder.
    pub attach: Attach,
    /// What happened to machines.
    pub timeline: Timeline,
    /// What is served to firmware.
    pub images: Images,
    /// Who may see it.
    pub auth: Auth,
    /// The doors, and where they are.
    pub doors: Vec<(&'static str, SocketAddr)>,
    /// The store's file.
    pub store: PathBuf,
    /// The file of the timelines.
    pub history: PathBuf,
    /// Since when volboot runs.
    pub started: Timestamp,
}

type Shared = Arc<WebState>;

/// The pages: all paths from `/ui` on. The others are nobody's, until the API is put there.
pub fn router(state: WebState) -> Router {
    let state = Arc::new(state);
    let pages = Router::new()
        .route("/ui/", get(machines::list))
        .route("/ui/machines/{machine}", get(machine::show))
        .route("/ui/machines/{machine}/enrol", post(enrol::enrol))
        .route("/ui/nodes/{node}", get(node::show))
        .route("/ui/appliance", get(appliance::show))
        .route("/ui/{*elsewhere}", any(front::nothing_here))
        .route_layer(from_fn_with_state(Arc::clone(&state), front::front))
        .with_state(state);
    // Style and script are in the source, which everybody may read.
    Router::new()
        .route("/ui", get(|| async { Redirect::permanent("/ui/") }))
        .route("/ui/style.css", get(assets::style))
        .route("/ui/live.js", get(assets::script))
        .route("/ui/icon.svg", get(assets::icon))
        .merge(pages)
}
