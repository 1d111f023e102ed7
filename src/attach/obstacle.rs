//! What is in the way of having a volume: what Cinder's words, a volume's state or a connection mean for a boot.

use super::volume::Worker;
use crate::cinder::{self, CinderError, Holder};
use crate::model::{AttachmentState, Connection, Properties};
use crate::store::StoreError;

/// Why a volume cannot be had now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody answers who could say.
    Away(String),
    /// It is in a state that passes by itself.
    Passing(String),
    /// Cinder said no, or what it said is of no use to firmware.
    Refused(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %error, "the store failed while a volume was attached");
        Self::Passing("volboot cannot write to its store; its log says why".into())
    }
}

impl Worker {
    /// Why Cinder said no to a volume: its state, and who has it.
    pub(super) async fn explain(&self, volume: &str, error: CinderError) -> Trouble {
        let CinderError::Refused { status: 400 | 409, .. } = error else { return refusal(volume, error) };
        match self.cinder.volume(volume).await {
            Ok(found) if self.is_letting_go(&found).await => Trouble::Passing(letting_go(volume)),
            Ok(found) => {
                let found = self.with_holders(found).await;
                match fault(&found) {
                    Some(trouble) => trouble,
                    // What was in the way is over already.
                    None if found.status == "available" => {
                        Trouble::Passing(format!("volume {volume}: {error}"))
                    }
                    None => refusal(volume, error),
                }
            }
            Err(_) => refusal(volume, error),
        }
    }

    /// What is in the way of attaching a volume, asked without touching it. `ours`: the attachment by which the node
    /// has it already.
    pub(super) async fn examine(&self, volume: &str, ours: Option<&str>) -> Result<(), Trouble> {
        let found = self.told(self.cinder.volume(volume).await).map_err(|error| refusal(volume, error))?;
        if found.encrypted {
            return Err(Trouble::Refused(encrypted(volume)));
        }
        let held = |holder: &Holder| ours == Some(holder.attachment_id.as_str());
        if ours.is_some() && (found.attachments.iter().any(held) || found.attachments.is_empty()) {
            return Ok(());
        }
        let found = self.with_holders(found).await;
        match fault(&found) {
            Some(Trouble::Refused(_)) if self.is_letting_go(&found).await => {
                Err(Trouble::Passing(letting_go(volume)))
            }
            trouble => trouble.map_or(Ok(()), Err),
        }
    }

    /// A volume that is only reserved names nobody by itself; its attachments do.
    async fn with_holders(&self, mut found: cinder::Volume) -> cinder::Volume {
        if found.attachments.is_empty() && found.status != "available" {
            let attachments = self.cinder.attachments_of(&found.id).await.unwrap_or_default();
            let held = attachments.into_iter().map(|held| Holder {
                attachment_id: held.id,
                server_id: held.instance,
                host_name: None,
            });
            found.attachments = held.collect();
        }
        found
    }

    /// Whether one who has the volume is a node of ours that is about to lose it.
    async fn is_letting_go(&self, found: &cinder::Volume) -> bool {
        let ours = self.records.of_volume(&found.id).await.unwrap_or_default();
        ours.iter().filter(|record| record.state == AttachmentState::Detaching).any(|record| {
            found.attachments.iter().any(|holder| record.cinder_id.as_ref() == Some(&holder.attachment_id))
        })
    }
}

fn letting_go(volume: &str) -> String {
    format!("volume {volume} is being detached from the node that had it")
}

/// What a volume's state says against attaching it.
fn fault(found: &cinder::Volume) -> Option<Trouble> {
    let volume = &found.id;
    match found.status.as_str() {
        "available" | "downloading" => None,
        "in-use" if found.multiattach => None,
        "in-use" => Some(Trouble::Refused(format!(
            "volume {volume} is in use by {} and is not multi-attachable",
            holders(&found.attachments)
        ))),
        status @ ("attaching" | "reserved" | "detaching" | "creating" | "uploading" | "maintenance"
        | "retyping" | "backing-up" | "restoring-backup" | "reverting" | "extending") => {
            let by = match found.attachments.as_slice() {
                [] => String::new(),
                held => format!(" by {}", holders(held)),
            };
            Some(Trouble::Passing(format!("volume {volume} is in state \"{status}\"{by}")))
        }
        status => Some(Trouble::Refused(format!("volume {volume} is in state \"{status}\""))),
    }
}

/// Who has a volume, as far as Cinder shows it.
fn holders(held: &[Holder]) -> String {
    let name = |holder: &Holder| match (&holder.server_id, &holder.host_name) {
        (Some(server), _) => format!("server {server}"),
        (None, Some(host)) => format!("host {host}"),
        (None, None) => format!("attachment {}", holder.attachment_id),
    };
    match held {
        [] => "somebody whom Cinder does not show".to_owned(),
        held => held.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

pub(super) fn refusal(volume: &str, error: CinderError) -> Trouble {
    match error {
        CinderError::Away(reason) => Trouble::Away(reason),
        CinderError::Missing(_) => Trouble::Refused(format!("Cinder knows no volume {volume}")),
        CinderError::Refused { status: 409, message } => {
            Trouble::Passing(format!("volume {volume}: {message}"))
        }
        CinderError::Refused { status, message } => {
            Trouble::Refused(format!("Cinder refuses volume {volume}: {message} ({status})"))
        }
    }
}

/// A connection that firmware can use.
pub(super) fn usable(volume: &str, connection: Option<Properties>) -> Result<Properties, String> {
    let Some(connection) = connection else {
        return Err(format!("Cinder does not say how volume {volume} is reached"));
    };
    match connection.text("driver_volume_type") {
        Some("iscsi") | None => {}
        Some(other) => {
            return Err(format!("volume {volume} is reached by \"{other}\": only iscsi can be booted"));
        }
    }
    if connection.get("encrypted").and_then(serde_json::Value::as_bool) == Some(true) {
        return Err(encrypted(volume));
    }
    match Connection::try_from(&connection) {
        Ok(_) => Ok(connection),
        Err(error) => Err(format!("what Cinder says of volume {volume} makes no sense: {error}")),
    }
}

fn encrypted(volume: &str) -> String {
    format!("volume {volume} is encrypted, which firmware cannot read")
}
