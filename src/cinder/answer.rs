//! What Cinder says, as far as a boot needs it. Fields that nobody here reads are passed over.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::model::Properties;

/// A volume.
#[derive(Debug, Clone, Deserialize)]
pub struct Volume {
    /// Its id.
    pub id: String,
    /// `available`, `in-use`, `attaching`, `error`, …
    pub status: String,
    /// Whether several machines may have it at once.
    #[serde(default)]
    pub multiattach: bool,
    /// Whether its content is encrypted by the machine that uses it, which firmware cannot.
    #[serde(default)]
    pub encrypted: bool,
    /// The type it was made of, which stands for a backend.
    #[serde(default)]
    pub volume_type: Option<String>,
    /// Who has it.
    #[serde(default)]
    pub attachments: Vec<Holder>,
}

/// One who has a volume. A member of a project sees neither the host nor much else.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Holder {
    /// The attachment by which it has it.
    pub attachment_id: String,
    /// The server (Nova's instance), if it is one.
    #[serde(default)]
    pub server_id: Option<String>,
    /// The host, where it is shown.
    #[serde(default)]
    pub host_name: Option<String>,
}

/// An attachment.
#[derive(Debug, Clone, Deserialize)]
pub struct Attachment {
    /// Its id.
    pub id: String,
    /// `reserved`, `attaching`, `attached`, `detaching`, `error_attaching`, …
    #[serde(default)]
    pub status: String,
    /// The server it is for, if it is one.
    #[serde(default)]
    pub instance: Option<String>,
    /// How the volume is reached; nothing before an export.
    #[serde(default, rename = "connection_info", deserialize_with = "some_connection")]
    pub connection: Option<Properties>,
}

/// Cinder writes `{}` or `null` where there is none.
fn some_connection<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Properties>, D::Error> {
    let found: Option<Map<String, Value>> = Option::deserialize(from)?;
    Ok(found.filter(|found| !found.is_empty()).map(Into::into))
}

#[derive(Deserialize)]
pub(super) struct VolumeBody {
    pub(super) volume: Volume,
}

#[derive(Deserialize)]
pub(super) struct AttachmentBody {
    pub(super) attachment: Attachment,
}

#[derive(Deserialize)]
pub(super) struct AttachmentsBody {
    pub(super) attachments: Vec<Attachment>,
}
