//! [`Attachment`]: what volboot holds of a volume in Cinder, and what it still owes.
//!
//! A record by itself, of one node and one volume: it outlives the target and the node it was made for, until
//! Cinder was told that the volume is let go.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Properties;

/// How far an attachment has come. What a crash leaves at each state is said there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentState {
    /// It is about to be created in Cinder. After a crash Cinder may have one whose id nobody wrote down: it is
    /// reserved, has no instance and no connection, and is none of [`Attachment::others`].
    Intended,
    /// Cinder has it; nothing was ever exported through it, as far as is known.
    Reserved,
    /// Cinder has exported the volume and was told that it is in use.
    Attached,
    /// It is no longer wanted. Cinder has to be told until it agrees.
    Detaching,
}

/// What a backend is told of the machine that is to be let in (os-brick's *connector properties*).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connector {
    /// The name it logs in with.
    pub initiator: String,
    /// Names the machine among the backend's hosts.
    pub host: String,
    /// Its address in the storage network, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Whether it can use several paths.
    pub multipath: bool,
}

/// The attachment of one volume to one node.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Its own identity: a node may get a volume, lose it and get it again.
    pub id: Uuid,
    /// The node, which may be gone by now.
    pub node: Uuid,
    /// The volume's id in Cinder.
    pub volume: String,
    /// The volume target it was made for, which may be gone by now.
    pub target: Uuid,
    /// When somebody last set out to create it in Cinder.
    pub begun_at: Timestamp,
    /// How far it has come.
    pub state: AttachmentState,
    /// Its id in Cinder, once that is known.
    #[serde(default)]
    pub cinder_id: Option<String>,
    /// The ids of the attachments that the volume had before this one was created: others', never touched.
    #[serde(default)]
    pub others: Vec<String>,
    /// An export was asked for and its end is not known: it may have happened, or may happen yet, and then somebody
    /// has to say that it is complete.
    #[serde(default)]
    pub unanswered: bool,
    /// What the last export asked for, answered or not.
    #[serde(default)]
    pub connector: Option<Connector>,
    /// How the volume is reached, as Cinder said it last. Holds a secret.
    #[serde(default)]
    pub connection: Option<Properties>,
    /// The initiator name that was let in then.
    #[serde(default)]
    pub initiator: Option<String>,
    /// When it said so.
    #[serde(default)]
    pub learnt_at: Option<Timestamp>,
    /// The volume's type, which stands for the backend it is on.
    #[serde(default)]
    pub volume_type: Option<String>,
}

impl Attachment {
    /// One that is about to be created, of a volume that has these attachments already.
    pub fn intended(node: Uuid, volume: &str, target: Uuid, others: Vec<String>, now: Timestamp) -> Self {
        Self {
            id: Uuid::new_v4(),
            node,
            volume: volume.to_owned(),
            target,
            begun_at: now,
            state: AttachmentState::Intended,
            cinder_id: None,
            others,
            unanswered: false,
            connector: None,
            connection: None,
            initiator: None,
            learnt_at: None,
            volume_type: None,
        }
    }
}

impl fmt::Debug for Attachment {
    /// Leaves the connection out: it holds a secret, and a log wants to know other things.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("node", &self.node)
            .field("volume", &self.volume)
            .field("state", &self.state)
            .field("cinder_id", &self.cinder_id)
            .field("unanswered", &self.unanswered)
            .finish_non_exhaustive()
    }
}
