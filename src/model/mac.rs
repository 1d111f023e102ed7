//! [`Mac`]: an Ethernet MAC address, in the spellings of firmware, iPXE and operators.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet MAC address (48 bits).
///
/// Parses `52:54:00:12:34:56`, `52-54-00-12-34-56` (iPXE's `:hexhyp`), `525400123456` (iPXE's `:hexraw`) and
/// `5254.0012.3456`, in upper or lower case. Prints lower case with colons, as Ironic stores addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

/// The text is not a MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a MAC address such as 52:54:00:12:34:56")]
pub struct MacError;

impl Mac {
    /// Six bytes, most significant first.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The spelling used in URLs (`52-54-00-12-34-56`): unlike a colon, a hyphen can never make the first segment
    /// of a relative URI look like a scheme (RFC 3986 §4.2).
    pub fn to_hyphenated(self) -> String {
        self.join("-")
    }

    fn join(self, separator: &str) -> String {
        self.0.map(|byte| format!("{byte:02x}")).join(separator)
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        // The separator and the group size must not vary: `5254.00:123456` is a typing error.
        let group = match text.len() {
            12 => 12,
            14 => 4,
            17 => 2,
            _ => return Err(MacError),
        };
        let bytes = text.as_bytes();
        let separator = if group == 12 { None } else { Some(bytes[group]) };
        match (group, separator) {
            (12, None) | (4, Some(b'.')) | (2, Some(b':' | b'-')) => {}
            _ => return Err(MacError),
        }
        let mut nibbles = [0u8; 12];
        let mut filled = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if separator.is_some() && at % (group + 1) == group {
                if Some(*byte) != separator {
                    return Err(MacError);
                }
                continue;
            }
            let digit = char::from(*byte).to_digit(16).ok_or(MacError)?;
            *nibbles.get_mut(filled).ok_or(MacError)? = digit as u8;
            filled += 1;
        }
        let mut mac = [0u8; 6];
        for (byte, pair) in mac.iter_mut().zip(nibbles.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(mac))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.join(":"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac::new([0x52, 0x54, 0x00, 0xab, 0xcd, 0xef]);

    #[test]
    fn parses_every_spelling_to_the_same_address() {
        for text in [
            "52:54:00:ab:cd:ef",
            "52:54:00:AB:CD:EF",
            "52-54-00-ab-cd-ef",
            "52-54-00-AB-cd-EF",
            "525400abcdef",
            "525400ABCDEF",
            "5254.00ab.cdef",
        ] {
            assert_eq!(text.parse(), Ok(MAC), "{text}");
        }
        assert_eq!(MAC.to_string(), "52:54:00:ab:cd:ef");
        assert_eq!(MAC.to_hyphenated(), "52-54-00-ab-cd-ef");
    }

    #[test]
    fn refuses_invalid_addresses() {
        for text in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:ef:01",
            "52:54-00:ab-cd:ef",
            "52:54:00:ab:cd:eg",
            "52:54:00:ab:cd: f",
            "5254.00ab:cdef",
            "52 54 00 ab cd ef",
            "5254:00ab:cdef",
            "52:54:00:ab:cd:é",
            "+52540abcdef",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(MacError), "{text}");
        }
    }
}
