//! [`BootAnswer`]: the answer to a boot request, and [`BootOutcome`], its kind in events.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ChainUrl, Chap, Iqn, LoaderPath, SanUri};

/// The decision on one boot request; `script` renders it as iPXE script.
///
/// Every answer but [`BootAnswer::Boot`] carries a reason for the person in front of the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum BootAnswer {
    /// Boot from these volumes.
    Boot(Box<BootPlan>),
    /// Retry later: the volumes are not ready yet.
    Wait {
        /// Why the machine has to wait.
        reason: String,
        /// Seconds until the machine sends the next boot request.
        seconds: u32,
    },
    /// Nothing to boot from the network: continue with the next boot device.
    LocalDisk {
        /// Why the machine boots from its own disk.
        reason: String,
    },
    /// Boot what iPXE fetches from a URL: a script or a program.
    Url {
        /// Why the machine boots from there.
        reason: String,
        /// The URL.
        url: ChainUrl,
    },
    /// Start the iPXE shell.
    Shell {
        /// Why the machine gets a shell.
        reason: String,
    },
    /// No node has a port with one of the machine's MAC addresses.
    Unknown {
        /// The reason, with the MAC addresses of the look-up.
        reason: String,
    },
    /// The node is known, but is not allowed or not able to boot.
    Refused {
        /// Why the node does not boot.
        reason: String,
    },
}

impl BootAnswer {
    /// The kind of the answer, for logs, events and metrics.
    pub const fn outcome(&self) -> BootOutcome {
        match self {
            Self::Boot(_) => BootOutcome::Boot,
            Self::Wait { .. } => BootOutcome::Wait,
            Self::LocalDisk { .. } => BootOutcome::LocalDisk,
            Self::Url { .. } => BootOutcome::Url,
            Self::Shell { .. } => BootOutcome::Shell,
            Self::Unknown { .. } => BootOutcome::Unknown,
            Self::Refused { .. } => BootOutcome::Refused,
        }
    }

    /// The reason, for every answer but `Boot`.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Boot(_) => None,
            Self::Wait { reason, .. }
            | Self::LocalDisk { reason }
            | Self::Url { reason, .. }
            | Self::Shell { reason }
            | Self::Unknown { reason }
            | Self::Refused { reason } => Some(reason),
        }
    }
}

/// The kind of a [`BootAnswer`], as events and metrics name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootOutcome {
    /// [`BootAnswer::Boot`]
    Boot,
    /// [`BootAnswer::Wait`]
    Wait,
    /// [`BootAnswer::LocalDisk`]
    LocalDisk,
    /// [`BootAnswer::Url`]
    Url,
    /// [`BootAnswer::Shell`]
    Shell,
    /// [`BootAnswer::Unknown`]
    Unknown,
    /// [`BootAnswer::Refused`]
    Refused,
    /// A word of another version of volboot, read from the history.
    #[serde(untagged)]
    Other(String),
}

impl BootOutcome {
    /// The word for logs and events.
    pub fn as_str(&self) -> &str {
        if let Self::Other(word) = self { word } else { self.as_label() }
    }

    /// Whether the machine boots something other than a volume, so it will not report a hooked one.
    pub const fn is_without_volume(&self) -> bool {
        matches!(self, Self::LocalDisk | Self::Url | Self::Shell)
    }

    /// The label for metrics: a closed set.
    pub const fn as_label(&self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Wait => "wait",
            Self::LocalDisk => "local_disk",
            Self::Url => "url",
            Self::Shell => "shell",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
            Self::Other(_) => "other",
        }
    }
}

/// All that a machine needs to boot from its volumes.
#[derive(Debug, Clone, PartialEq)]
pub struct BootPlan {
    /// The node's UUID.
    pub node: Uuid,
    /// The node's name, else its UUID.
    pub label: String,
    /// The initiator name for every target.
    pub initiator: Iqn,
    /// The boot volume.
    pub boot: BootVolume,
    /// The data volumes, in the order of their boot indexes.
    pub data: Vec<BootVolume>,
    /// The boot loader's file, where UEFI firmware would not find it by itself.
    pub loader: Option<LoaderPath>,
    /// Remarks on this boot, shown on the machine's console.
    pub notes: Vec<String>,
    /// The source of a one-time boot, if this is one.
    pub once: Option<String>,
    /// The portals that are tried last because they do not answer, as sentences.
    pub portal_notes: Vec<String>,
}

/// One volume of a [`BootPlan`].
#[derive(Debug, Clone, PartialEq)]
pub struct BootVolume {
    /// The volume's id, for messages.
    pub id: String,
    /// The paths to the volume, at least one.
    pub paths: Vec<SanUri>,
    /// The CHAP credentials, if the target requires them.
    pub chap: Option<Chap>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_outcomes_are_serialized_as_labelled_and_others_are_kept() {
        use BootOutcome::{Boot, LocalDisk, Refused, Shell, Unknown, Url, Wait};
        for outcome in [Boot, Wait, LocalDisk, Url, Shell, Unknown, Refused] {
            let value = serde_json::to_value(&outcome).expect("serializes");
            assert_eq!((value.as_str(), outcome.as_str()), (Some(outcome.as_label()), outcome.as_label()));
            assert_eq!(serde_json::from_value::<BootOutcome>(value).expect("deserializes"), outcome);
        }
        let other: BootOutcome = serde_json::from_str("\"frobnicated\"").expect("deserializes");
        assert_eq!((other.as_str(), other.as_label()), ("frobnicated", "other"));
        assert_eq!(serde_json::to_value(&other).expect("serializes"), "frobnicated");
    }
}
