//! Rejections of machines' requests: each has its reason in the response and in the log.
//!
//! The log lines are paced per address, since a rejected machine repeats its request. Further lines have level debug.

use std::fmt::Display;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use governor::Quota;

use super::rate_limit::{Buckets, RateDecision};
use super::resource::BootResource;
use super::respond::respond_script;
use crate::model::excerpt;
use crate::script;

/// After a burst, an address gets one log line in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(30);
const LOG_BURST: NonZeroU32 = NonZeroU32::new(4).expect("is not 0");

/// The kinds of rejections, each with its status and its label in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The address is in no allowed network.
    Network,
    /// The request cannot be parsed.
    Malformed,
    /// There is no such path or file.
    NotFound,
    /// The requester exceeds its rate.
    RateLimit,
}

impl Rejection {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Network => StatusCode::FORBIDDEN,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::RateLimit => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    pub(super) fn as_label(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Malformed => "malformed",
            Self::NotFound => "not_found",
            Self::RateLimit => "rate_limit",
        }
    }
}

/// Logs rejections.
#[derive(Debug)]
pub(super) struct RejectionLog(Buckets<IpAddr>);

impl RejectionLog {
    pub(super) fn new() -> Self {
        let quota = Quota::with_period(LOG_INTERVAL).expect("is not 0").allow_burst(LOG_BURST);
        Self(Buckets::new(quota))
    }

    /// Logs that the request for `path` from `remote` was rejected.
    pub(super) fn log(&self, remote: IpAddr, path: &str, reason: impl Display) {
        let path = excerpt(path);
        match self.0.check(&remote) {
            RateDecision::Allowed => tracing::warn!(%remote, path, %reason, "request rejected"),
            RateDecision::OverLimit | RateDecision::TableFull => {
                tracing::debug!(%remote, path, %reason, "request rejected");
            }
        }
    }
}

/// The response to a rejected request. iPXE executes a script, and its console shows the reason; other clients get a
/// status and a text.
pub(super) fn respond_rejected(
    resource: &BootResource,
    status: StatusCode,
    reason: impl Display,
) -> Response {
    match script::build_refusal(&reason.to_string()) {
        Ok(script) if resource.is_script() => respond_script(script),
        _ => (status, format!("volboot: {reason}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_a_burst_of_log_lines() {
        let log = RejectionLog::new();
        let addresses: [IpAddr; 2] = ["192.0.2.7", "192.0.2.8"].map(|text| text.parse().expect("an address"));
        for address in addresses {
            let allowed = (0..20).filter(|_| log.0.check(&address) == RateDecision::Allowed).count();
            assert!((4..20).contains(&allowed), "{allowed}");
        }
    }
}
