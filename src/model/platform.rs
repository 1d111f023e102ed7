//! [`Platform`]: the firmware below iPXE.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// The firmware below iPXE, as iPXE's `${platform}` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Platform {
    /// `pcbios`
    #[serde(rename = "pcbios")]
    Bios,
    /// `efi`
    #[serde(rename = "efi")]
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

    /// The firmware's name for operators.
    pub const fn firmware(self) -> &'static str {
        match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI",
        }
    }

    /// Deserializes a recorded platform. A platform of another version of volboot reads as `None`, so that the rest
    /// of its record stays readable.
    pub fn deserialize_known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let name = Option::<String>::deserialize(deserializer)?;
        Ok(name.and_then(|name| name.parse().ok()))
    }
}

impl FromStr for Platform {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "pcbios" => Ok(Self::Bios),
            "efi" => Ok(Self::Uefi),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn known_platforms_round_trip_and_others_are_dropped() {
        for platform in [Platform::Bios, Platform::Uefi] {
            let value = serde_json::to_value(platform).expect("serializes");
            assert_eq!(value, platform.as_str());
            assert_eq!(Platform::deserialize_known(value).expect("deserializes"), Some(platform));
        }
        for other in [json!("riscv"), json!(null)] {
            assert_eq!(Platform::deserialize_known(other).expect("deserializes"), None);
        }
    }
}
