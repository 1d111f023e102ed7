//! [`Microversion`]: Ironic's microversions, and the headers of responses that name them.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// A microversion of the API: the second number of `1.N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Microversion(pub(super) u16);

/// Ironic's own header, in requests and responses.
pub(super) const IRONIC_VERSION: HeaderName = HeaderName::from_static("x-openstack-ironic-api-version");
const IRONIC_MIN_VERSION: HeaderName = HeaderName::from_static("x-openstack-ironic-api-minimum-version");
const IRONIC_MAX_VERSION: HeaderName = HeaderName::from_static("x-openstack-ironic-api-maximum-version");

impl Microversion {
    /// The version of a request without a version header.
    pub(super) const MIN: Self = Self(1);
    /// The last version with all its features.
    pub(super) const MAX: Self = Self(52);

    /// Writes the version headers of a response. `negotiated` is `None` if the negotiation failed.
    pub(super) fn write_headers(negotiated: Option<Self>, headers: &mut HeaderMap) {
        headers.insert(IRONIC_MIN_VERSION, Self::MIN.header());
        headers.insert(IRONIC_MAX_VERSION, Self::MAX.header());
        if let Some(negotiated) = negotiated {
            headers.insert(IRONIC_VERSION, negotiated.header());
        }
    }

    fn header(self) -> HeaderValue {
        HeaderValue::from_str(&self.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}
