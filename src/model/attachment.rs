//! [`Attachment`]: volboot's record of a volume's attachment in Cinder.
//!
//! An attachment belongs to one node and one volume, and is a record of its own: it outlives its target and its node.
//! The record stays until Cinder has deleted the attachment.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Mac, Properties};

/// The progress of an attachment. Each state says what a crash leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentState {
    /// The attachment is about to be created in Cinder. After a crash, Cinder may hold an orphan whose id was not
    /// recorded: in state reserved, without instance and connection, and not among [`Attachment::foreign_ids`].
    Intended,
    /// Cinder has the attachment; no export through it is known.
    Reserved,
    /// Cinder has exported the volume, and the attachment is marked complete ("in-use").
    Attached,
    /// The attachment is to be deleted. The reconciler retries until Cinder confirms.
    Detaching,
}

/// Who created an attachment in Cinder, which decides about its use and its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ownership {
    /// volboot, which also deletes it.
    #[default]
    Own,
    /// The Compute service, for this server: the node's instance. volboot exports the volume through it, and never
    /// deletes it.
    Borrowed(Uuid),
    /// An Ironic that the node comes from: its server is the node's UUID. volboot uses and deletes it like its own.
    Adopted,
}

impl Ownership {
    /// The server of such an attachment to this node; `None` if volboot created it.
    pub fn server(self, node: Uuid) -> Option<Uuid> {
        match self {
            Self::Own => None,
            Self::Borrowed(server) => Some(server),
            Self::Adopted => Some(node),
        }
    }

    fn is_own(&self) -> bool {
        *self == Self::Own
    }
}

/// The server of a node's attachment that another client created, as reasons and pages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceServer(pub Uuid);

impl fmt::Display for InstanceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {} (this node's instance)", self.0)
    }
}

/// The initiator's properties for an export (os-brick's *connector properties*).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorProperties {
    /// The initiator name.
    pub initiator: String,
    /// The machine's name among the backend's hosts.
    pub host: String,
    /// The machine's address in the storage network, from the node's `ip` connector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Whether the machine can use several paths.
    pub multipath: bool,
    /// The device name that another client gave the attachment. Cinder forgets a name that an export leaves out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mountpoint: Option<String>,
}

/// One try of one boot session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootAttempt {
    /// The journey: the boot session's id.
    pub journey: String,
    /// The number of the try.
    pub attempt: u32,
}

/// The attachment of one volume to one node.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// The record's identity: a node may get a volume, lose it and get it again.
    pub id: Uuid,
    /// The node, which may be deleted by now.
    pub node: Uuid,
    /// The volume's id in Cinder.
    pub volume: String,
    /// The volume target that asked for the attachment, which may be deleted by now.
    pub target: Uuid,
    /// When the last attempt to create the attachment in Cinder began.
    pub begun_at: Timestamp,
    /// The attachment's progress.
    pub state: AttachmentState,
    /// The attachment's id in Cinder, once known.
    #[serde(default)]
    pub cinder_id: Option<String>,
    /// The volume's attachments before this one was created: foreign ones, never touched.
    #[serde(default, rename = "others")]
    pub foreign_ids: Vec<String>,
    /// An export was requested and its response was not received. The export may have happened, or may happen yet;
    /// then the attachment still has to be completed.
    #[serde(default, alias = "unanswered")]
    pub pending_export: bool,
    /// The connector properties of the last export request.
    #[serde(default)]
    pub connector: Option<ConnectorProperties>,
    /// The last known connection to the volume, from Cinder. Holds a secret.
    #[serde(default)]
    pub connection: Option<Properties>,
    /// The initiator name that the backend admitted with this connection.
    #[serde(default)]
    pub initiator: Option<String>,
    /// When Cinder returned the connection.
    #[serde(default, alias = "learnt_at")]
    pub resolved_at: Option<Timestamp>,
    /// The volume's type, which stands for the volume's backend.
    #[serde(default)]
    pub volume_type: Option<String>,
    /// Who created the attachment in Cinder.
    #[serde(default, skip_serializing_if = "Ownership::is_own")]
    pub ownership: Ownership,
    /// Why Cinder does not delete the attachment, if the cause may last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
    /// An export followed one without a response. The earlier request may still arrive, which takes the attachment in
    /// Cinder back to "attaching".
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded_export: bool,
    /// A create followed one without a response. The earlier request may still arrive once the volume is detached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded_create: bool,
    /// The boot for which Cinder returned the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_for: Option<BootAttempt>,
    /// The card whose machine last hooked the volume through this attachment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooked_by: Option<Mac>,
}

impl Attachment {
    /// An attachment about to be created; `foreign_ids` are the volume's present attachments.
    pub fn new(node: Uuid, volume: &str, target: Uuid, foreign_ids: Vec<String>, now: Timestamp) -> Self {
        Self {
            id: Uuid::new_v4(),
            node,
            volume: volume.to_owned(),
            target,
            begun_at: now,
            state: AttachmentState::Intended,
            cinder_id: None,
            foreign_ids,
            pending_export: false,
            connector: None,
            connection: None,
            initiator: None,
            resolved_at: None,
            volume_type: None,
            ownership: Ownership::Own,
            obstacle: None,
            superseded_export: false,
            superseded_create: false,
            resolved_for: None,
            hooked_by: None,
        }
    }

    /// An attachment that another client created in Cinder. `connector` is for exports through it.
    pub fn of_another(
        node: Uuid,
        volume: &str,
        target: Uuid,
        (cinder_id, ownership): (String, Ownership),
        connector: ConnectorProperties,
        now: Timestamp,
    ) -> Self {
        Self {
            state: AttachmentState::Reserved,
            cinder_id: Some(cinder_id),
            connector: Some(connector),
            ownership,
            ..Self::new(node, volume, target, Vec::new(), now)
        }
    }

    /// The server of the attachment in Cinder; `None` for an attachment of volboot.
    pub fn server(&self) -> Option<Uuid> {
        self.ownership.server(self.node)
    }

    /// Whether the Compute service owns the attachment, so that volboot must not delete it.
    pub fn is_borrowed(&self) -> bool {
        matches!(self.ownership, Ownership::Borrowed(_))
    }
}

impl fmt::Debug for Attachment {
    /// Leaves out the connection, which holds a secret, and fields that no log needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("node", &self.node)
            .field("volume", &self.volume)
            .field("state", &self.state)
            .field("cinder_id", &self.cinder_id)
            .field("ownership", &self.ownership)
            .field("pending_export", &self.pending_export)
            .finish_non_exhaustive()
    }
}
