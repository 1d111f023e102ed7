//! Web pages for operators: every machine's boots, their verdicts and causes, and a form to enroll machines.
//!
//! Pages work without JavaScript: rendering, filters, search and forms are on the server. The only script re-renders
//! parts of a page on events. Pages load no third-party resources. Secrets are removed or masked before a template
//! sees them.
//!
//! [`Auth`] authorizes requests as in the API. [`crate::auth::BrowserGuard`] protects the pages against other sites.

mod actions;
mod appliance;
mod assets;
mod charts;
mod check;
mod check_view;
mod enroll;
mod enroll_form;
mod format;
mod machine;
mod machines;
mod middleware;
mod node;
mod page;
mod records;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::Redirect;
use axum::routing::{any, get, post};

use crate::auth::Auth;
use crate::operator::Operator;

type SharedState = Arc<Operator>;

/// The routes from `/ui` on; the API's router is their fallback. `auth` authenticates and authorizes operators.
pub fn router(operator: Arc<Operator>, auth: Auth) -> Router {
    let pages = Router::new()
        .route("/ui/", get(machines::list))
        .route("/ui/machines/{machine}", get(machine::show))
        .route("/ui/machines/{machine}/check", post(check::submit))
        .route("/ui/machines/{machine}/enroll", post(enroll::submit))
        .route("/ui/nodes/{node}", get(node::redirect_to_machine))
        .merge(actions::router())
        .route("/ui/appliance", get(appliance::show))
        .route("/ui/{*path}", any(middleware::not_found))
        .route_layer(from_fn_with_state(auth, middleware::authorize))
        .with_state(operator);
    // The assets are public: they are part of the source code.
    Router::new()
        .route("/ui", get(|| async { Redirect::permanent("/ui/") }))
        .route("/ui/style.css", get(assets::get_style))
        .route("/ui/live.js", get(assets::get_script))
        .route("/ui/icon.svg", get(assets::get_icon))
        .merge(pages)
}
