//! [`Fault`]: the error responses, in Ironic's form.
//!
//! Only this module maps errors to HTTP statuses. The body is Ironic's: an object whose `error_message` is a *string*
//! containing JSON. python-ironicclient parses this string and fails on an object; tempest's patterns expect its
//! escaped quotes. Every error has this form, including routing errors.
//!
//! Clients retry after 409 and 503 (python-ironicclient five times, two seconds apart). These statuses are therefore
//! reserved for transient conditions and for Ironic's own conflicts.

use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::version::Microversion;
use crate::auth::{Auth, AuthError};
use crate::model::{InterfaceError, Properties};
use crate::operator::OperationRefusal;
use crate::store::{InventoryError, Resource, ResourceKind, StoreError, UniqueKey, UpdateError};

/// An error response. The text is for the operator at the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The request is invalid, or invalid in the node's present state.
    Invalid(String),
    /// Missing or invalid credentials.
    Unauthorized {
        /// The reason.
        text: String,
        /// The value of `WWW-Authenticate`.
        challenge: Option<HeaderValue>,
    },
    /// The caller lacks the required role, or the node is protected.
    Denied(String),
    /// The operation is forbidden for every caller.
    Forbidden,
    /// The record or path does not exist.
    NotFound(String),
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// The feature exists, but not in the negotiated microversion.
    NotAcceptable(String),
    /// The request conflicts with existing records or with the node's state.
    Conflict(String),
    /// The body, or the config drive in it, exceeds this limit in bytes.
    TooLarge(usize),
    /// The client has sent too many wrong passwords.
    TooManyAttempts,
    /// The store or Keystone is unavailable, or too many requests wait.
    Unavailable,
    /// The store accepts no changes, for this reason.
    ReadOnly(String),
    /// The BMC of a node failed, in Ironic's words.
    Redfish(String),
    /// An error inside volboot.
    Internal,
}

impl Fault {
    /// The fault for a field, parameter or verb that came with a microversion after the negotiated one.
    pub(super) fn needs_version(since: Microversion) -> Self {
        let text = format!("Request not acceptable. The minimal required API version should be {since}");
        Self::NotAcceptable(text)
    }

    /// The fault for a path that does not exist, or not yet in the negotiated microversion.
    pub(super) fn no_path(since: Option<Microversion>) -> Self {
        let mut text = "The resource could not be found.".to_owned();
        if let Some(since) = since {
            text += &format!(" The minimal required API version should be {since}");
        }
        Self::NotFound(text)
    }

    /// The fault for a record that does not exist; `ident` is the UUID or name as the client sent it.
    pub(super) fn not_found<R: Resource>(ident: impl fmt::Display) -> Self {
        let kind = kind_name(R::KIND);
        let capital = kind[..1].to_uppercase();
        Self::NotFound(format!("{capital}{} {ident} could not be found.", &kind[1..]))
    }

    /// The fault for a verb that the node's state does not allow. Ironic answers 400, so that clients do not retry.
    pub(super) fn wrong_state(action: &str, node: impl fmt::Display, state: &str) -> Self {
        OperationRefusal::wrong_state(action, node, state).into()
    }

    /// The fault for a feature that no interface of the driver implements.
    pub(super) fn unsupported(driver: &str, feature: &str) -> Self {
        Self::Invalid(format!("Driver {driver} does not support {feature} (disabled or not implemented)."))
    }

