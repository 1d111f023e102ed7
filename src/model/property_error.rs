//! [`PropertyError`]: why connection properties are refused.

/// A missing or invalid connection property. The error never holds a value that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {fault}")]
pub struct PropertyError {
    /// The property's key, such as `target_portal`.
    pub key: &'static str,
    /// Why the value is invalid.
    pub fault: String,
}

impl PropertyError {
    pub(super) fn new(key: &'static str, fault: impl ToString) -> Self {
        Self { key, fault: fault.to_string() }
    }
}
