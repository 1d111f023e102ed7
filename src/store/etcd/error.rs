//! [`RpcError`]: what a failed call of etcd means for the caller.

use tonic::{Code, Status};

use crate::store::contract::StoreError;

/// The cause of a call without an answer.
const TIME_OUT: &str = "time-out";

/// A failed call.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum RpcError {
    /// No answer from a member with a leader. A write may have been applied, or may still be applied.
    #[error("etcd does not respond: {0}")]
    Unreachable(String),
    /// The user or its token is refused.
    #[error("etcd refuses the user: {0}")]
    Denied(String),
    /// The token has expired, or is older than a change of users and roles.
    #[error("etcd's token has expired")]
    OldToken,
    /// The records cannot be served at present.
    #[error("{0}")]
    NotServed(String),
    /// The requested revision is compacted.
    #[error("etcd has compacted the revision")]
    Compacted,
    /// The requested revision does not exist yet: etcd was restored from a backup.
    #[error("etcd has not reached the revision")]
    FutureRevision,
    /// The quota is exceeded: etcd refuses all growth until an operator has made space.
    #[error("etcd has no space left (NOSPACE): compact and defragment it, then clear the alarm")]
    NoSpace,
    /// The session's lease has ended.
    #[error("the session has ended")]
    LeaseNotFound,
    /// The request is refused for its content.
    #[error("etcd refuses the request: {0}")]
    Refused(String),
}

impl RpcError {
    /// The time-out of one attempt, or of all.
    pub(super) fn timeout(endpoint: &str) -> Self {
        Self::Unreachable(format!("{endpoint}: {TIME_OUT}"))
    }

    /// Whether the error says no more than that.
    pub(super) fn is_timeout(&self) -> bool {
        matches!(self, Self::Unreachable(cause) if cause.ends_with(TIME_OUT))
    }

    /// An error of a member.
    pub(super) fn from_status(endpoint: &str, status: &Status) -> Self {
        let message = status.message().trim_start_matches("etcdserver: ");
        match status.code() {
            Code::Unauthenticated => Self::OldToken,
            Code::InvalidArgument if message.contains("revision of auth store is old") => Self::OldToken,
            Code::InvalidArgument if message.contains("authentication failed") => {
                Self::Denied(message.into())
            }
            // Without a token, a cluster with authentication finds no user.
            Code::InvalidArgument if message.contains("user name is empty") => Self::Denied(message.into()),
            Code::PermissionDenied => Self::Denied(message.into()),
            Code::OutOfRange if message.contains("compacted") => Self::Compacted,
            Code::OutOfRange if message.contains("future revision") => Self::FutureRevision,
            Code::ResourceExhausted if message.contains("space exceeded") => Self::NoSpace,
            Code::NotFound if message.contains("lease") => Self::LeaseNotFound,
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::Unimplemented => {
                Self::Refused(message.into())
            }
            _ => Self::Unreachable(format!("{endpoint}: {}", describe(status))),
        }
    }

    /// Whether another member may answer.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

impl From<RpcError> for StoreError {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::NoSpace => Self::ReadOnly(error.to_string()),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

/// The message with its innermost cause: tonic's own messages name a layer, such as `transport error`.
fn describe(status: &Status) -> String {
    let mut text = status.message().trim_start_matches("etcdserver: ").to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        source = error.source();
        if source.is_none() {
            text = format!("{text}: {error}");
        }
    }
    text
}
