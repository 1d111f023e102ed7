//! [`Lun`]: the number of a volume at its target, and [`AddressingMode`], its form in a SCSI command.

use std::fmt;
use std::str::FromStr;

/// The first LUN that SAM-2's peripheral device addressing method cannot express.
const FIRST_BEYOND_PERIPHERAL: u64 = 256;

/// SAM-2's flat space addressing method: address method 01b above a LUN of 14 bits.
const FLAT: u64 = 0x4000;

/// A logical unit number, an integer as in Cinder and Linux.
///
/// Prints in iPXE's format: hexadecimal 16-bit groups, the low group first, joined by `-` (RFC 4173 §5). Ironic once
/// printed a decimal number, and every LUN above 9 failed (LP 2055355).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lun(u64);

/// The text is not a LUN, or the LUN has no form in an addressing mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LunError {
    /// The text is not a number.
    #[error("expected a LUN: a whole number of zero or more")]
    Form,
    /// Flat space addressing has 14 bits.
    #[error("flat addressing (addressing_mode) ends at LUN 16383")]
    BeyondFlat,
}

/// The form in which a target expects the LUN: `addressing_mode` of Cinder's `connection_info`.
///
/// The same LUN has several forms, so drivers name the one of their array (os-brick's `lun_for_addressing`). A target
/// that expects LUN 256 as 4100h has no disk at 0100h (LP 2006960: Pure).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressingMode {
    /// `SAM` and `transparent`: the number as it is.
    #[default]
    Sam,
    /// `SAM2`: flat addressing from LUN 256 on.
    Sam2,
    /// `SAM3-flat`: flat addressing of all LUNs.
    Sam3Flat,
}

/// The text is not an addressing mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected SAM, SAM2, SAM3-flat or transparent")]
pub struct AddressingModeError;

impl FromStr for AddressingMode {
    type Err = AddressingModeError;

    fn from_str(text: &str) -> Result<Self, AddressingModeError> {
        match text.to_ascii_lowercase().as_str() {
            // os-brick takes an empty text as the default.
            "" | "sam" | "transparent" => Ok(Self::Sam),
            "sam2" => Ok(Self::Sam2),
            "sam3-flat" => Ok(Self::Sam3Flat),
            _ => Err(AddressingModeError),
        }
    }
}

impl Lun {
    /// The LUN with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The LUN's number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The LUN as the target expects it on the wire.
    pub const fn encode(self, mode: AddressingMode) -> Result<Self, LunError> {
        match mode {
            AddressingMode::Sam => Ok(self),
            AddressingMode::Sam2 if self.0 < FIRST_BEYOND_PERIPHERAL => Ok(self),
            AddressingMode::Sam2 | AddressingMode::Sam3Flat if self.0 >= FLAT => Err(LunError::BeyondFlat),
            AddressingMode::Sam2 | AddressingMode::Sam3Flat => Ok(Self(self.0 + FLAT)),
        }
    }

    /// Parses iPXE's format.
    pub(super) fn from_groups(text: &str) -> Option<Self> {
        let mut number = 0;
        for (at, group) in text.split('-').enumerate() {
            let fits =
                at < 4 && (1..=4).contains(&group.len()) && group.bytes().all(|b| b.is_ascii_hexdigit());
            let group = u64::from_str_radix(group, 16).ok().filter(|_| fits)?;
            number |= group << (16 * at);
        }
        Some(Self(number))
    }
}

impl FromStr for Lun {
    type Err = LunError;

    fn from_str(text: &str) -> Result<Self, LunError> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(LunError::Form);
        }
        text.parse().map(Self).map_err(|_| LunError::Form)
    }
}

impl fmt::Display for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0 & 0xffff)?;
        let mut rest = self.0 >> 16;
        while rest != 0 {
            write!(f, "-{:x}", rest & 0xffff)?;
            rest >>= 16;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_hexadecimal_groups_low_first() {
        for (number, text) in [(0, "0"), (10, "a"), (255, "ff"), (256, "100"), (0x1_4000, "4000-1")] {
            assert_eq!(Lun::new(number).to_string(), text);
        }
        assert_eq!(Lun::new(u64::MAX).to_string(), "ffff-ffff-ffff-ffff");
    }

    /// Values of os-brick's tests, and the limits.
    #[test]
    fn each_addressing_mode_has_its_form_of_a_lun() {
        use AddressingMode::{Sam, Sam2, Sam3Flat};
        for (mode, number, expected) in [
            (Sam, 1, Ok(1)),
            (Sam, 256, Ok(256)),
            (Sam, u64::MAX, Ok(u64::MAX)),
            (Sam2, 0, Ok(0)),
            (Sam2, 255, Ok(255)),
            (Sam2, 256, Ok(16640)),
            (Sam2, 0x3fff, Ok(0x7fff)),
            (Sam2, 0x4000, Err(LunError::BeyondFlat)),
            (Sam3Flat, 0, Ok(16384)),
            (Sam3Flat, 255, Ok(16639)),
            (Sam3Flat, 256, Ok(16640)),
            (Sam3Flat, 0x3fff, Ok(0x7fff)),
            (Sam3Flat, u64::MAX, Err(LunError::BeyondFlat)),
        ] {
            assert_eq!(Lun::new(number).encode(mode).map(Lun::number), expected, "{mode:?} {number}");
        }
    }

    #[test]
    fn addressing_modes_have_the_names_of_os_brick() {
        use AddressingMode::{Sam, Sam2, Sam3Flat};
        for (text, mode) in [
            ("SAM", Sam),
            ("transparent", Sam),
            ("", Sam),
            ("SAM2", Sam2),
            ("SAM3-flat", Sam3Flat),
            ("sam2", Sam2),
        ] {
            assert_eq!(text.parse(), Ok(mode), "{text}");
        }
        for text in ["SAM3", "SAM-2", "flat", "peripheral", "0"] {
            assert_eq!(text.parse::<AddressingMode>(), Err(AddressingModeError), "{text}");
        }
    }
}
