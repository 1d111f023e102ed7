//! Host names that browsers may use for the API and the page.

/// Parses a host name as browsers send it: without scheme and port.
pub(super) fn parse_host(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if text.len() <= 253 && text.split('.').all(is_label) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("expected a name such as boot.example".to_owned())
    }
}
