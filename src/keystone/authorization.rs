//! [`Authorization`]: a token with lifetime, project and service catalogue.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderValue;
use secrecy::SecretString;
use tokio::time::Instant;

use super::catalogue::{Catalogue, Interfaces};
use super::types::TokenBody;

/// A token is renewed this long before it expires, or at a fifth of its lifetime before, whichever is shorter.
const RENEWAL_MARGIN: Duration = Duration::from_secs(120);
/// A token is not sent any more this long before it expires, because a request takes time to arrive. For short-lived
/// tokens, a twentieth of the lifetime.
const EXPIRY_MARGIN: Duration = Duration::from_secs(5);

/// The authorization that a request to an OpenStack service carries.
pub struct Authorization {
    /// `None` without Keystone.
    token: Option<SecretString>,
    header: HeaderValue,
    /// `None` if it never expires.
    lifetime: Option<Lifetime>,
    project_id: Option<String>,
    catalogue: Catalogue,
}

/// The validity of a token, measured with the local monotonic clock: the clocks of two hosts may differ.
#[derive(Debug, Clone, Copy)]
struct Lifetime {
    start: Instant,
    duration: Duration,
}

impl Authorization {
    /// Reads Keystone's response to a request that was sent at `sent_at`.
    pub(super) fn new(token: &HeaderValue, body: TokenBody, sent_at: Instant) -> Option<Self> {
        let text = token.to_str().ok()?;
        let mut header = token.clone();
        header.set_sensitive(true);
        let duration = body.expires_at.duration_since(body.issued_at.unwrap_or_else(Timestamp::now));
        let duration = duration.max(SignedDuration::ZERO).unsigned_abs();
        Some(Self {
            token: Some(text.into()),
            header,
            lifetime: Some(Lifetime { start: sent_at, duration }),
            project_id: body.project.map(|project| project.id),
            catalogue: body.catalogue,
        })
    }

    /// For a Cinder without Keystone (`auth_strategy = noauth`), which still expects a user and a project.
    pub(super) fn without_keystone(user: &str, project: &str) -> Option<Self> {
        let mut header = HeaderValue::from_str(&format!("{user}:{project}")).ok()?;
        header.set_sensitive(true);
        Some(Self {
            token: None,
            header,
            lifetime: None,
            project_id: Some(project.to_owned()),
            catalogue: Catalogue::default(),
        })
    }

    /// The token; `None` without Keystone.
    pub fn token(&self) -> Option<&SecretString> {
        self.token.as_ref()
    }

    /// The value of `X-Auth-Token`, marked as sensitive.
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// The project that the token is scoped to.
    pub fn project_id(&self) -> Option<&str> {
        self.project_id.as_deref()
    }

    /// The URL of the first of these service types that the catalogue has, at one of these interfaces and, if given, in
    /// this region. It has no trailing slash.
    pub fn endpoint(&self, types: &[&str], region: Option<&str>, interfaces: &Interfaces) -> Option<String> {
        self.catalogue.endpoint(types, region, interfaces).map(str::to_owned)
    }

    /// Interface and region of each endpoint of these service types in the catalogue, for error messages.
    pub fn describe_endpoints(&self, types: &[&str]) -> Vec<String> {
        self.catalogue.describe(types)
    }

    /// Whether a request may still use it.
    pub(super) fn is_valid(&self, now: Instant) -> bool {
        self.has_left(now, |lifetime| EXPIRY_MARGIN.min(lifetime / 20))
    }

    /// Whether it is time to renew it.
    pub(super) fn needs_renewal(&self, now: Instant) -> bool {
        !self.has_left(now, |lifetime| RENEWAL_MARGIN.min(lifetime / 5))
    }

    /// Whether more than `margin` of the lifetime is left.
    fn has_left(&self, now: Instant, margin: impl FnOnce(Duration) -> Duration) -> bool {
        self.lifetime.is_none_or(|Lifetime { start, duration }| {
            now.saturating_duration_since(start) < duration.saturating_sub(margin(duration))
        })
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization")
            .field("lifetime", &self.lifetime)
            .field("project_id", &self.project_id)
            .finish_non_exhaustive()
    }
}
