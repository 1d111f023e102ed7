//! Names by which browsers may call.

/// A name as browsers send it: without scheme and port.
pub(super) fn host(text: &str) -> Result<String, String> {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let fits = text.len() <= 253 && text.split('.').all(part);
    if fits { Ok(text.to_ascii_lowercase()) } else { Err("expected a name such as boot.example".to_owned()) }
}
