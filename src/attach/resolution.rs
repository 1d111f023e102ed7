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
}

/// The result of a check of a node's volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeCheck {
    /// The faults that prevent attachments; empty if there are none.
    Faults(Vec<String>),
    /// Cinder is unavailable, as a sentence.
    Unavailable(String),
}

impl VolumeCheck {
    /// The faults, for operators. An outage counts as a fault.
    pub fn into_faults(self) -> Vec<String> {
        match self {
            Self::Faults(faults) => faults,
            Self::Unavailable(outage) => vec![outage],
        }
    }
}
