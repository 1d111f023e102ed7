//! [`CheckReport`]: the result of a check, as the API shows it.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::request::VolumeRole;
use crate::inspect::LoaderArchitecture;

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// The end of the check.
    pub checked_at: Timestamp,
    /// Whether the boot volume boots on some firmware; `None` if that is unsure.
    pub boots: Option<bool>,
    /// One line per firmware for the boot volume, or the reason why there is none.
    pub verdict: Vec<String>,
    /// The volumes, the boot volume first.
    pub volumes: Vec<VolumeReport>,
}

/// A volume after its check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VolumeReport {
    /// The volume's id.
    pub volume_id: String,
    /// The volume's place in the node's records.
    pub role: VolumeRole,
    /// Whether the machine boots from the volume: from the boot volume, or from the fallback while that is in force.
    pub is_boot: bool,
    /// The paths to the volume.
    pub portals: Vec<CheckedPortal>,
    /// Bytes of the volume; `None` if no portal gave access.
    pub size: Option<u64>,
    /// Bytes of a block.
    pub block_size: Option<u32>,
    /// Whether the target refuses writes.
    pub write_protected: Option<bool>,
    /// On which firmware the volume boots.
    pub boots: Boots,
    /// The path to set as `uefi_loader`, where one is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uefi_loader: Option<String>,
    /// One line per firmware.
    pub verdict: Vec<String>,
    /// Faults and remarks, each with its remedy.
    pub findings: Vec<String>,
}

/// A path to a volume.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckedPortal {
    /// The portal.
    pub portal: String,
    /// The target name.
    pub target: String,
    /// The LUN.
    pub lun: u64,
    /// Whether this host could connect.
    pub reachable: bool,
    /// The result of the login.
    pub login: PortalLogin,
}

/// The result of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortalLogin {
    /// The target admitted the initiator.
    Admitted,
    /// The reason why not.
    Failed(String),
}

impl Serialize for PortalLogin {
    /// The word `ok`, or the reason.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Admitted => "ok",
            Self::Failed(reason) => reason,
        })
    }
}

/// On which firmware a volume boots. `None`: unsure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Boots {
    /// BIOS.
    pub bios: Option<bool>,
    /// UEFI on x86_64.
    pub uefi_x86_64: Option<bool>,
    /// UEFI on arm64.
    pub uefi_arm64: Option<bool>,
}

impl Boots {
    /// The firmware of an architecture.
    pub(super) fn uefi_mut(&mut self, architecture: LoaderArchitecture) -> &mut Option<bool> {
        match architecture {
            LoaderArchitecture::X86_64 => &mut self.uefi_x86_64,
            LoaderArchitecture::Arm64 => &mut self.uefi_arm64,
        }
    }

    /// Whether the volume boots on some firmware.
    pub fn on_any(self) -> Option<bool> {
        let all = [self.bios, self.uefi_x86_64, self.uefi_arm64];
        if all.contains(&Some(true)) {
            return Some(true);
        }
        if all.contains(&None) { None } else { Some(false) }
    }
}

impl CheckReport {
    /// The verdict and the age of the check, in one line.
    pub fn summarize(&self, now: Timestamp) -> String {
        let minutes = now.duration_since(self.checked_at).as_mins().max(0);
        format!("volume check {minutes} min ago: {}", self.verdict.join("; "))
    }

    /// The report on these volumes.
    pub(super) fn new(checked_at: Timestamp, volumes: Vec<VolumeReport>) -> Self {
        let boot = volumes.iter().find(|volume| volume.is_boot);
        let boots = boot.map_or(Some(false), |volume| volume.boots.on_any());
        let verdict = match boot {
            Some(volume) => volume.verdict.clone(),
            None => vec!["the node has no boot volume".to_owned()],
        };
        Self { checked_at, boots, verdict, volumes }
    }
}
