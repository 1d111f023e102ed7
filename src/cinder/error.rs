//! [`CinderError`]: Cinder refused, or is unavailable.

use crate::keystone::{KeystoneError, TransportError};

/// A failed call. The texts hold no secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CinderError {
    /// Cinder or Keystone does not answer, or cannot work: no connection, a time-out, 5xx, 401 with a new token.
    /// The request may have taken effect, or may do so later.
    #[error("{0}")]
    Unavailable(String),
    /// The volume or attachment does not exist, or not for this project (404).
    #[error("{0}")]
    NotFound(String),
    /// Cinder refused: 400, 403, 409, 413, …
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Cinder's message.
        message: String,
    },
}

impl CinderError {
    /// The error for a response that Cinder cannot have sent.
    pub(super) fn invalid_response() -> Self {
        Self::Unavailable("the server at Cinder's endpoint is not Cinder".into())
    }
}

impl From<KeystoneError> for CinderError {
    /// Every Keystone error means that Cinder is unavailable. None of them refuses a volume.
    fn from(error: KeystoneError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<TransportError> for CinderError {
    /// The request may have taken effect. No transport error refuses a volume.
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::TimedOut => Self::Unavailable("Cinder did not answer in time".into()),
            TransportError::NotConnected(_) => Self::Unavailable("Cinder cannot be reached".into()),
            TransportError::Interrupted(_) => Self::Unavailable("the connection to Cinder broke off".into()),
            // A longer response cannot be Cinder's.
            TransportError::BodyTooLarge => Self::invalid_response(),
        }
    }
}
