//! Text of login requests and responses: `key=value` pairs, each with a final NUL (RFC 7143 §6.1).

use super::Error;

/// Writes pairs.
pub(super) fn encode(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in pairs {
        text.extend_from_slice(key.as_bytes());
        text.push(b'=');
        text.extend_from_slice(value.as_bytes());
        text.push(0);
    }
    text
}

/// The pairs of a response.
#[derive(Debug, Default)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// The most pairs of a text: a login has about twenty keys.
    const MAX: usize = 128;

    /// Reads pairs. Some targets send more than one NUL between two.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Error> {
        let mut pairs = Vec::new();
        for pair in text.split(|byte| *byte == 0).filter(|pair| !pair.is_empty()) {
            let pair = std::str::from_utf8(pair).map_err(|_| Error::Protocol("a login text is not UTF-8"))?;
            let (key, value) =
                pair.split_once('=').ok_or(Error::Protocol("a login text has a key without a value"))?;
            if pairs.len() == Self::MAX {
                return Err(Error::Protocol("a login text has too many keys"));
            }
            pairs.push((key.to_owned(), value.to_owned()));
        }
        Ok(Self(pairs))
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }
}
