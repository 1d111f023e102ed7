//! Authentication and authorization of page requests.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::page::ErrorPage;
use crate::auth::{AccessRole, Auth, AuthError};

/// Requires the reader role for safe methods and the admin role for all others. Logs every change.
pub(super) async fn authorize(State(auth): State<Auth>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let caller = match auth.check(&parts).await {
        Ok(caller) => caller,
        Err(error) => return auth_error_response(&auth, error),
    };
    let request = Request::from_parts(parts, body);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let required = if method.is_safe() { AccessRole::Reader } else { AccessRole::Admin };
    if caller.role < required {
        let text = format!("This action requires the role {}.", required.as_str());
        return ErrorPage::new(StatusCode::FORBIDDEN, "Access denied", text).into_response();
    }
    let response = next.run(request).await;
    if !method.is_safe() {
        tracing::info!(user = caller.name, %method, path, status = response.status().as_u16(), "page request");
    }
    response
}

/// The page for unknown paths below `/ui/`.
pub(super) async fn not_found() -> ErrorPage {
    ErrorPage::not_found("There is no such page.")
}

fn auth_error_response(auth: &Auth, error: AuthError) -> Response {
    let (status, heading, text) = match error {
        AuthError::MissingCredentials | AuthError::MalformedCredentials | AuthError::InvalidCredentials => (
            StatusCode::UNAUTHORIZED,
            "Authentication required",
            "Enter a name and a password from volboot's htpasswd file.",
        ),
        AuthError::InvalidToken => (
            StatusCode::UNAUTHORIZED,
            "Authentication required",
            "volboot requires a Keystone token, and browsers do not send one. Use a proxy that adds the X-Auth-Token \
             header for signed-in users, or use an OpenStack client on the command line.",
        ),
        AuthError::NoRole => (
            StatusCode::FORBIDDEN,
            "Access denied",
            "The token has no role for the system or for a project in [api] projects.",
        ),
        AuthError::TooManyAttempts => (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many log-ins",
            "There were too many wrong passwords from your address. Try again in a minute.",
        ),
        AuthError::Busy | AuthError::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Service unavailable",
            "volboot cannot check your credentials now. Try again later.",
        ),
    };
    let mut response = ErrorPage::new(status, heading, text).into_response();
    if error == AuthError::TooManyAttempts {
        response.headers_mut().insert(header::RETRY_AFTER, Auth::RETRY_AFTER.into());
    }
    if let (StatusCode::UNAUTHORIZED, Some(challenge)) = (status, auth.challenge()) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}
