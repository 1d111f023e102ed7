//! Reads a response of Cinder: its content, or the error that its status and message stand for.

use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::CinderError;
use super::endpoint::EndpointUrl;
use crate::keystone::{ServiceResponse, StatusClass};

/// The limit for a message that is passed on to operators.
const MAX_MESSAGE_CHARS: usize = 300;

/// The content of a successful response; no content is read as [`Value::Null`].
pub(super) fn parse_response<T: DeserializeOwned>(
    response: &ServiceResponse,
    endpoint: &EndpointUrl,
) -> Result<T, CinderError> {
    let invalid = |_| CinderError::not_cinder(endpoint, "");
    let status = response.status;
    let body = serde_json::from_slice::<Value>(&response.body);
    match StatusClass::from(status) {
        StatusClass::Success if response.body.is_empty() => {
            serde_json::from_value(Value::Null).map_err(invalid)
        }
        StatusClass::Success => body.and_then(serde_json::from_value).map_err(invalid),
        StatusClass::Refused if status == StatusCode::NOT_FOUND => match body {
            // Only Cinder's own 404 concerns a volume; an unknown path does not.
            Ok(body) if body.get("itemNotFound").is_some() => {
                Err(CinderError::NotFound(extract_message(&body)))
            }
            _ => Err(CinderError::not_cinder(endpoint, " (404)")),
        },
        StatusClass::Refused => Err(CinderError::Refused {
            status: status.as_u16(),
            message: body.map(|body| extract_message(&body)).unwrap_or_default(),
        }),
        // These concern the request, not the volume.
        StatusClass::Temporary | StatusClass::Unexpected => {
            Err(CinderError::Unavailable(format!("Cinder returned {status}")))
        }
    }
}

/// The message of an error response, on one line. Cinder sends `{"badRequest": {"message": …}}`, middleware in front
/// of it `{"message": …}`.
fn extract_message(body: &Value) -> String {
    let inner = body.as_object().and_then(|body| body.values().find_map(|value| value.get("message")));
    let text = inner.or(body.get("message")).and_then(Value::as_str).unwrap_or("no reason was given");
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_end_matches('.').chars().take(MAX_MESSAGE_CHARS).collect()
}
