//! The answers that succeed, as Ironic gives them.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::call::Call;
use super::shown::{Choice, Shown, show};

/// What a handler answers.
pub(super) type Reply = Result<Response, super::fault::Fault>;

/// 200 with a body.
pub(super) fn ok(body: Value) -> Reply {
    Ok(axum::Json(body).into_response())
}

/// 201 with the new record and where it is.
pub(super) fn created<R: Shown>(call: &Call, record: &R) -> Reply {
    let location = call.links.to(&format!("{}/{}", R::PATH, record.uuid()));
    let body = axum::Json(show(record, call, &Choice::All));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], body).into_response())
}

/// 202: on its way. Without a body and without a content type, or clients try to read one.
pub(super) fn accepted() -> Reply {
    Ok(StatusCode::ACCEPTED.into_response())
}

/// The same, with where to see how it goes.
pub(super) fn accepted_at(call: &Call, path: &str) -> Reply {
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, call.links.to(path))]).into_response())
}

/// 204.
pub(super) fn done() -> Reply {
    Ok(StatusCode::NO_CONTENT.into_response())
}
