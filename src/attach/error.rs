//! [`AttachError`]: why a volume cannot be attached, derived from Cinder's errors, a volume's state or its
//! connection. No function here does I/O.

use std::fmt;

use crate::cinder::{CinderError, CinderVolume, VolumeHolder};
use crate::model::{Connection, Properties};
use crate::store::{AttachmentWriteError, StoreError};

/// Why a machine has to retry after its volumes changed.
pub(super) const TARGETS_CHANGED: &str = "the volume targets changed during the request";

/// Why a volume cannot be attached now. The texts are for the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AttachError {
    /// Cinder or the backend does not answer.
    Unavailable(Outage),
    /// The cause is expected to pass without an operator.
    Transient(String),
    /// volboot itself is at work on the volume, or waits for the end of such work.
    Busy(String),
    /// Cinder refused, or firmware cannot use the connection.
    Refused(String),
}

/// What does not answer or fails, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outage {
    /// Cinder, or Keystone.
    Cinder(String),
    /// The backend of a volume, while Cinder answers other requests. No fault of the volume or the node.
    Backend(String),
    /// The export of this volume to this node, which ended with 500 while Cinder answers other requests.
    Export(String),
}

impl Outage {
    /// The outage of a backend whose circuit is open.
    pub(super) fn open_circuit(volume_type: &str, reason: &str) -> Self {
        Self::Backend(format!("the backend of volume type \"{volume_type}\" fails: {reason}"))
    }

    /// The outage with its reason changed.
    pub(super) fn map_reason(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Cinder(reason) => Self::Cinder(change(reason)),
            Self::Backend(reason) => Self::Backend(change(reason)),
            Self::Export(reason) => Self::Export(change(reason)),
        }
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cinder(reason) => write!(f, "Cinder is unavailable: {reason}"),
            Self::Backend(reason) | Self::Export(reason) => write!(f, "Cinder answers, but {reason}"),
        }
    }
}

impl AttachError {
    /// The error while Cinder does not answer.
    pub(super) fn cinder_unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable(Outage::Cinder(reason.into()))
    }

    /// The reason alone.
    pub(super) fn into_reason(self) -> String {
        match self {
            Self::Unavailable(outage) => outage.to_string(),
            Self::Transient(reason) | Self::Busy(reason) | Self::Refused(reason) => reason,
        }
    }
}

impl From<StoreError> for AttachError {
    fn from(error: StoreError) -> Self {
        match error {
            // Logged once by the store.
            StoreError::ReadOnly(_) => Self::Transient(error.to_string()),
            StoreError::Unavailable(_) | StoreError::Damaged(_) => {
                tracing::error!(error = %error, "cannot access attachment records");
                Self::Transient("volboot cannot access its store; see its log".into())
            }
        }
    }
}

impl From<AttachmentWriteError> for AttachError {
    fn from(error: AttachmentWriteError) -> Self {
        match error {
            AttachmentWriteError::ClaimEnded(_) => claim_lost(),
            AttachmentWriteError::Store(error) => error.into(),
        }
    }
}

/// The error if this process lost its claim: another instance completes the work.
pub(super) fn claim_lost() -> AttachError {
    AttachError::Busy("this instance lost its session in the store; the work starts again".into())
}

/// The error if a release of the volume, or a change of the node, overtook the attachment.
pub(super) fn changed_during_request() -> AttachError {
    AttachError::Transient(TARGETS_CHANGED.into())
}

/// The error while another node of this store holds the volume until it is detached.
pub(super) fn still_detaching(volume: &str) -> AttachError {
    AttachError::Transient(format!("volume {volume} is still being detached from its previous node"))
}

/// The error for a volume that the backend encrypts.
pub(super) fn encrypted(volume: &str) -> AttachError {
    AttachError::Refused(format!("volume {volume} is encrypted, which firmware cannot read"))
}

/// The error if the volume's status prevents an attachment.
pub(super) fn check_status(details: &CinderVolume) -> Option<AttachError> {
    let volume = &details.id;
    match details.status.as_str() {
        "available" | "downloading" => None,
        "in-use" if details.multiattach => None,
        "in-use" => Some(AttachError::Refused(format!(
            "volume {volume} is in use by {} and is not multi-attachable",
            format_holders(&details.attachments)
        ))),
        status @ ("attaching" | "reserved" | "detaching" | "creating" | "uploading" | "maintenance"
        | "retyping" | "backing-up" | "restoring-backup" | "reverting" | "extending") => {
            let holders = match details.attachments.as_slice() {
                [] => String::new(),
                holders => format!(", held by {}", format_holders(holders)),
            };
            Some(AttachError::Transient(format!("volume {volume} is in state \"{status}\"{holders}")))
        }
        status => Some(AttachError::Refused(format!("volume {volume} is in state \"{status}\""))),
    }
}

/// Names the holders of a volume, as far as Cinder shows them.
fn format_holders(holders: &[VolumeHolder]) -> String {
    let name = |holder: &VolumeHolder| match (&holder.server_id, &holder.host_name) {
        (Some(server), _) => format!("server {server}"),
        (None, Some(host)) => format!("host {host}"),
        (None, None) => format!("attachment {}", holder.attachment_id),
    };
    match holders {
        [] => "an unknown holder".to_owned(),
        holders => holders.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

/// Converts an error of Cinder about a volume.
pub(super) fn classify(volume: &str, error: CinderError) -> AttachError {
    match error {
        error @ (CinderError::Unavailable(_) | CinderError::Failed { .. }) => {
            AttachError::cinder_unavailable(error.to_string())
        }
        CinderError::NotFound(_) => AttachError::Refused(format!("volume {volume} was not found in Cinder")),
        CinderError::Refused { status: 409, message } => {
            AttachError::Transient(format!("volume {volume}: {message}"))
        }
        CinderError::Refused { status, message } => {
            AttachError::Refused(format!("Cinder refused volume {volume}: {message} ({status})"))
        }
    }
}

/// Parses a connection of Cinder. Refuses one that firmware cannot use.
pub(super) fn parse_connection(volume: &str, connection: &Properties) -> Result<Connection, AttachError> {
    if connection.reveal().is_empty() {
        return Err(AttachError::Refused(format!("Cinder returned no connection for volume {volume}")));
    }
    match connection.text("driver_volume_type") {
        None => {}
        // MacroSAN writes `iSCSI`; os-brick ignores case.
        Some(transport) if transport.eq_ignore_ascii_case("iscsi") => {}
        Some(transport) => {
            let reason = format!("volume {volume} has transport \"{transport}\"; only iscsi can be booted");
            return Err(AttachError::Refused(reason));
        }
    }
    if connection.get("encrypted").and_then(serde_json::Value::as_bool) == Some(true) {
        return Err(encrypted(volume));
    }
    Connection::from_cinder(connection).map_err(|error| {
        AttachError::Refused(format!("Cinder returned an invalid connection for volume {volume}: {error}"))
    })
}
