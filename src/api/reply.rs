//! [`Reply`]: the successful responses, in Ironic's form.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::fault::Fault;
use super::request::ApiRequest;
use super::resource::{ApiResource, FieldSelection, show};

/// The result of every handler.
pub(super) type HandlerResult = Result<Reply, Fault>;

/// A successful response.
#[derive(Debug)]
pub(super) enum Reply {
    /// 200 with a body.
    Json(Value),
    /// 201 with the new record and its URL.
    Created {
        /// The URL of the new record.
        location: String,
        /// The new record.
        body: Value,
    },
    /// 202 with the URL for polling the progress.
    AcceptedAt(String),
    /// 202 without a body or a content type; with a content type, clients try to read a body.
    Accepted,
    /// 204.
    NoContent,
    /// 204 with the URL of the new part of a record.
    NoContentAt(String),
}

impl Reply {
    /// Builds the response to the creation of a record.
    pub(super) fn for_new_record<R: ApiResource>(request: &ApiRequest, record: &R) -> Self {
        let location = request.links.url(&format!("{}/{}", R::PATH, record.uuid()));
        Self::Created { location, body: show(record, request, &FieldSelection::All) }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self {
            Self::Json(body) => axum::Json(body).into_response(),
            Self::Created { location, body } => {
                (StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(body)).into_response()
            }
            Self::AcceptedAt(location) => {
                (StatusCode::ACCEPTED, [(header::LOCATION, location)]).into_response()
            }
            Self::Accepted => StatusCode::ACCEPTED.into_response(),
            Self::NoContent => StatusCode::NO_CONTENT.into_response(),
            Self::NoContentAt(location) => {
                (StatusCode::NO_CONTENT, [(header::LOCATION, location)]).into_response()
            }
        }
    }
}
