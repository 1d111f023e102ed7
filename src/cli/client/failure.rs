//! [`CommandFailure`]: the failure of a command that switches machines, with its exit code.

use std::error::Error;

use super::http::RequestFailure;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum CommandFailure {
    /// The boot has stopped.
    #[error("{0}")]
    Stopped(String),
    /// The command names no node.
    #[error("{0}")]
    Usage(String),
    /// The time limit is over.
    #[error("{0}")]
    TimedOut(String),
    /// volboot cannot be reached, or refuses the credentials.
    #[error("{0}")]
    NotReached(String),
    /// volboot cannot switch the node.
    #[error("{0}")]
    NoPower(String),
    /// The BMC failed.
    #[error("{0}")]
    Bmc(String),
}

impl CommandFailure {
    /// The exit code.
    pub(in crate::cli) fn code(&self) -> u8 {
        match self {
            Self::Stopped(_) => 1,
            Self::Usage(_) => 2,
            Self::TimedOut(_) => 4,
            Self::NotReached(_) => 5,
            Self::NoPower(_) => 6,
            Self::Bmc(_) => 7,
        }
    }

    /// Classifies a failed request about a node.
    pub(super) fn from_request(node: &str, error: &(dyn Error + 'static)) -> Self {
        let text = error.to_string();
        let about_node = || format!("node {node}: {text}");
        let Some(status) = error.downcast_ref::<RequestFailure>().and_then(RequestFailure::refusal) else {
            return Self::NotReached(text);
        };
        match status {
            404 => Self::Usage(text),
            400 => Self::NoPower(about_node()),
            500 => Self::Bmc(about_node()),
            _ => Self::Stopped(about_node()),
        }
    }
}
