//! [`ProvisionArguments`]: the body of a provision request, without the content of its config drive.
//!
//! Nova sends a config drive with `active` and `rebuild`: base64 text of several megabytes. volboot passes no config
//! drive to a machine, so the text is checked and discarded while it arrives. However many requests arrive at once,
//! each takes memory for its other arguments only. The node keeps the fact, which is all that Ironic's API shows.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::SharedState;
use super::fault::{Fault, python_type};
use super::request::{Arguments, MAX_BODY_BYTES};
use super::version::Microversion;

/// The maximum length of a config drive's text; the same as Ironic's `[api]max_json_body_size_provision`.
pub(super) const MAX_DRIVE_BYTES: usize = 64 << 20;
/// The longest config drive that is kept until its check. URLs are shorter.
const MAX_KEPT_DRIVE: usize = 4096;
/// Stands for the content of a longer one.
const PLACEHOLDER: &[u8] = b"discarded";
/// The argument of a provision request.
const DRIVE: &str = "configdrive";

/// The arguments of a provision request. A long config drive is replaced by a short text.
#[derive(Debug)]
pub(super) struct ProvisionArguments(pub(super) Arguments);

impl FromRequest<SharedState> for ProvisionArguments {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &SharedState) -> Result<Self, Fault> {
        let length =
            request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > (MAX_DRIVE_BYTES + MAX_BODY_BYTES) as u64) {
            return Err(Fault::TooLarge(MAX_DRIVE_BYTES));
        }
        let rest = discard_drive(request.into_body()).await?;
        Arguments::parse(&rest).map(Self)
    }
}

/// Checks the config drive of a request; returns whether there is one. An empty one counts as none, as in Ironic.
///
/// No message quotes it: its user data may hold secrets.
pub(super) fn check_drive(arguments: &Arguments, target: &str, version: Microversion) -> Result<bool, Fault> {
    let invalid = |text: &str| Err(Fault::Invalid(text.to_owned()));
    let is_object = match arguments.get(DRIVE) {
        None => return Ok(false),
        Some(Value::String(text)) if text.is_empty() => return Ok(false),
        Some(Value::Object(drive)) if drive.is_empty() => return Ok(false),
        Some(Value::String(_)) => false,
        Some(Value::Object(_)) => true,
        Some(other) => {
            return Err(Fault::Invalid(format!(
                "Expected types NoneType, dict, str for {DRIVE}, got {}",
                python_type(other)
            )));
        }
    };
    match target {
        "active" => {}
        "rebuild" if version >= Microversion(35) => {}
        _ if version >= Microversion(35) => {
            return invalid(
                "Adding a config drive is only supported when setting provision state to active, rebuild",
            );
        }
        _ => {
            return invalid("Adding a config drive is only supported when setting provision state to active");
        }
    }
    if is_object {
        return invalid(
            "Providing a JSON object for configdrive is only supported starting with API version 1.56",
        );
    }
    let text = arguments.text(DRIVE)?.unwrap_or_default();
    if text.contains("://") || text.bytes().all(is_base64) { Ok(true) } else { Err(malformed()) }
}

/// Whether a byte occurs in base64 text, which may have line breaks and spaces.
fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=\n\r\t ".contains(&byte)
}

fn malformed() -> Fault {
    Fault::Invalid(
        "Invalid configdrive format: it is neither a JSON, nor a URL, nor a base64 string".to_owned(),
    )
}

/// Reads a body, and returns it with the placeholder for a long config drive.
async fn discard_drive(mut body: Body) -> Result<Vec<u8>, Fault> {
    let mut filter = DriveFilter::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Fault::Invalid("The request body ended too early.".into()))?;
        if let Ok(data) = frame.into_data() {
            filter.push(&data)?;
        }
    }
    Ok(filter.kept)
}

/// Copies a JSON text byte by byte, and replaces a long string under the key `configdrive` of the outermost object.
/// Invalid JSON stays invalid.
#[derive(Debug, Default)]
struct DriveFilter {
    kept: Vec<u8>,
    place: JsonPlace,
    /// The nesting depth of objects and lists.
    depth: usize,
    /// The current string of the outermost object is a value, not a key.
    is_value: bool,
    /// The last key of the outermost object was `configdrive`.
    is_drive_key: bool,
}

