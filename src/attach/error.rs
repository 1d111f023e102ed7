//! [`AttachError`]: why a volume cannot be attached, derived from Cinder's errors, a volume's state or its
//! connection.

use super::volume::AttachmentWorker;
use crate::cinder::{self, CinderError, VolumeHolder};
use crate::model::{AttachmentState, Connection, Properties};
use crate::store::StoreError;

/// Why a volume cannot be attached now. The texts are for the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AttachError {
    /// Cinder or the backend does not answer.
    Unavailable(String),
    /// The cause is expected to pass without an operator.
    Transient(String),
    /// Cinder refused, or firmware cannot use the connection.
    Refused(String),
}

impl From<StoreError> for AttachError {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %error, "cannot access attachment records");
        Self::Transient("volboot cannot access its store; see its log".into())
    }
}

impl AttachmentWorker {
    /// Explains Cinder's refusal by the state and the holders of the volume.
    pub(super) async fn explain(&self, volume: &str, error: CinderError) -> AttachError {
        let CinderError::Refused { status: 400 | 409, .. } = error else { return classify(volume, error) };
        match self.cinder.volume(volume).await {
            Ok(details) if self.is_detaching(&details).await => {
                AttachError::Transient(detaching_reason(volume))
            }
            Ok(details) => {
                let details = self.load_holders(details).await;
                match check_status(&details) {
                    Some(error) => error,
                    // The cause of the refusal has already passed.
                    None if details.status == "available" => {
                        AttachError::Transient(format!("volume {volume}: {error}"))
                    }
                    None => classify(volume, error),
                }
            }
            Err(_) => classify(volume, error),
        }
    }

    /// Checks whether a volume can be attached, without changing anything. `own_attachment` is the attachment that
    /// the node already has.
    pub(super) async fn check(&self, volume: &str, own_attachment: Option<&str>) -> Result<(), AttachError> {
        let details =
            self.report(self.cinder.volume(volume).await).map_err(|error| classify(volume, error))?;
        if details.encrypted {
            return Err(AttachError::Refused(encrypted_reason(volume)));
        }
        let is_own = |holder: &VolumeHolder| own_attachment == Some(holder.attachment_id.as_str());
        if own_attachment.is_some()
            && (details.attachments.iter().any(is_own) || details.attachments.is_empty())
        {
            return Ok(());
        }
        let details = self.load_holders(details).await;
        match check_status(&details) {
            Some(AttachError::Refused(_)) if self.is_detaching(&details).await => {
                Err(AttachError::Transient(detaching_reason(volume)))
            }
            error => error.map_or(Ok(()), Err),
        }
    }

    /// Adds the holders of a reserved volume, which Cinder shows only in the list of attachments.
    async fn load_holders(&self, mut details: cinder::CinderVolume) -> cinder::CinderVolume {
        if details.attachments.is_empty() && details.status != "available" {
            let attachments = self.cinder.list_attachments(&details.id).await.unwrap_or_default();
            let holders = attachments.into_iter().map(|attachment| VolumeHolder {
                attachment_id: attachment.id,
                server_id: attachment.instance,
                host_name: None,
            });
            details.attachments = holders.collect();
        }
        details
    }

    /// Whether a holder of the volume is a node of this store that is being detached.
    async fn is_detaching(&self, details: &cinder::CinderVolume) -> bool {
        let records = self.records.list_by_volume(&details.id).await.unwrap_or_default();
        records.iter().filter(|record| record.state == AttachmentState::Detaching).any(|record| {
            details.attachments.iter().any(|holder| record.cinder_id.as_ref() == Some(&holder.attachment_id))
        })
    }
}

fn detaching_reason(volume: &str) -> String {
    format!("volume {volume} is still being detached from its previous node")
}

/// The error if the volume's status prevents an attachment.
fn check_status(details: &cinder::CinderVolume) -> Option<AttachError> {
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
        CinderError::Unavailable(reason) => AttachError::Unavailable(reason),
        CinderError::NotFound(_) => AttachError::Refused(format!("volume {volume} was not found in Cinder")),
        CinderError::Refused { status: 409, message } => {
            AttachError::Transient(format!("volume {volume}: {message}"))
        }
        CinderError::Refused { status, message } => {
            AttachError::Refused(format!("Cinder refused volume {volume}: {message} ({status})"))
        }
    }
}

/// Returns the connection if firmware can use it.
pub(super) fn check_connection(volume: &str, connection: Option<Properties>) -> Result<Properties, String> {
    let Some(connection) = connection else {
        return Err(format!("Cinder returned no connection for volume {volume}"));
    };
    match connection.text("driver_volume_type") {
        Some("iscsi") | None => {}
        Some(transport) => {
            return Err(format!("volume {volume} has transport \"{transport}\"; only iscsi can be booted"));
        }
    }
    if connection.get("encrypted").and_then(serde_json::Value::as_bool) == Some(true) {
        return Err(encrypted_reason(volume));
    }
    match Connection::try_from(&connection) {
        Ok(_) => Ok(connection),
        Err(error) => Err(format!("Cinder returned an invalid connection for volume {volume}: {error}")),
    }
}

fn encrypted_reason(volume: &str) -> String {
    format!("volume {volume} is encrypted, which firmware cannot read")
}
