//! [`Authorization`]: a token, how long it lives, for which project, and the catalogue that came with it.

use std::fmt;
use std::time::Duration;

use axum::http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio::time::Instant;

use super::catalogue::{Catalogue, Interface};
use super::exchange::TokenBody;

/// A token is renewed this long before its end, or at a fifth of its life if that is less.
const AHEAD: Duration = Duration::from_secs(120);
/// It is not used any more this long before its end, since it has to arrive; or at a twentieth of its life.
const TOO_LATE: Duration = Duration::from_secs(5);

/// What a service is shown.
pub struct Authorization {
    /// None where nobody asks.
    token: Option<SecretString>,
    header: HeaderValue,
    /// By our clock; none if it has no end.
    life: Option<Life>,
    project_id: Option<String>,
    catalogue: Catalogue,
}

/// When a token ends. By the time that passes here since it came: the clocks of two hosts may differ.
#[derive(Debug, Clone, Copy)]
struct Life {
    from: Instant,
    whole: Duration,
}

impl Authorization {
    /// What Keystone answered to a request that was sent at `asked`.
    pub(super) fn new(token: &HeaderValue, body: TokenBody, asked: Instant) -> Option<Self> {
        let text = token.to_str().ok()?;
        let mut header = token.clone();
        header.set_sensitive(true);
        let life = body.expires_at.duration_since(body.issued_at.unwrap_or_else(Timestamp::now));
        Some(Self {
            token: Some(text.into()),
            header,
            life: Some(Life { from: asked, whole: life.max(SignedDuration::ZERO).unsigned_abs() }),
            project_id: body.project.map(|project| project.id),
            catalogue: body.catalog,
        })
    }

    /// For a Cinder that asks nobody, and still wants to hear a user and a project.
    pub(super) fn unasked(user: &str, project: &str) -> Option<Self> {
        let mut header = HeaderValue::from_str(&format!("{user}:{project}")).ok()?;
        header.set_sensitive(true);
        Some(Self {
            token: None,
            header,
            life: None,
            project_id: Some(project.to_owned()),
            catalogue: Catalogue::default(),
        })
    }

    /// The token; none where nobody asks.
    pub fn token(&self) -> Option<&SecretString> {
        self.token.as_ref()
    }

    /// The value of `X-Auth-Token`. Marked as sensitive.
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// The project that it is for.
    pub fn project_id(&self) -> Option<&str> {
        self.project_id.as_deref()
    }

    /// Where the first of these service types is that the catalogue has, at this interface and, if one is named, in
    /// this region. Without a slash at its end.
    pub fn endpoint(&self, types: &[&str], region: Option<&str>, interface: Interface) -> Option<String> {
        self.catalogue.endpoint(types, region, interface).map(str::to_owned)
    }

    /// Whether it may still be used.
    pub(super) fn lives(&self, now: Instant) -> bool {
        self.has_more_than(now, |whole| TOO_LATE.min(whole / 20))
    }

    /// Whether it is not yet time to renew it.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.has_more_than(now, |whole| AHEAD.min(whole / 5))
    }

    fn has_more_than(&self, now: Instant, ahead: impl FnOnce(Duration) -> Duration) -> bool {
        self.life.is_none_or(|Life { from, whole }| {
            now.saturating_duration_since(from) < whole.saturating_sub(ahead(whole))
        })
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization")
            .field("life", &self.life)
            .field("project_id", &self.project_id)
            .finish_non_exhaustive()
    }
}
