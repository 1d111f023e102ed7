//! [`RedfishError`]: one line that names the BMC and its fault.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::message::{BmcMessage, cut_text};

/// A request to a BMC failed. The text is one line without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("BMC {bmc} {fault}")]
pub struct RedfishError {
    /// The address of the BMC.
    pub bmc: String,
    /// What is wrong with it.
    pub fault: BmcFault,
}

/// The fault of a BMC, as the predicate of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BmcFault {
    /// The settings for the client cannot be used, such as a CA file.
    #[error("cannot be asked: {0}")]
    Unusable(String),
    /// There is no connection.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// TLS failed: usually a certificate that no authority vouches for.
    #[error("is not trusted: {0}; redfish_verify_ca names the authority of its certificate")]
    Untrusted(String),
    /// No complete response in time.
    #[error("did not answer within {} s", .0.as_secs_f32().ceil())]
    TimedOut(Duration),
    /// The connection ended within a response.
    #[error("broke off the connection: {0}")]
    Interrupted(String),
    /// User or password is wrong, or the user may not do this.
    #[error("refused the login{}: {detail}", .user.as_ref().map(|user| format!(" of user {user}")).unwrap_or_default())]
    LoginRefused {
        /// The user.
        user: Option<String>,
        /// Status and message.
        detail: String,
    },
    /// The resource does not exist.
    #[error("has no {0} (404)")]
    NotFound(String),
    /// The BMC has no system, or several.
    #[error("{0}")]
    SystemUnclear(String),
    /// The response is not one of Redfish.
    #[error("gave no valid Redfish answer to {request}: {cause}")]
    Invalid {
        /// Method and path.
        request: String,
        /// The cause.
        cause: String,
    },
    /// A redirect leads to another host.
    #[error("redirects {0} to another host")]
    Redirected(String),
    /// The BMC refused a request.
    #[error("refused {request} with {status}{}", format_detail(.message))]
    Refused {
        /// Method and path.
        request: String,
        /// The HTTP status.
        status: u16,
        /// The BMC's message.
        message: String,
        /// The ids of the BMC's messages.
        ids: String,
    },
    /// The BMC lacks what is necessary.
    #[error("cannot {0}")]
    Unsupported(String),
    /// The boot override was accepted, and is not set.
    #[error("ignored the boot override: asked for {asked}, it has {has}")]
    OverrideIgnored {
        /// The requested override.
        asked: String,
        /// The override that a read shows.
        has: String,
    },
}

fn format_detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl RedfishError {
    /// Whether the command certainly had no effect: the BMC refused it, or never got it. A lost answer, an error of the
    /// server (5xx) and a time-out leave that open.
    pub fn is_without_effect(&self) -> bool {
        match &self.fault {
            BmcFault::Unusable(_)
            | BmcFault::Unreachable(_)
            | BmcFault::LoginRefused { .. }
            | BmcFault::Unsupported(_) => true,
            BmcFault::Refused { status, .. } => matches!(status, 400..=407 | 409..=499),
            BmcFault::Untrusted(_)
            | BmcFault::TimedOut(_)
            | BmcFault::Interrupted(_)
            | BmcFault::NotFound(_)
            | BmcFault::SystemUnclear(_)
            | BmcFault::Invalid { .. }
            | BmcFault::Redirected(_)
            | BmcFault::OverrideIgnored { .. } => false,
        }
    }
}

impl BmcFault {
    /// The fault of a response with an error status.
    pub(super) fn refused(request: &str, status: u16, body: &[u8]) -> Self {
        let BmcMessage { text, ids } = BmcMessage::read(body);
        Self::Refused { request: request.to_owned(), status, message: text, ids }
    }

    /// The fault of a response with an invalid body.
    pub(super) fn invalid(request: &str, cause: impl fmt::Display) -> Self {
        Self::Invalid { request: request.to_owned(), cause: cut_text(&cause.to_string()) }
    }

    /// The fault of a request without a response. The innermost cause tells most, and has no URL.
    pub(super) fn from_transport(error: reqwest::Error, request: &str, limit: Duration) -> Self {
        if error.is_timeout() {
            return Self::TimedOut(limit);
        }
        if error.is_redirect() {
            return Self::Redirected(request.to_owned());
        }
        let not_connected = error.is_connect();
        let error = error.without_url();
        let mut is_tls = false;
        let mut cause: &dyn StdError = &error;
        loop {
            // rustls' error is inside an I/O error, whose `source` skips it.
            let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            is_tls |= cause.is::<rustls::Error>()
                || inner.is_some_and(<dyn StdError + Send + Sync>::is::<rustls::Error>);
            match inner.map(|inner| inner as &dyn StdError).or(cause.source()) {
                Some(next) => cause = next,
                None => break,
            }
        }
        let text = cut_text(&cause.to_string());
        match (is_tls, not_connected) {
            (true, _) => Self::Untrusted(text),
            (false, true) => Self::Unreachable(text),
            (false, false) => Self::Interrupted(text),
        }
    }

    /// The status of a refusal.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_is_certainly_without_effect() {
        let refused = |status| BmcFault::refused("POST /Reset", status, b"");
        let login = BmcFault::LoginRefused { user: None, detail: String::new() };
        for (fault, expected) in [
            (refused(400), true),
            (refused(409), true),
            (refused(408), false),
            (refused(500), false),
            (refused(503), false),
            (login, true),
            (BmcFault::Unsupported("restart".into()), true),
            (BmcFault::Unreachable("no route".into()), true),
            (BmcFault::TimedOut(Duration::from_secs(1)), false),
            (BmcFault::Interrupted("reset".into()), false),
            (BmcFault::invalid("POST /Reset", "HTML"), false),
        ] {
            let error = RedfishError { bmc: "192.0.2.1".into(), fault };
            assert_eq!(error.is_without_effect(), expected, "{error}");
        }
    }
}
