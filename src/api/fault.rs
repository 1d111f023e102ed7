//! [`Fault`]: why a request was not done, and how Ironic's clients are told.
//!
//! The only place where errors have HTTP statuses. The body is Ironic's: an object whose `error_message` is a
//! *text* that holds JSON again. python-ironicclient takes that text apart and breaks if it is an object; tempest's
//! patterns count on its escaped quotes. So it is kept for every error, those of routing included.
//!
//! Clients repeat a request that was answered 409 or 503 (python-ironicclient five times, two seconds apart), so
//! these stay for what may pass by itself or what Ironic itself calls a conflict.

use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::auth::{Auth, Denied};
use crate::model::Properties;
use crate::store::{InventoryError, Kind, Resource, StoreError, Unique, UpdateError};

/// Why a request was not done. The text is for the person at the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The request makes no sense, or not in the state in which the node is.
    Invalid(String),
    /// Who asks did not say, or not rightly, who they are.
    Unauthorized {
        /// Why.
        text: String,
        /// How to do better (`WWW-Authenticate`).
        challenge: Option<HeaderValue>,
    },
    /// Who asks may not do this.
    Denied(String),
    /// Nobody may do this.
    Forbidden,
    /// There is no such thing.
    NotFound(String),
    /// There is, but nothing can be done to it in this way.
    MethodNotAllowed,
    /// There is, but not in the version asked for.
    NotAcceptable(String),
    /// It stands against something that is there already.
    Conflict(String),
    /// The body is longer than any sensible request.
    TooLarge,
    /// The store does not answer, or who could tell whose a token is.
    Unavailable,
    /// The server is at fault.
    Broken,
}

impl Fault {
    /// A field, parameter or verb that came with a later version than the one asked for.
    pub(super) fn too_new() -> Self {
        Self::NotAcceptable("Request not acceptable.".into())
    }

    /// There is no record of a kind with this UUID (or name, as the client gave it).
    pub(super) fn missing<R: Resource>(ident: impl fmt::Display) -> Self {
        let kind = called(R::KIND);
        let capital = kind[..1].to_uppercase();
        Self::NotFound(format!("{capital}{} {ident} could not be found.", &kind[1..]))
    }

    /// A verb that the node's state does not allow. Ironic answers 400, so that no client repeats it.
    pub(super) fn wrong_state(action: &str, node: impl fmt::Display, state: &str) -> Self {
        Self::Invalid(format!(
            "The requested action \"{action}\" can not be performed on node \"{node}\" while it is in state \
             \"{state}\"."
        ))
    }

    /// Something that none of the interfaces of a driver can do.
    pub(super) fn unsupported(driver: &str, what: &str) -> Self {
        Self::Invalid(format!("Driver {driver} does not support {what} (disabled or not implemented)."))
    }

    /// Somebody may not, or not without saying who they are.
    pub(super) fn denied(denied: Denied, auth: &Auth) -> Self {
        match denied {
            Denied::Missing | Denied::Wrong | Denied::NoToken => {
                Self::Unauthorized { text: denied.to_string(), challenge: auth.challenge() }
            }
            Denied::Malformed => Self::Invalid(denied.to_string()),
            Denied::NoRole => Self::Denied(denied.to_string()),
            Denied::Busy | Denied::Away => Self::Unavailable,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::Denied(_) | Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text)
            | Self::Unauthorized { text, .. }
            | Self::Denied(text)
            | Self::NotFound(text)
            | Self::NotAcceptable(text)
            | Self::Conflict(text) => f.write_str(text),
            Self::Forbidden => f.write_str("Operation not permitted."),
            Self::MethodNotAllowed => f.write_str("The method is not allowed for this resource."),
            Self::TooLarge => f.write_str("The request body is too large."),
            Self::Unavailable => f.write_str("Resource temporarily unavailable, please retry."),
            Self::Broken => f.write_str("The server failed; its log says why."),
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = self.status();
        let faultcode = if status.is_server_error() { "Server" } else { "Client" };
        let inner = json!({"faultcode": faultcode, "faultstring": self.to_string(), "debuginfo": null});
        let body = json!({"error_message": inner.to_string()}).to_string();
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if let Self::Unauthorized { challenge: Some(challenge), .. } = self {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed");
        match error {
            StoreError::Unavailable(_) => Self::Unavailable,
            StoreError::Damaged(_) => Self::Broken,
        }
    }
}

impl From<InventoryError> for Fault {
    fn from(error: InventoryError) -> Self {
        match error {
            InventoryError::Duplicate(unique) => Self::Conflict(taken(&unique)),
            InventoryError::NoNode(node) => Self::Invalid(format!(
                "Invalid input for field/attribute node_uuid. Value: '{node}'. There is no such node."
            )),
            InventoryError::Store(error) => error.into(),
        }
    }
}

/// What a change of the record `R` with this identity came to.
pub(super) fn unchanged<R: Resource>(ident: impl fmt::Display) -> impl FnOnce(UpdateError<Fault>) -> Fault {
    move |error| match error {
        UpdateError::NotFound => Fault::missing::<R>(ident),
        UpdateError::Refused(fault) => fault,
        UpdateError::Inventory(error) => error.into(),
    }
}

/// Ironic's words for something that another has; tempest looks for them.
fn taken(unique: &Unique) -> String {
    match unique {
        Unique::Uuid(kind, uuid) => format!("A {} with UUID {uuid} already exists.", called(*kind)),
        Unique::NodeName(name) => format!("A node with name {name} already exists."),
        Unique::Instance(uuid) => {
            format!(
                "Instance {uuid} is already associated with a node, it cannot be associated with this other node."
            )
        }
        Unique::Address(mac) => format!("A port with MAC address {mac} already exists."),
        Unique::PortGroupName(name) => format!("A portgroup with name {name} already exists."),
        Unique::PortGroupAddress(mac) => format!("A portgroup with MAC address {mac} already exists."),
        Unique::Connector(kind, id) => {
            format!("A volume connector with type {kind} and connector ID {id} already exists.")
        }
        Unique::BootIndex(_, index) => {
            format!("A volume target with boot index '{index}' for the same node already exists.")
        }
    }
}

/// Ironic's name for a kind of record, in its sentences.
pub(super) fn called(kind: Kind) -> &'static str {
    match kind {
        Kind::Node => "node",
        Kind::Chassis => "chassis",
        Kind::Port => "port",
        Kind::PortGroup => "portgroup",
        Kind::VolumeConnector => "volume connector",
        Kind::VolumeTarget => "volume target",
    }
}

/// A value as it may stand in a message: short, and with nothing in it that is secret.
pub(super) fn quoted(value: &serde_json::Value) -> String {
    let shown = Properties::from(serde_json::Map::from_iter([(String::new(), value.clone())])).masked();
    match shown.get("") {
        Some(serde_json::Value::String(text)) => format!("'{}'", shortened(text)),
        other => shortened(&other.map(ToString::to_string).unwrap_or_default()),
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 200;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain("…".chars()).collect()
}
