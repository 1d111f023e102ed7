//! [`BootAnswer`]: the answer to a boot request.

use uuid::Uuid;

use super::{Chap, Iqn, LoaderPath, SanUri};

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
    /// The word for logs, events and metric labels: a closed set, in snake_case.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Boot(_) => "boot",
            Self::Wait { .. } => "wait",
            Self::LocalDisk { .. } => "local_disk",
            Self::Unknown { .. } => "unknown",
            Self::Refused { .. } => "refused",
        }
    }

    /// The reason, for every answer but `Boot`.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Boot(_) => None,
            Self::Wait { reason, .. }
            | Self::LocalDisk { reason }
            | Self::Unknown { reason }
            | Self::Refused { reason } => Some(reason),
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

/// The firmware below iPXE, as iPXE's `${platform}` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Platform {
    /// `pcbios`
    Bios,
    /// `efi`
    Uefi,
}

impl Platform {
    /// iPXE's name for the platform.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "pcbios",
            Self::Uefi => "efi",
        }
    }
}

impl std::str::FromStr for Platform {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "pcbios" => Ok(Self::Bios),
            "efi" => Ok(Self::Uefi),
            _ => Err(()),
        }
    }
}
