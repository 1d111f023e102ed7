//! The front: who asks for a page, and whether they may.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::draw::Trouble;
use crate::auth::{Auth, Denied, Right};

/// Wraps the pages: whoever may see them gets them, and whoever changes something has to be allowed to.
pub(super) async fn front(State(state): State<Shared>, request: Request, next: Next) -> Response {
    let caller = match state.auth.check(request.headers()).await {
        Ok(caller) => caller,
        Err(denied) => return turned_away(&state.auth, denied),
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let needed = if method.is_safe() { Right::See } else { Right::Manage };
    if caller.right < needed {
        let text = format!("Your token's role may not do this: it takes the role {}.", needed.role());
        return Trouble::new(StatusCode::FORBIDDEN, "Not allowed", text).into_response();
    }
    let response = next.run(request).await;
    if !method.is_safe() {
        tracing::info!(user = caller.name, %method, path, status = response.status().as_u16(), "page request");
    }
    response
}

/// What is asked for and is not there.
pub(super) async fn nothing_here() -> Trouble {
    Trouble::not_found("There is no such page.")
}

fn turned_away(auth: &Auth, denied: Denied) -> Response {
    let (status, text) = match denied {
        Denied::Missing | Denied::Malformed | Denied::Wrong => {
            (StatusCode::UNAUTHORIZED, "Give a name and a password that are in volboot's htpasswd file.")
        }
        Denied::NoToken => (
            StatusCode::UNAUTHORIZED,
            "volboot asks for Keystone's tokens here, and a browser has none. Either a proxy before volboot adds the \
             X-Auth-Token header for whoever has signed in to it, or you use the same from the command line, \
             where OpenStack's clients bring their token.",
        ),
        Denied::NoRole => (StatusCode::FORBIDDEN, "Your token has no role that counts here."),
        Denied::Busy | Denied::Away => {
            (StatusCode::SERVICE_UNAVAILABLE, "Whether you may cannot be found out now. Try again.")
        }
    };
    let mut response = Trouble::new(status, "Who are you?", text).into_response();
    if let (StatusCode::UNAUTHORIZED, Some(challenge)) = (status, auth.challenge()) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}
