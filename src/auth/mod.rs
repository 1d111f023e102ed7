//! Authentication and authorization of operators, for the API and the web pages.
//!
//! Three strategies, as in Ironic (`[DEFAULT]auth_strategy`): `noauth`; `http_basic` (RFC 7617) against an htpasswd
//! file; and `keystone` tokens. The first two grant every caller the admin role. With Keystone, the token's roles
//! decide. [`BrowserGuard`] stands in front of all three and protects browsers against cross-site requests.

mod browser_guard;
mod htpasswd;
mod http_basic;
mod keystone;
mod login_limiter;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::HeaderValue;
use axum::http::request::Parts;

pub use browser_guard::{BrowserGuard, BrowserRejection};
pub use htpasswd::HtpasswdError;
use http_basic::HttpBasic;
use keystone::TokenCache;

use crate::keystone::Validator;
use crate::listen::Peer;
use crate::telemetry::Metrics;

/// The `WWW-Authenticate` challenge for HTTP Basic, with Ironic's realm.
const REALM: &str = "Basic realm=\"Baremetal API\"";

/// The authentication strategy. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Auth {
    /// No authentication: every client has the admin role.
    NoAuth,
    /// Name and password from an htpasswd file. Created by [`Auth::http_basic_blocking`].
    HttpBasic(PasswordAuth),
    /// Keystone tokens. Created by [`Auth::keystone`].
    Keystone(TokenAuth),
}

/// The htpasswd file and the cache of verified credentials.
#[derive(Debug, Clone)]
pub struct PasswordAuth(Arc<HttpBasic>);

/// The Keystone validator and the cache of validated tokens.
#[derive(Debug, Clone)]
pub struct TokenAuth(Arc<TokenCache>);

/// An authenticated client.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    /// The highest role of the client.
    pub role: AccessRole,
    /// User id or name for the log; `None` without authentication.
    pub name: Option<String>,
}

/// Roles as in Ironic's default policy; each includes the roles before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessRole {
    /// Read only.
    Reader,
    /// Reads and updates: attributes, states, volumes.
    Member,
    /// Also creates and deletes nodes, ports and port groups.
    Admin,
}

/// Why a request is not authorized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The request has no `Authorization` header. The text is Ironic's.
    #[error("Authorization required")]
    MissingCredentials,
    /// The `Authorization` header is not HTTP Basic. The text is Ironic's.
    #[error("Could not parse Authorization header")]
    MalformedCredentials,
    /// Unknown name or wrong password. The text is Ironic's.
    #[error("Incorrect username or password")]
    InvalidCredentials,
    /// No token, or a token that Keystone rejects. The text is keystonemiddleware's.
    #[error("The request you have made requires authentication.")]
    InvalidToken,
    /// The token has no role that grants access.
    #[error("Access was denied: the token has no role for the system, nor in one of [api] projects.")]
    NoRole,
    /// The address has sent too many wrong passwords.
    #[error("too many log-ins with wrong passwords from this address")]
    TooManyAttempts,
    /// The queue for password or token checks is full.
    #[error("too many credentials are being checked")]
    Busy,
    /// Keystone cannot be reached.
    #[error("Keystone is unavailable")]
    Unavailable,
}

impl Auth {
    /// HTTP Basic against an htpasswd file. The file is read now, and again whenever it changes.
    pub fn http_basic_blocking(file: impl Into<PathBuf>, metrics: Metrics) -> Result<Self, HtpasswdError> {
        Ok(Self::HttpBasic(PasswordAuth(Arc::new(HttpBasic::open_blocking(file.into(), metrics)?))))
    }

    /// Keystone tokens. `projects`: ids, or names in the default domain, of the projects whose roles grant access.
    pub fn keystone(validator: Validator, projects: Vec<String>) -> Self {
        Self::Keystone(TokenAuth(Arc::new(TokenCache::new(validator, projects))))
    }

    /// The time after which a client over the limit of log-ins may try again, in seconds.
    pub const RETRY_AFTER: u64 = login_limiter::CHECK_INTERVAL.as_secs();

    /// Authenticates a request by its headers. Without a [`Peer`], all requests have the same address.
    pub async fn check(&self, request: &Parts) -> Result<Arc<Caller>, AuthError> {
        let headers = &request.headers;
        let peer = request.extensions.get::<Peer>();
        let client = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.remote.ip());
        let name = match self {
            Self::NoAuth => None,
            Self::HttpBasic(PasswordAuth(passwords)) => Some(passwords.check(headers, client).await?),
            Self::Keystone(TokenAuth(tokens)) => return tokens.check(headers).await,
        };
        Ok(Arc::new(Caller { role: AccessRole::Admin, name }))
    }

    /// The `WWW-Authenticate` header of a 401 response.
    pub fn challenge(&self) -> Option<HeaderValue> {
        match self {
            Self::NoAuth => None,
            Self::HttpBasic(_) => Some(HeaderValue::from_static(REALM)),
            Self::Keystone(TokenAuth(tokens)) => tokens.challenge(),
        }
    }
}

impl AccessRole {
    /// The name of the role in Keystone.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}
