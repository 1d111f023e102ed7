//! The extractors of handlers: [`ApiRequest`] without the body, [`PathParam`], [`JsonBody`] and [`Arguments`].

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::SharedState;
use super::fault::{Fault, quote};
use super::field;
use super::links::Links;
use super::query::Query;
use super::version::Microversion;
use crate::auth::AccessRole;
use crate::operator::Operator;

/// The maximum length of a body; the same as Ironic's `[api]max_json_body_size`.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;
/// The maximum nesting of objects and lists in a body, as in Ironic.
pub(super) const MAX_BODY_DEPTH: usize = 25;

/// The middleware's findings about a request, passed to handlers as part of an [`ApiRequest`].
#[derive(Debug, Clone)]
pub(super) struct RequestContext {
    pub(super) version: Microversion,
    pub(super) links: Links,
    pub(super) now: Timestamp,
    /// Whether the middleware removed `.json` from the path. The suffix may belong to a node's name.
    pub(super) json_suffix: bool,
    /// The caller's role.
    pub(super) role: AccessRole,
}

/// A request, without its body.
#[derive(Debug)]
pub(super) struct ApiRequest {
    pub(super) operator: Arc<Operator>,
    pub(super) version: Microversion,
    pub(super) links: Links,
    /// The arrival time; changed records get this timestamp.
    pub(super) now: Timestamp,
    pub(super) json_suffix: bool,
    pub(super) query: Query,
}

impl ApiRequest {
    /// Rejects a feature that is newer than the negotiated microversion.
    pub(super) fn require_version(&self, minor: u16) -> Result<(), Fault> {
        let since = Microversion(minor);
        if self.version >= since { Ok(()) } else { Err(Fault::needs_version(since)) }
    }
}

impl FromRequestParts<SharedState> for ApiRequest {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, operator: &SharedState) -> Result<Self, Fault> {
        // The middleware runs before every route and always sets the context.
        let RequestContext { version, links, now, json_suffix, .. } =
            parts.extensions.get::<RequestContext>().cloned().ok_or(Fault::Internal)?;
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        Ok(Self { operator: Arc::clone(operator), version, links, now, json_suffix, query })
    }
}

/// The variable parts of a path, decoded.
#[derive(Debug)]
pub(super) struct PathParam<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<SharedState> for PathParam<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &SharedState) -> Result<Self, Fault> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            // The percent-encoded bytes are not UTF-8.
            Err(_) => Err(Fault::Invalid("Malformed request URI.".into())),
        }
    }
}

/// A JSON body. An absent body reads as an empty object, as in Ironic.
#[derive(Debug)]
pub(super) struct JsonBody(pub(super) Value);

impl FromRequest<SharedState> for JsonBody {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &SharedState) -> Result<Self, Fault> {
        let bytes = match axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES).await {
            Ok(bytes) => bytes,
            Err(error) if is_length_limit(&error) => return Err(Fault::TooLarge(MAX_BODY_BYTES)),
            Err(_) => return Err(Fault::Invalid("The request body ended too early.".into())),
        };
        Ok(Self(parse_json(&bytes)?))
    }
}

/// The arguments of an action: the members of the body's object.
#[derive(Debug)]
pub(super) struct Arguments(Map<String, Value>);

impl FromRequest<SharedState> for Arguments {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &SharedState) -> Result<Self, Fault> {
        Self::from_value(JsonBody::from_request(request, state).await?.0)
    }
}

impl Arguments {
    /// Parses the arguments from a body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Fault> {
        Self::from_value(parse_json(body)?)
    }

    fn from_value(body: Value) -> Result<Self, Fault> {
        match body {
            Value::Object(arguments) => Ok(Self(arguments)),
            other => Err(Fault::Invalid(format!("Unexpected arguments: {}", quote(&other)))),
        }
    }

    /// Rejects arguments outside `names`.
    pub(super) fn reject_unknown(&self, names: &[&str]) -> Result<(), Fault> {
        let unknown: Vec<_> =
            self.0.keys().map(String::as_str).filter(|name| !names.contains(name)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(Fault::Invalid(format!("Unexpected arguments: {}", unknown.join(", "))))
    }

    /// The value of an argument, unless it is absent or `null`.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Fault::Invalid(format!("Expected string for {name}: {}", quote(other)))),
        }
    }

    pub(super) fn required_text(&self, name: &str) -> Result<&str, Fault> {
        self.text(name)?.ok_or_else(|| Fault::Invalid(format!("Missing mandatory parameter: {name}")))
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Fault> {
        let number = match self.get(name) {
            None => return Ok(None),
            // Some clients send numbers as strings.
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(value) => value.as_i64(),
        };
        let fault = || Fault::Invalid(format!("Expected an integer for {name}"));
        number.ok_or_else(fault).map(Some)
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) => field::parse_flag(name, text).map(Some),
            Some(other) => Err(Fault::Invalid(format!("Invalid {name}: {}", quote(other)))),
        }
    }
}

fn parse_json(bytes: &[u8]) -> Result<Value, Fault> {
    if bytes.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    // serde_json's own recursion limit is 128, so `depth` cannot overflow the stack.
    let value = serde_json::from_slice(bytes)
        .map_err(|error| Fault::Invalid(format!("The request body is not valid JSON: {error}")))?;
    if depth(&value) > MAX_BODY_DEPTH {
        return Err(Fault::Invalid(format!(
            "The request body is nested more deeply than {MAX_BODY_DEPTH} levels."
        )));
    }
    Ok(value)
}

/// The nesting depth of objects and lists in a value.
pub(super) fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whether reading a body failed because it exceeds [`MAX_BODY_BYTES`].
fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deeply_nested_bodies_are_rejected() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels)).into_bytes();
        assert!(parse_json(&nested(25)).is_ok());
        assert!(parse_json(&nested(26)).is_err());
        assert!(parse_json(&nested(100_000)).is_err());
    }

    #[test]
    fn an_absent_body_is_an_empty_object() {
        assert_eq!(parse_json(&[]), Ok(serde_json::json!({})));
    }
}
