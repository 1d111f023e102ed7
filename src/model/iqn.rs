//! iSCSI names: [`Iqn`], the name of an initiator, and [`TargetName`], the name of a target.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest iSCSI name, in bytes (RFC 7143 §4.2.7.2).
const MAX_LENGTH: usize = 223;

/// The iSCSI name of an initiator, in one of the three forms of RFC 7143 §4.2.7: `iqn.`, `eui.` or `naa.`.
///
/// At most 223 bytes (§4.2.7.2) of ASCII letters, digits, `-`, `.`, `:` and `_`. The standard does not list `_`, but
/// arrays in the field use it. International names (RFC 3722) are refused: iPXE would send their UTF-8 bytes without
/// the preparation that a target expects. So a name contains no characters that are special in an iPXE script.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Iqn(String);

/// The iSCSI name of a target: any text with the length and the characters of an [`Iqn`].
///
/// Some arrays give targets plain names (Inspur AS13000: `target.inspur.web-1-04711`), and initiators send them as they
/// are. The form is checked for initiators only: volboot's own names should follow the standard.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TargetName(String);

/// A text is not a valid iSCSI name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IqnError {
    /// The text is empty.
    #[error("an iSCSI name may not be empty")]
    Empty,
    /// The text is longer than RFC 7143 allows.
    #[error("an iSCSI name has at most 223 bytes")]
    TooLong,
    /// The text has none of the three forms.
    #[error("an iSCSI name looks like iqn.2017-08.org.example:disk-1 (or eui.… or naa.…)")]
    Form,
    /// The text contains a character that targets or iPXE scripts do not accept.
    #[error("an iSCSI name may not contain {0:?}")]
    Character(char),
}

impl Iqn {
    /// The name as sent on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Iqn {
    type Err = IqnError;

    fn from_str(text: &str) -> Result<Self, IqnError> {
        check_text(text)?;
        let lower = text.to_ascii_lowercase();
        let well_formed = match lower.split_once('.') {
            Some(("iqn", rest)) => is_dated_authority(rest),
            Some(("eui", rest)) => rest.len() == 16 && is_hex(rest),
            Some(("naa", rest)) => (rest.len() == 16 || rest.len() == 32) && is_hex(rest),
            _ => false,
        };
        if well_formed { Ok(Self(text.to_owned())) } else { Err(IqnError::Form) }
    }
}

impl TargetName {
    /// The name as sent on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TargetName {
    type Err = IqnError;

    fn from_str(text: &str) -> Result<Self, IqnError> {
        if text.is_empty() {
            return Err(IqnError::Empty);
        }
        check_text(text)?;
        Ok(Self(text.to_owned()))
    }
}

/// Checks the length and the characters of a name.
fn check_text(text: &str) -> Result<(), IqnError> {
    if text.len() > MAX_LENGTH {
        return Err(IqnError::TooLong);
    }
    let is_safe = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '_');
    match text.chars().find(|c| !is_safe(c)) {
        Some(bad) => Err(IqnError::Character(bad)),
        None => Ok(()),
    }
}

/// `yyyy-mm.` and the reversed domain of the naming authority (RFC 7143 §4.2.7.4).
fn is_dated_authority(rest: &str) -> bool {
    let Some((date, authority)) = rest.split_once('.') else { return false };
    let Some((year, month)) = date.split_once('-') else { return false };
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    let domain = authority.split(':').next().unwrap_or_default();
    digits(year, 4) && digits(month, 2) && matches!(month.parse(), Ok(1..=12)) && !domain.is_empty()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl fmt::Display for Iqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Iqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Iqn {
    type Error = IqnError;

    fn try_from(text: String) -> Result<Self, IqnError> {
        text.parse()
    }
}

impl From<Iqn> for String {
    fn from(iqn: Iqn) -> Self {
        iqn.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_from_the_field() {
        for text in [
            "iqn.2010-10.org.openstack:volume-2f1dcbe7-6e5a-4b2c-8e0c-000000000001",
            "iqn.1992-08.com.netapp:sn.66f15e9b:vs.3",
            "iqn.2017-08.org.openstack.2f1dcbe7-6e5a-4b2c-8e0c-000000000001",
            "iqn.2001-05.com.equallogic:0-8a0906-Volume_7",
            "eui.02004567A425678D",
            "naa.52004567BA64678D",
        ] {
            assert_eq!(text.parse::<Iqn>().map(String::from), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refuses_invalid_names_with_the_reason() {
        assert_eq!("".parse::<Iqn>(), Err(IqnError::Form));
        assert_eq!("iqn.2017-13.org.example".parse::<Iqn>(), Err(IqnError::Form));
        assert_eq!("iqn.17-08.org.example".parse::<Iqn>(), Err(IqnError::Form));
        assert_eq!("iqn.2017-08.".parse::<Iqn>(), Err(IqnError::Form));
        assert_eq!("iqn.2017-08.:x".parse::<Iqn>(), Err(IqnError::Form));
        assert_eq!("eui.0200".parse::<Iqn>(), Err(IqnError::Form));
        assert_eq!("disk-1".parse::<Iqn>(), Err(IqnError::Form));
        assert_eq!("iqn.2017-08.org.example:a b".parse::<Iqn>(), Err(IqnError::Character(' ')));
        assert_eq!("iqn.2017-08.org.example:a\nb".parse::<Iqn>(), Err(IqnError::Character('\n')));
        assert_eq!("iqn.2017-08.org.example:${x}".parse::<Iqn>(), Err(IqnError::Character('$')));
        assert_eq!("iqn.2017-08.org.éxample".parse::<Iqn>(), Err(IqnError::Character('é')));
        assert_eq!(
            format!("iqn.2017-08.org.example:{}", "x".repeat(220)).parse::<Iqn>(),
            Err(IqnError::TooLong)
        );
    }

    #[test]
    fn a_target_name_needs_no_form() {
        for text in [
            "iqn.2010-10.org.openstack:volume-1",
            "target.inspur.web-1-00004711",
            "disk_1",
            "-",
            "iqn.2017-13.org.example",
            &"x".repeat(223),
        ] {
            assert_eq!(text.parse::<TargetName>().map(|name| name.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("".parse::<TargetName>(), Err(IqnError::Empty));
        assert_eq!("x".repeat(224).parse::<TargetName>(), Err(IqnError::TooLong));
        for bad in [' ', '\n', '$', '{', '#', ';', '|', '&', '\\', '%', '/', ',', '@', 'é', '\0'] {
            assert_eq!(format!("disk{bad}1").parse::<TargetName>(), Err(IqnError::Character(bad)));
        }
    }
}
