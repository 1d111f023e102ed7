//! [`Mac`]: an Ethernet MAC address, in the spellings of firmware, iPXE and operators.
//!
//! An InfiniBand card has no MAC address. [`Mac::from_hardware_address`] derives the *Ethernet form* of its port GUID,
//! as iPXE and Ironic do.

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

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The text is not a MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a MAC address such as 52:54:00:12:34:56")]
pub struct MacError;

impl Mac {
    /// Six bytes, most significant first.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// Six bytes, most significant first.
    pub const fn to_bytes(self) -> [u8; 6] {
        self.0
    }

    /// The MAC address of a card, from the bytes of its hardware address; `None` if the length is that of no known kind.
    ///
    /// | bytes | kind |
    /// |---|---|
    /// | 6 | Ethernet |
    /// | 8 | InfiniBand: port GUID |
    /// | 9 | InfiniBand in a DHCP client identifier: hardware type, port GUID |
    /// | 20 | InfiniBand link-layer address (RFC 4391 §9.1.1): flags, queue pair, subnet prefix, port GUID |
    ///
    /// The Ethernet form of a GUID omits bytes 4 and 5. Sources: iPXE's `IPOIB_GUID_MASK` (`src/include/ipxe/ipoib.h`),
    /// ironic-python-agent's `hardware_managers/mlnx.py`.
    pub fn from_hardware_address(bytes: &[u8]) -> Option<Self> {
        if let Ok(mac) = <[u8; 6]>::try_from(bytes) {
            return Some(Self(mac));
        }
        let guid = matches!(bytes.len(), 8 | 9 | 20).then(|| bytes.last_chunk::<8>())??;
        let mut mac = [0; 6];
        mac[..3].copy_from_slice(&guid[..3]);
        mac[3..].copy_from_slice(&guid[5..]);
        Some(Self(mac))
    }

    /// Parses the hardware address of a card as iPXE writes it, in the kinds of [`Mac::from_hardware_address`].
    pub fn parse_hardware_address(text: &str) -> Result<Self, MacError> {
        text.parse().or_else(|error| {
            let bytes = parse_hex(text).ok_or(error)?;
            Self::from_hardware_address(&bytes).ok_or(MacError)
        })
    }

    /// The spelling used in URLs (`52-54-00-12-34-56`): unlike a colon, a hyphen can never make the first segment
    /// of a relative URI look like a scheme (RFC 3986 §4.2).
    pub fn to_hyphenated(self) -> String {
        self.spell(b'-').into_iter().map(char::from).collect()
    }

    /// The spelling with a separator, in ASCII.
    fn spell(self, separator: u8) -> [u8; 17] {
        let mut text = [separator; 17];
        for (place, byte) in text.chunks_mut(3).zip(self.0) {
            place[0] = DIGITS[usize::from(byte >> 4)];
            place[1] = DIGITS[usize::from(byte & 15)];
        }
        text
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

/// Parses bytes in hexadecimal: without separator (iPXE's `:hexraw`), or with one separator after each byte.
fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let separator = text.as_bytes().get(2).copied().filter(|byte| matches!(byte, b':' | b'-'));
    let step = if separator.is_some() { 3 } else { 2 };
    let parse_byte = |chunk: &[u8]| {
        let (digits, rest) = chunk.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte = digit(digits[0])? << 4 | digit(digits[1])?;
        rest.iter().all(|byte| Some(*byte) == separator).then_some(byte as u8)
    };
    (!text.ends_with([':', '-'])).then(|| text.as_bytes().chunks(step).map(parse_byte).collect())?
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.spell(b':')).map_err(|_| fmt::Error)?)
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

    /// The example of ironic-python-agent's `hardware_managers/mlnx.py`.
    const INFINIBAND: &str = "a0:00:00:27:fe:80:00:00:00:00:00:00:7c:fe:90:03:00:29:26:52";

    #[test]
    fn infiniband_card_has_the_ethernet_form_of_its_guid() {
        let mac = Ok(Mac::new([0x7c, 0xfe, 0x90, 0x29, 0x26, 0x52]));
        let (guid, client_id) = (&INFINIBAND[36..], format!("20:{}", &INFINIBAND[36..]));
        for text in [INFINIBAND, guid, client_id.as_str(), "7c:fe:90:29:26:52"] {
            for text in [text.to_owned(), text.replace(':', "-"), text.replace(':', ""), text.to_uppercase()]
            {
                assert_eq!(Mac::parse_hardware_address(&text), mac, "{text}");
            }
        }
        assert_eq!(guid.parse::<Mac>(), Err(MacError), "a port of a node has the Ethernet form");
    }

    #[test]
    fn refuses_hardware_addresses_of_other_kinds() {
        for text in [
            "",
            ":",
            "80:00:02:08",
            "7c:fe:90:03:00:29:26:52:",
            "7c:fe:90-03:00:29:26:52",
            "7c:fe:90:03:00:29:26:5",
            "7c:fe:90:03:00:29:26:5g",
            "7cfe:9003:0029:2652",
            "7c:fe:90:03:00:29:26:52:00:00",
            "7c:fe:90:03:00:29:26:é",
        ] {
            assert_eq!(Mac::parse_hardware_address(text), Err(MacError), "{text}");
        }
    }
}
