//! Who may use the people's doors.
//!
//! Three ways, as in Ironic (`[DEFAULT]auth_strategy`): nobody is asked; a name and a password are (RFC 7617), that
//! stand in an htpasswd file; or a token of Keystone's is. With the first two, whoever is let in may do everything; a
//! token has roles. Before all of them stand the rules for [`Browsers`], which are made to ask by strangers' pages.

mod browsers;
mod htpasswd;
mod http_basic;
mod keystone;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue};

pub use browsers::{Browsers, Strange};
pub use htpasswd::HtpasswdError;
use http_basic::HttpBasic;
use keystone::Tokens;

use crate::keystone::Validator;

/// What Ironic asks a name and a password for.
const REALM: &str = "Basic realm=\"Baremetal API\"";

/// Decides who may. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Whoever reaches the door.
    Anybody,
    /// Whose name and password are in the file. Made by [`Auth::http_basic`].
    HttpBasic(Passwords),
    /// Whose token has a role that counts. Made by [`Auth::keystone`].
    Keystone(Bearers),
}

/// The names and passwords that open the door, and what was found out about them.
#[derive(Debug, Clone)]
pub struct Passwords(Arc<HttpBasic>);

/// Those whose tokens open the door, and what was found out about them.
#[derive(Debug, Clone)]
pub struct Bearers(Arc<Tokens>);

/// Somebody who may.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    /// What they may.
    pub right: Right,
    /// Who they are, for the log: a user's id, or a name; none if nobody asked.
    pub name: Option<String>,
}

/// What somebody may; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// See what is there.
    See,
    /// Work with it: change it, take nodes from state to state, give them volumes.
    Use,
    /// Create and delete nodes and what they are made of.
    Manage,
}

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
    /// There is no token, or none that Keystone knows.
    #[error("The request you have made requires authentication.")]
    NoToken,
    /// Their token has no role that counts here.
    #[error("Access was denied: the token has no role for the system, nor in one of [api] projects.")]
    NoRole,
    /// So many are being checked that this one cannot be.
    #[error("Too many are being checked")]
    Busy,
    /// Keystone cannot say.
    #[error("Keystone does not answer")]
    Away,
}

impl Auth {
    /// Names and passwords from an htpasswd file, which is read now and again whenever it changes.
    pub fn http_basic(file: impl Into<PathBuf>) -> Result<Self, HtpasswdError> {
        Ok(Self::HttpBasic(Passwords(Arc::new(HttpBasic::open(file.into())?))))
    }

    /// Tokens of this Keystone's. `projects`: ids, or names in the default domain, of those in which a role counts.
    pub fn keystone(validator: Validator, projects: Vec<String>) -> Self {
        Self::Keystone(Bearers(Arc::new(Tokens::new(validator, projects))))
    }

    /// Who sends a request with these headers, if they may.
    pub async fn check(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Denied> {
        let name = match self {
            Self::Anybody => None,
            Self::HttpBasic(Passwords(known)) => Some(known.check(headers).await?),
            Self::Keystone(Bearers(tokens)) => return tokens.check(headers).await,
        };
        Ok(Arc::new(Caller { right: Right::Manage, name }))
    }

    /// What somebody is told who may not (`WWW-Authenticate`).
    pub fn challenge(&self) -> Option<HeaderValue> {
        match self {
            Self::Anybody => None,
            Self::HttpBasic(_) => Some(HeaderValue::from_static(REALM)),
            Self::Keystone(Bearers(tokens)) => tokens.challenge(),
        }
    }
}

impl Right {
    /// The role that gives it.
    pub fn role(self) -> &'static str {
        match self {
            Self::See => "reader",
            Self::Use => "member",
            Self::Manage => "admin",
        }
    }
}
