//! [`MachineId`]: how the timeline names a machine.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::Mac;

/// Id of a machine in the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum MachineId {
    /// MAC address of the network card the machine boots with.
    Mac(Mac),
    /// IP address of an unidentified machine.
    Address(IpAddr),
}

/// The text is neither a MAC address nor an IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a MAC address or an IP address")]
pub struct MachineIdError;

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl FromStr for MachineId {
    type Err = MachineIdError;

    fn from_str(text: &str) -> Result<Self, MachineIdError> {
        let mac = text.parse().map(Self::Mac);
        mac.or_else(|_| text.parse::<IpAddr>().map(|address| Self::Address(address.to_canonical())))
            .map_err(|_| MachineIdError)
    }
}

impl From<MachineId> for String {
    fn from(id: MachineId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for MachineId {
    type Error = MachineIdError;

    fn try_from(text: String) -> Result<Self, MachineIdError> {
        text.parse()
    }
}