/// The place of the next byte.
#[derive(Debug, Default)]
enum JsonPlace {
    /// Outside strings.
    #[default]
    Structure,
    /// In a string that starts at this index of the kept bytes.
    Text { start: usize, is_escaped: bool },
    /// In the config drive, of which this many bytes have arrived.
    Drive { start: usize, length: usize, text: DriveText },
}

/// The config drive as far as it has arrived.
#[derive(Debug)]
struct DriveText {
    escape: Escape,
    is_base64: bool,
    /// Longer than [`MAX_KEPT_DRIVE`], so nothing is kept.
    is_discarded: bool,
    is_url: bool,
}

/// The place within an escape sequence of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Backslash,
    /// In `\u`: the digits so far, and their value.
    Unicode(u8, u32),
}

impl DriveFilter {
    fn push(&mut self, mut data: &[u8]) -> Result<(), Fault> {
        while let Some((&byte, rest)) = data.split_first() {
            match &mut self.place {
                JsonPlace::Drive { start, length, text } => {
                    let taken = text.skip_plain(data);
                    let is_end = taken == 0 && text.push(byte)?;
                    // The quote at the end does not count.
                    *length += taken.max(usize::from(!is_end));
                    if *length > MAX_DRIVE_BYTES {
                        return Err(Fault::TooLarge(MAX_DRIVE_BYTES));
                    }
                    if taken > 0 {
                        data = &data[taken..];
                        continue;
                    }
                    if is_end || !text.is_discarded {
                        self.kept.push(byte);
                    }
                    if is_end {
                        self.place = JsonPlace::Structure;
                    } else if !text.is_discarded && *length > MAX_KEPT_DRIVE {
                        text.discard(&self.kept[*start..])?;
                        self.kept.truncate(*start);
                        self.kept.extend_from_slice(PLACEHOLDER);
                    }
                }
                JsonPlace::Text { start, is_escaped } => {
                    let is_end = byte == b'"' && !*is_escaped;
                    if is_end && self.depth == 1 && !self.is_value {
                        self.is_drive_key = &self.kept[*start..] == DRIVE.as_bytes();
                    }
                    *is_escaped = byte == b'\\' && !*is_escaped;
                    self.kept.push(byte);
                    if is_end {
                        self.place = JsonPlace::Structure;
                    }
                }
                JsonPlace::Structure => {
                    self.kept.push(byte);
                    self.read_structure(byte);
                }
            }
            if self.kept.len() > MAX_BODY_BYTES {
                return Err(Fault::TooLarge(MAX_BODY_BYTES));
            }
            data = rest;
        }
        Ok(())
    }

    /// Reads a byte outside strings.
    fn read_structure(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b':' if self.depth == 1 => self.is_value = true,
            b',' if self.depth == 1 => self.is_value = false,
            b'"' => {
                let start = self.kept.len();
                self.place = if self.depth == 1 && self.is_value && self.is_drive_key {
                    JsonPlace::Drive { start, length: 0, text: DriveText::new() }
                } else {
                    JsonPlace::Text { start, is_escaped: false }
                };
            }
            _ => {}
        }
    }
}

impl DriveText {
    fn new() -> Self {
        Self { escape: Escape::None, is_base64: true, is_discarded: false, is_url: false }
    }

