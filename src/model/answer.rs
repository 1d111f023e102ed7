//! [`Answer`]: what a machine that asks may do now.

use uuid::Uuid;

use super::{Chap, Iqn, LoaderPath, SanUri};

/// What volboot says to a machine at one moment; `script` turns it into text.
///
/// Every answer but [`Answer::Boot`] carries a reason that a person in front of the machine can act on.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Boot from these volumes.
    Boot(Box<BootPlan>),
    /// Not yet: ask again.
    Wait {
        /// What it waits for.
        reason: String,
        /// How long the machine sleeps before it asks again.
        seconds: u32,
    },
    /// Nothing to boot from the network: go on to the next boot device.
    LocalDisk {
        /// Why its own disk is meant.
        reason: String,
    },
    /// Nobody has registered this machine.
    Unknown {
        /// By which addresses it was looked for.
        reason: String,
    },
    /// The machine is known but must not or cannot boot.
    Refuse {
        /// What is in the way.
        reason: String,
    },
}

impl Answer {
    /// The word for logs and metrics: a closed set.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Boot(_) => "boot",
            Self::Wait { .. } => "wait",
            Self::LocalDisk { .. } => "local disk",
            Self::Unknown { .. } => "unknown",
            Self::Refuse { .. } => "refuse",
        }
    }

    /// The reason, where there is one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Boot(_) => None,
            Self::Wait { reason, .. }
            | Self::LocalDisk { reason }
            | Self::Unknown { reason }
            | Self::Refuse { reason } => Some(reason),
        }
    }
}

/// All that a machine needs to boot from its volumes.
#[derive(Debug, Clone, PartialEq)]
pub struct BootPlan {
    /// Whose plan it is.
    pub node: Uuid,
    /// What people call the node.
    pub label: String,
    /// The name it logs in with, at every target.
    pub initiator: Iqn,
    /// The volume it boots from.
    pub boot: Volume,
    /// Its other volumes, in the order of their boot indexes.
    pub data: Vec<Volume>,
    /// The boot loader's file, where UEFI firmware would not find it by itself.
    pub loader: Option<LoaderPath>,
    /// What whoever looks at the machine should know of this boot.
    pub notes: Vec<String>,
}

/// One volume of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// The volume's id, for people.
    pub id: String,
    /// The ways to it, at least one.
    pub paths: Vec<SanUri>,
    /// The credentials its target asks for.
    pub chap: Option<Chap>,
}

/// The firmware that iPXE runs on, as its `${platform}` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Platform {
    /// `pcbios`
    Bios,
    /// `efi`
    Uefi,
}

impl Platform {
    /// iPXE's name for it.
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
