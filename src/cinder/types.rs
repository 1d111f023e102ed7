//! Response bodies of Cinder's API, reduced to the fields that a boot needs. Unknown fields are ignored.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::model::Properties;

/// A volume.
#[derive(Debug, Clone, Deserialize)]
pub struct CinderVolume {
    /// Its id.
    pub id: String,
    /// `available`, `in-use`, `attaching`, `error`, …
    pub status: String,
    /// Whether several machines can attach the volume at once.
    #[serde(default)]
    pub multiattach: bool,
    /// Whether the attaching host encrypts the content. Firmware cannot.
    #[serde(default)]
    pub encrypted: bool,
    /// The volume type, which stands for a backend.
    #[serde(default)]
    pub volume_type: Option<String>,
    /// When Cinder last changed the volume's record, as Cinder writes it; `None` before the first change.
    #[serde(default)]
    pub updated_at: Option<String>,
    /// The attachments of the volume.
    #[serde(default)]
    pub attachments: Vec<VolumeHolder>,
}

/// A holder of a volume: an attachment in state `attached`. Cinder shows the host to administrators alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct VolumeHolder {
    /// The id of the attachment.
    pub attachment_id: String,
    /// The server (Nova's instance), if the holder is a server.
    #[serde(default)]
    pub server_id: Option<String>,
    /// The host, if Cinder shows it.
    #[serde(default)]
    pub host_name: Option<String>,
    /// The device name, from the connector's `mountpoint`. Cinder writes `na` for a missing name.
    #[serde(default)]
    pub device: Option<String>,
}

/// An attachment.
#[derive(Debug, Clone, Deserialize)]
pub struct CinderAttachment {
    /// Its id.
    pub id: String,
    /// `reserved`, `attaching`, `attached`, `detaching`, `error_attaching`, …
    #[serde(default)]
    pub status: String,
    /// The volume.
    #[serde(default, rename = "volume_id")]
    pub volume: Option<String>,
    /// The server (Nova's instance) of the attachment, if any.
    #[serde(default)]
    pub instance: Option<String>,
    /// How the volume is reached; `None` before an export.
    #[serde(default, rename = "connection_info", deserialize_with = "deserialize_connection")]
    pub connection: Option<Properties>,
}

impl CinderAttachment {
    /// Whether the volume is reserved and not exported yet.
    pub fn is_reserved(&self) -> bool {
        self.status == "reserved"
    }

    /// Whether the volume is exported, and the attachment not completed.
    pub fn is_attaching(&self) -> bool {
        self.status == "attaching"
    }
}

/// Cinder writes `{}` or `null` for a missing connection.
fn deserialize_connection<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Properties>, D::Error> {
    let connection: Option<Map<String, Value>> = Option::deserialize(from)?;
    Ok(connection.filter(|connection| !connection.is_empty()).map(Into::into))
}

#[derive(Deserialize)]
pub(super) struct VolumeBody {
    pub(super) volume: CinderVolume,
}

#[derive(Deserialize)]
pub(super) struct AttachmentBody {
    pub(super) attachment: CinderAttachment,
}

#[derive(Deserialize)]
pub(super) struct AttachmentsBody {
    pub(super) attachments: Vec<CinderAttachment>,
}