    /// The fault for a failed authentication or authorization.
    pub(super) fn from_auth_error(error: AuthError, auth: &Auth) -> Self {
        match error {
            AuthError::MissingCredentials | AuthError::InvalidCredentials | AuthError::InvalidToken => {
                Self::Unauthorized { text: error.to_string(), challenge: auth.challenge() }
            }
            AuthError::MalformedCredentials => Self::Invalid(error.to_string()),
            AuthError::NoRole => Self::Denied(error.to_string()),
            AuthError::TooManyAttempts => Self::TooManyAttempts,
            AuthError::Busy | AuthError::Unavailable => Self::Unavailable,
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
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable | Self::ReadOnly(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Redfish(_) | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
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
            Self::TooLarge(limit) => {
                write!(f, "Request body is too large: the limit is {} MiB.", limit >> 20)
            }
            Self::TooManyAttempts => write!(f, "{}; please retry later.", AuthError::TooManyAttempts),
            Self::Unavailable => f.write_str("Resource temporarily unavailable, please retry."),
            Self::ReadOnly(reason) => write!(f, "The store is read-only: {reason}."),
            Self::Redfish(error) => write!(f, "Redfish exception occurred. Error: {error}"),
            Self::Internal => f.write_str("Internal server error; see volboot's log."),
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
        if self == Self::TooManyAttempts {
            response.headers_mut().insert(header::RETRY_AFTER, Auth::RETRY_AFTER.into());
        }
        if let Self::Unauthorized { challenge: Some(challenge), .. } = self {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match &error {
            // The log shows once that the store is read-only, and each request with its status.
            StoreError::ReadOnly(_) => {}
            StoreError::Unavailable(_) | StoreError::Damaged(_) => {
                tracing::error!(%error, "store operation failed");
            }
        }
        match error {
            StoreError::Unavailable(_) => Self::Unavailable,
            StoreError::ReadOnly(reason) => Self::ReadOnly(reason),
            StoreError::Damaged(_) => Self::Internal,
        }
    }
}

impl From<InventoryError> for Fault {
    fn from(error: InventoryError) -> Self {
        match error {
            InventoryError::Duplicate(unique) => Self::Conflict(duplicate_message(&unique)),
            InventoryError::NodeNotFound(node) => Self::Invalid(format!(
                "Invalid input for field/attribute node_uuid. Value: '{node}'. There is no such node."
            )),
            InventoryError::ClaimEnded(_) => Self::Conflict(error.to_string()),
            InventoryError::Store(error) => error.into(),
        }
    }
}

impl From<OperationRefusal> for Fault {
    fn from(refusal: OperationRefusal) -> Self {
        match refusal {
            OperationRefusal::Reserved { .. } => Self::Conflict(refusal.to_string()),
            OperationRefusal::Invalid(text) => Self::Invalid(text),
            OperationRefusal::Conflict(text) => Self::Conflict(text),
            OperationRefusal::Protected(text) => Self::Denied(text),
            OperationRefusal::DriverInfo(error) => Self::Invalid(error.to_string()),
            OperationRefusal::Failed(error) => Self::Redfish(error.to_string()),
            OperationRefusal::NotFound => Self::NotFound(refusal.to_string()),
            OperationRefusal::Inventory(error) => error.into(),
        }
    }
}

impl From<InterfaceError> for Fault {
    /// Ironic has the same check at creation and update, and answers 400.
    fn from(error: InterfaceError) -> Self {
        Self::Invalid(match error {
            InterfaceError::UnknownDriver(driver) => format!(
                "No valid host was found. Reason: No conductor service registered which supports driver {driver}."
            ),
            InterfaceError::NotEnabled { kind, name, enabled } => {
                let enabled = enabled.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
                format!(
                    "Could not find the following interface in the 'ironic.hardware.interfaces.{kind}' entrypoint: \
                     {name}. Valid interfaces are [{enabled}]."
                )
            }
        })
    }
}

/// Maps the error of an update or deletion of the record `ident` of kind `R`.
pub(super) fn map_update_error<R: Resource>(
    ident: impl fmt::Display,
) -> impl FnOnce(UpdateError<Fault>) -> Fault {
    move |error| match error {
        UpdateError::NotFound => Fault::not_found::<R>(ident),
        UpdateError::Refused(fault) => fault,
        UpdateError::Inventory(error) => error.into(),
    }
}

/// Maps the refusal of an operation on the record `ident` of kind `R`.
pub(super) fn map_refusal<R: Resource>(ident: impl fmt::Display) -> impl FnOnce(OperationRefusal) -> Fault {
    move |refusal| match refusal {
        OperationRefusal::NotFound => Fault::not_found::<R>(ident),
        refusal => refusal.into(),
    }
}

/// Ironic's message for a violated uniqueness constraint; tempest matches it.
fn duplicate_message(unique: &UniqueKey) -> String {
    match unique {
        UniqueKey::Uuid(ResourceKind::Allocation, uuid) => {
            format!("An allocation with UUID {uuid} already exists.")
        }
        UniqueKey::Uuid(kind, uuid) => format!("A {} with UUID {uuid} already exists.", kind_name(*kind)),
        UniqueKey::NodeName(name) => format!("A node with name {name} already exists."),
        UniqueKey::Instance(uuid) => {
            format!(
                "Instance {uuid} is already associated with a node, it cannot be associated with this other node."
            )
        }
        UniqueKey::Address(mac) => format!("A port with MAC address {mac} already exists."),
        UniqueKey::PortGroupName(name) => format!("A portgroup with name {name} already exists."),
        UniqueKey::PortGroupAddress(mac) => format!("A portgroup with MAC address {mac} already exists."),
        UniqueKey::Connector(kind, id) => {
            format!("A volume connector with type {kind} and connector ID {id} already exists.")
        }
        UniqueKey::BootIndex(_, index) => {
            format!("A volume target with boot index '{index}' for the same node already exists.")
        }
        UniqueKey::AllocationName(name) => format!("An allocation with name {name} already exists."),
        UniqueKey::BootOnceNode(node) => format!("Node {node} already has a one-time boot."),
    }
}

/// The name of a kind of record in Ironic's messages.
pub(super) fn kind_name(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Node => "node",
        ResourceKind::Chassis => "chassis",
        ResourceKind::Port => "port",
        ResourceKind::PortGroup => "portgroup",
        ResourceKind::VolumeConnector => "volume connector",
        ResourceKind::VolumeTarget => "volume target",
        ResourceKind::Allocation => "allocation",
        ResourceKind::BootOnce => "one-time boot",
    }
}

/// A value for use in a message: truncated and with secrets redacted.
pub(super) fn quote(value: &serde_json::Value) -> String {
    let masked = Properties::from(serde_json::Map::from_iter([(String::new(), value.clone())])).to_masked();
    match masked.get("") {
        Some(serde_json::Value::String(text)) => format!("'{}'", truncate(text)),
        other => truncate(&other.map(ToString::to_string).unwrap_or_default()),
    }
}

/// Python's name for the type of a value, as in Ironic's messages.
pub(super) fn python_type(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "NoneType",
        serde_json::Value::Bool(_) => "bool",
        serde_json::Value::Number(number) if number.is_f64() => "float",
        serde_json::Value::Number(_) => "int",
        serde_json::Value::String(_) => "str",
        serde_json::Value::Array(_) => "list",
        serde_json::Value::Object(_) => "dict",
    }
}

fn truncate(text: &str) -> String {
    const MAX_LENGTH: usize = 200;
    if text.chars().count() <= MAX_LENGTH {
        return text.to_owned();
    }
    text.chars().take(MAX_LENGTH).chain("…".chars()).collect()
}
