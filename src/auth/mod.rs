//! Who may use the people's doors.
//!
//! Two ways, as in Ironic (`[DEFAULT]auth_strategy`): nobody is asked, or a name and a password are (RFC 7617)
//! that stand in an htpasswd file. Whoever is let in may do everything: there are no roles.

mod htpasswd;
mod http_basic;

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::HeaderMap;

pub use htpasswd::HtpasswdError;
use http_basic::HttpBasic;

/// Decides who may. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Whoever reaches the door.
    Anybody,
    /// Whose name and password are in the file. Made by [`Auth::http_basic`].
    HttpBasic(Passwords),
}

/// The names and passwords that open the door, and what was found out about them.
#[derive(Debug, Clone)]
pub struct Passwords(Arc<HttpBasic>);

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// They did not say who they are.
    #[error("Authorization required")]
    Missing,
    /// What they said is no name and password.
    #[error("Could not parse Authorization header")]
    Malformed,
    /// There is no such name, or it has another password.
    #[error("Incorrect username or password")]
    Wrong,
    /// So many are being checked that this one cannot be.
    #[error("Too many passwords are being checked")]
    Busy,
}

impl Auth {
    /// Names and passwords from an htpasswd file, which is read now and again whenever it changes.
    pub fn http_basic(file: impl Into<PathBuf>) -> Result<Self, HtpasswdError> {
        Ok(Self::HttpBasic(Passwords(Arc::new(HttpBasic::open(file.into())?))))
    }

    /// Whether a request with these headers may.
    pub async fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        match self {
            Self::Anybody => Ok(()),
            Self::HttpBasic(Passwords(known)) => known.check(headers).await,
        }
    }
}
