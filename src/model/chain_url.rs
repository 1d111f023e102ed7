//! [`ChainUrl`]: a URL from which iPXE boots.

use std::fmt;
use std::str::FromStr;

/// The longest URL: it stands in a script, on a console line and in a record.
const MAX_LENGTH: usize = 1024;
/// The schemes that iPXE's common builds know.
const SCHEMES: [&str; 3] = ["http", "https", "tftp"];
/// Printable characters that RFC 3986 does not allow in a URL, and `$`, which begins an expansion in an iPXE script.
const REFUSED: &str = "\"<>\\^`{|}$";

/// The URL of a script or a program, without white space and without a character that iPXE expands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainUrl(String);

/// The text is not a URL that iPXE can fetch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainUrlError {
    /// No absolute URL of a supported scheme.
    #[error(
        "expected an http, https or tftp URL of at most {MAX_LENGTH} characters, such as http://192.0.2.1/rescue.ipxe"
    )]
    Form,
    /// A character that a URL cannot have, or that iPXE would expand.
    #[error("\"{}\" cannot stand in the URL; percent-encode it", .0.escape_default())]
    Character(char),
    /// The URL would show on the console, in logs and on the page.
    #[error("the URL has a user or a password, which the machine's console would show")]
    Credentials,
}

impl FromStr for ChainUrl {
    type Err = ChainUrlError;

    fn from_str(text: &str) -> Result<Self, ChainUrlError> {
        if let Some(refused) = text.chars().find(|c| !c.is_ascii_graphic() || REFUSED.contains(*c)) {
            return Err(ChainUrlError::Character(refused));
        }
        let (scheme, rest) = text.split_once("://").ok_or(ChainUrlError::Form)?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(ChainUrlError::Credentials);
        }
        let is_known = SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known));
        let has_host = !authority.is_empty() && !authority.starts_with(':');
        if !is_known || !has_host || text.len() > MAX_LENGTH {
            return Err(ChainUrlError::Form);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ChainUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_that_ipxe_takes_as_they_are_pass() {
        let parse = |text: &str| text.parse::<ChainUrl>().map(|url| url.to_string());
        for url in [
            "http://192.0.2.1/rescue.ipxe",
            "https://a.example/x?b=1&c=%26;d",
            "tftp://[fd00::1]/grubx64.efi",
        ] {
            assert_eq!(parse(url), Ok(url.to_owned()));
        }
        for (text, error) in [
            ("", ChainUrlError::Form),
            ("rescue.ipxe", ChainUrlError::Form),
            ("file:///etc/passwd", ChainUrlError::Form),
            ("http://:80/x", ChainUrlError::Form),
            ("nfs://192.0.2.1/x", ChainUrlError::Form),
            ("http://192.0.2.1/a b", ChainUrlError::Character(' ')),
            ("http://192.0.2.1/a||shell", ChainUrlError::Character('|')),
            ("http://192.0.2.1/${net0/mac}", ChainUrlError::Character('$')),
            ("http://192.0.2.1/a\nshell", ChainUrlError::Character('\n')),
            ("http://ann:secret@192.0.2.1/a", ChainUrlError::Credentials),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        let long = format!("http://192.0.2.1/{}", "x".repeat(MAX_LENGTH));
        assert_eq!(parse(&long), Err(ChainUrlError::Form));
    }
}
