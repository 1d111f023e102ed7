//! [`Call`]: what a handler knows of the request it answers; [`Sent`] and [`Arguments`]: what came in its body.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::fault::{Fault, quoted};
use super::field;
use super::links::Links;
use super::query::Query;
use super::version::Version;
use super::{ApiState, Shared};
use crate::auth::Right;

/// The longest body: Ironic's limit too (its `[api]max_json_body_size`).
pub(super) const LONGEST_BODY: usize = 1 << 20;
/// How deep objects and lists may be nested in one, as in Ironic.
pub(super) const DEEPEST_BODY: usize = 25;

/// What the front found out about a request; handlers get it as part of a [`Call`].
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) version: Version,
    pub(super) links: Links,
    pub(super) now: Timestamp,
    /// Whether `.json` was cut off the path: it may have been the end of a name.
    pub(super) json_suffix: bool,
    /// What who asks may do.
    pub(super) right: Right,
}

/// A request, without its body.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) state: Arc<ApiState>,
    pub(super) version: Version,
    pub(super) links: Links,
    /// When it came; what it changes is stamped with this.
    pub(super) now: Timestamp,
    pub(super) json_suffix: bool,
    pub(super) query: Query,
}

impl Call {
    /// Refuses what came with a later version than the one in use.
    pub(super) fn needs(&self, minor: u16) -> Result<(), Fault> {
        if self.version >= Version(minor) { Ok(()) } else { Err(Fault::too_new()) }
    }
}

impl FromRequestParts<Shared> for Call {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Fault> {
        // The front stands before every route.
        let Facts { version, links, now, json_suffix, .. } =
            parts.extensions.get::<Facts>().cloned().ok_or(Fault::Broken)?;
        let query = Query::read(parts.uri.query().unwrap_or_default())?;
        Ok(Self { state: Arc::clone(state), version, links, now, json_suffix, query })
    }
}

/// The variable parts of a path.
#[derive(Debug)]
pub(super) struct At<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for At<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Fault> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(found)) => Ok(Self(found)),
            // Percent-encoded bytes that are no text.
            Err(_) => Err(Fault::Invalid("Malformed request URI.".into())),
        }
    }
}

/// A JSON body. None at all is an empty object, as in Ironic.
#[derive(Debug)]
pub(super) struct Sent(pub(super) Value);

impl FromRequest<Shared> for Sent {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Fault> {
        let bytes = match axum::body::to_bytes(request.into_body(), LONGEST_BODY).await {
            Ok(bytes) => bytes,
            Err(error) if is_limit(&error) => return Err(Fault::TooLarge),
            Err(_) => return Err(Fault::Invalid("The request body ended too early.".into())),
        };
        Ok(Self(json(&bytes)?))
    }
}

/// The arguments of a verb: the members of the body's object.
#[derive(Debug)]
pub(super) struct Arguments(Map<String, Value>);

impl FromRequest<Shared> for Arguments {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &Shared) -> Result<Self, Fault> {
        match Sent::from_request(request, state).await?.0 {
            Value::Object(arguments) => Ok(Self(arguments)),
            other => Err(Fault::Invalid(format!("Unexpected arguments: {}", quoted(&other)))),
        }
    }
}

impl Arguments {
    /// Refuses arguments that are not among these.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Fault> {
        let unknown: Vec<_> =
            self.0.keys().map(String::as_str).filter(|name| !known.contains(name)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(Fault::Invalid(format!("Unexpected arguments: {}", unknown.join(", "))))
    }

    /// An argument that is there and not `null`.
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
            Some(other) => Err(Fault::Invalid(format!("Expected string for {name}: {}", quoted(other)))),
        }
    }

    pub(super) fn required_text(&self, name: &str) -> Result<&str, Fault> {
        self.text(name)?.ok_or_else(|| Fault::Invalid(format!("Missing mandatory parameter: {name}")))
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Fault> {
        let number = match self.get(name) {
            None => return Ok(None),
            // Clients write numbers as texts, too.
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
            Some(Value::String(text)) => field::flag(name, text).map(Some),
            Some(other) => Err(Fault::Invalid(format!("Invalid {name}: {}", quoted(other)))),
        }
    }
}

fn json(bytes: &Bytes) -> Result<Value, Fault> {
    if bytes.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    // serde_json itself gives up at a depth of 128, so this cannot use up the stack.
    let value = serde_json::from_slice(bytes)
        .map_err(|error| Fault::Invalid(format!("The request body is not valid JSON: {error}")))?;
    if depth(&value) > DEEPEST_BODY {
        return Err(Fault::Invalid(format!(
            "The request body is nested more deeply than {DEEPEST_BODY} levels."
        )));
    }
    Ok(value)
}

/// How deep objects and lists are nested in a value.
pub(super) fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whether a body could not be read because it is longer than it may be.
fn is_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_nested_no_deeper_than_it_may_be() {
        let nested = |levels: usize| Bytes::from(format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
        assert!(json(&nested(25)).is_ok());
        assert!(json(&nested(26)).is_err());
        assert!(json(&nested(100_000)).is_err());
    }

    #[test]
    fn no_body_is_an_empty_object() {
        assert_eq!(json(&Bytes::new()), Ok(serde_json::json!({})));
    }
}
