//! [`Resolution`]: the response to a volume request, and [`VolumeCheck`]: the result of its check.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use crate::model::{Connection, ConnectionSource};

/// The state of a volume request.
#[derive(Debug)]
pub enum Resolution {
    /// All volumes, by id.
    Ready(HashMap<String, ResolvedVolume>),
    /// The machine has to retry.
    Wait {
        /// Why.
        reason: String,
        /// The delay before the retry, in seconds.
        seconds: u32,
    },
    /// The machine cannot boot, with the reason.
    Refused(String),
}

/// A volume with its connection.
#[derive(Debug, Clone)]
pub struct ResolvedVolume {
    /// How the volume is reached.
    pub connection: Connection,
    /// Where the connection is from.
    pub source: ConnectionSource,
    /// How long the resolution took.
    pub duration: Duration,
    /// The id of the attachment record, if Cinder was called for this boot.
    pub attachment: Option<Uuid>,
    /// The server of the attachment, if another client created it for the node's instance.
    pub server: Option<Uuid>,
}

/// The result of a check of a node's volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeCheck {
    /// Cinder answered.
    Checked {
        /// Prevent attachments; empty if nothing does.
        faults: Vec<String>,
        /// The operator should know them, but they prevent nothing.
        notes: Vec<String>,
    },
    /// Cinder is unavailable, as a sentence.
    Unavailable(String),
}

impl VolumeCheck {
    /// Faults and notes, for operators. An outage counts as a fault.
    pub fn into_findings(self) -> (Vec<String>, Vec<String>) {
        match self {
            Self::Checked { faults, notes } => (faults, notes),
            Self::Unavailable(outage) => (vec![outage], Vec::new()),
        }
    }
}
