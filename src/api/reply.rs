//! [`Reply`]: the answers that succeed, as Ironic gives them.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::call::Call;
use super::fault::Fault;
use super::shown::{Choice, Shown, show};

/// What a handler comes to.
pub(super) type Answer = Result<Reply, Fault>;

/// What was asked for was done.
#[derive(Debug)]
pub(super) enum Reply {
    /// 200 with a body.
    Shown(Value),
    /// 201 with the new record and where it is.
    Created {
        /// Where it is.
        location: String,
        /// What it is.
        body: Value,
    },
    /// 202, with where to see how it goes.
    AcceptedAt(String),
    /// 202: on its way. Without a body and without a content type, or clients try to read one.
    Accepted,
    /// 204.
    Done,
}

impl Reply {
    /// The answer to a record's creation.
    pub(super) fn created<R: Shown>(call: &Call, record: &R) -> Self {
        let location = call.links.to(&format!("{}/{}", R::PATH, record.uuid()));
        Self::Created { location, body: show(record, call, &Choice::All) }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self {
            Self::Shown(body) => axum::Json(body).into_response(),
            Self::Created { location, body } => {
                (StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(body)).into_response()
            }
            Self::AcceptedAt(location) => {
                (StatusCode::ACCEPTED, [(header::LOCATION, location)]).into_response()
            }
            Self::Accepted => StatusCode::ACCEPTED.into_response(),
            Self::Done => StatusCode::NO_CONTENT.into_response(),
        }
    }
}