    /// The number of leading bytes that are discarded without a further look.
    fn skip_plain(&self, data: &[u8]) -> usize {
        if !self.is_discarded || self.escape != Escape::None {
            return 0;
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/= ".contains(&byte);
        data.iter().position(|byte| !is_plain(*byte)).unwrap_or(data.len())
    }

    /// Reads a byte; returns whether it ends the string.
    fn push(&mut self, byte: u8) -> Result<bool, Fault> {
        let decoded = match (self.escape, byte) {
            (Escape::None, b'"') => return Ok(true),
            (Escape::None, b'\\') => {
                self.escape = Escape::Backslash;
                return Ok(false);
            }
            // JSON has no line break within a string, only its escape sequence.
            (Escape::None, _) => (byte >= b' ').then_some(byte),
            (Escape::Backslash, b'u') => {
                self.escape = Escape::Unicode(0, 0);
                return Ok(false);
            }
            (Escape::Backslash, _) => {
                self.escape = Escape::None;
                match byte {
                    b'n' | b'r' | b't' => Some(b'\n'),
                    b'/' => Some(b'/'),
                    _ => None,
                }
            }
            (Escape::Unicode(digits, value), _) => {
                let value = value * 16 + (byte as char).to_digit(16).ok_or_else(malformed)?;
                self.escape = if digits == 3 { Escape::None } else { Escape::Unicode(digits + 1, value) };
                if digits < 3 {
                    return Ok(false);
                }
                u8::try_from(value).ok()
            }
        };
        self.is_base64 &= decoded.is_some_and(is_base64);
        self.check()?;
        Ok(false)
    }

    /// Starts to discard the text, of which `kept` is the start.
    fn discard(&mut self, kept: &[u8]) -> Result<(), Fault> {
        let has = |mark: &[u8]| kept.windows(mark.len()).any(|window| window == mark);
        (self.is_discarded, self.is_url) = (true, has(b"://") || has(br":\/\/"));
        self.check()
    }

    /// Refuses a text whose rest nobody will see, unless base64 or a URL.
    fn check(&self) -> Result<(), Fault> {
        if self.is_discarded && !self.is_base64 && !self.is_url { Err(malformed()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Filters a body that arrives in pieces of this length.
    fn filter(body: &str, piece: usize) -> Result<Value, Fault> {
        let mut filter = DriveFilter::default();
        for piece in body.as_bytes().chunks(piece) {
            filter.push(piece)?;
            assert!(filter.kept.len() <= body.len().min(MAX_BODY_BYTES));
        }
        Ok(serde_json::from_slice(&filter.kept).unwrap_or(Value::Null))
    }

    #[test]
    fn a_long_drive_is_replaced_and_all_else_stays() {
        let long = "QUJD".repeat(5000);
        for (drive, expected) in [
            (String::new(), ""),
            ("QUJD".into(), "QUJD"),
            (r"QUJD\nQUJD".into(), "QUJD\nQUJD"),
            (r#"\"\\"#.into(), "\"\\"),
            (long.clone(), "discarded"),
            (format!(r"{long}\n\r\t \/{long}\u002B\u003d"), "discarded"),
            (format!("http://example.org/{long}?a=%20&b"), "discarded"),
            (format!(r"http:\/\/example.org\/{long}?a=\u0041"), "discarded"),
        ] {
            let more = r#""configdrive": 1, "x": ["configdrive", {"configdrive": "kept"}], "a\"b": "c,:{\\""#;
            let body = format!(r#"{{"target": "active", "configdrive": "{drive}", "y": {{{more}}}}}"#);
            for piece in [1, 7, body.len()] {
                let filtered = filter(&body, piece).expect("a body");
                let kept = json!({"configdrive": 1, "x": ["configdrive", {"configdrive": "kept"}], "a\"b": "c,:{\\"});
                assert_eq!(filtered, json!({"target": "active", "configdrive": expected, "y": kept}));
            }
        }
    }

    #[test]
    fn a_long_text_that_is_no_drive_is_refused_early() {
        let long = "QUJD".repeat(5000);
        for odd in ["\u{e4}", "-", r"\u00e4", r"\u0100", r"\b", r#"\""#, r"\ux", "\n"] {
            for body in [format!("{odd}{long}"), format!("{long}{odd}{long}")] {
                let body = format!(r#"{{"configdrive": "{body}"}}"#);
                for piece in [1, body.len()] {
                    assert_eq!(filter(&body, piece), Err(malformed()), "{odd}");
                }
            }
        }
    }

    #[test]
    fn the_length_of_drive_and_rest_is_limited() {
        let long = "A".repeat(MAX_DRIVE_BYTES);
        let body = |drive: &str| format!(r#"{{"configdrive": "{drive}"}}"#);
        assert_eq!(filter(&body(&long), 1 << 16), Ok(json!({"configdrive": "discarded"})));
        assert_eq!(filter(&body(&(long.clone() + "A")), 1 << 16), Err(Fault::TooLarge(MAX_DRIVE_BYTES)));
        let elsewhere = format!(r#"{{"x": {{"configdrive": "{}"}}}}"#, &long[..MAX_BODY_BYTES]);
        assert_eq!(filter(&elsewhere, 1 << 16), Err(Fault::TooLarge(MAX_BODY_BYTES)));
        // Deeper than any counter would need, and not valid.
        assert_eq!(filter(&"]".repeat(1000), 1 << 16), Ok(Value::Null));
    }

    #[test]
    fn an_incomplete_body_stays_invalid() {
        let body = format!(r#"{{"configdrive": "{}"}}"#, "QUJD".repeat(5000));
        for end in [body.len() - 1, body.len() - 2, body.len() - 50, 20] {
            assert_eq!(filter(&body[..end], 100), Ok(Value::Null), "{end}");
        }
    }
}
