//! [`CinderError`]: Cinder refused, or is unavailable.

use super::endpoint::EndpointUrl;
use crate::keystone::{KeystoneError, TransportError};

/// A failed call. The texts hold no secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CinderError {
    /// Cinder or Keystone does not answer, or cannot work: no connection, a time-out, 5xx, 401 with a new token.
    /// The request may have taken effect, or may do so later.
    #[error("{0}")]
    Unavailable(String),
    /// Cinder's API answers, but failed at the request (500), usually in the driver of a backend. The request may have
    /// taken effect.
    #[error("Cinder returned 500 Internal Server Error")]
    Failed {
        /// The connector property that the driver misses, if Cinder says so.
        missing_property: Option<String>,
    },
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
    /// The error for a response that Cinder cannot have sent. `detail` is a status, if that is the reason.
    pub(super) fn not_cinder(endpoint: &EndpointUrl, detail: &str) -> Self {
        Self::Unavailable(format!("the server at {endpoint} is not Cinder{detail}"))
    }

    /// The error for a request without a complete response. The request may have taken effect. No transport error
    /// refuses a volume.
    pub(super) fn from_transport(error: TransportError, endpoint: &EndpointUrl) -> Self {
        match error {
            TransportError::TimedOut => {
                Self::Unavailable(format!("Cinder at {endpoint} did not answer in time"))
            }
            TransportError::NotConnected(cause) => {
                Self::Unavailable(format!("Cinder cannot be reached at {endpoint}: {cause}"))
            }
            TransportError::Interrupted(cause) => {
                Self::Unavailable(format!("the connection to Cinder at {endpoint} broke off: {cause}"))
            }
            // A longer response cannot be Cinder's.
            TransportError::BodyTooLarge => Self::not_cinder(endpoint, ""),
        }
    }
}

impl From<KeystoneError> for CinderError {
    /// Every Keystone error means that Cinder is unavailable. None of them refuses a volume.
    fn from(error: KeystoneError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
