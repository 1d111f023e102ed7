//! [`Tokens`]: Keystone's tokens in the `X-Auth-Token` header, as every OpenStack client sends them.
//!
//! What a role allows is Ironic's: *reader* sees, *member* works with what is there, *admin* creates and deletes nodes
//! and ports. A role counts if it is one for the whole system, or in a project that the operator listed (as Ironic's
//! `rbac_service_project_name` does); owners and lessees of single nodes are not known here.
//!
//! What Keystone said of a token is remembered for a minute, so a token that is revoked works on for as long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Caller, Denied, Right};
use crate::keystone::{Bearer, Reach, Validator};

/// How long what Keystone said is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Of how many tokens.
const MANY: usize = 1024;
/// Questions to Keystone at once: whoever sends nonsense shall not keep it from those who do not.
const QUESTIONS: usize = 8;
/// How long a question waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// The domain in which a project may be listed by its name. In others it must be its id, or whoever may create projects
/// in some domain could make one of that name.
const DEFAULT_DOMAIN: &str = "default";

/// Whose tokens open the door, and what Keystone said of those shown lately.
#[derive(Debug)]
pub(super) struct Tokens {
    validator: Validator,
    projects: Vec<String>,
    known: Mutex<HashMap<Hash, (Known, Instant)>>,
    turns: Semaphore,
}

/// What stands for a token: nobody can get in with it.
type Hash = [u8; 32];
/// Who it is; none if nothing they have counts here.
type Known = Option<Arc<Caller>>;

impl Tokens {
    pub(super) fn new(validator: Validator, projects: Vec<String>) -> Self {
        Self { validator, projects, known: Mutex::default(), turns: Semaphore::new(QUESTIONS) }
    }

    /// What a client that may not is told to do: get a token there.
    pub(super) fn challenge(&self) -> Option<HeaderValue> {
        format!("Keystone uri=\"{}\"", self.validator.auth_url()).parse().ok()
    }

    /// Who sends a request with these headers.
    pub(super) async fn check(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Denied> {
        let token = headers.get("x-auth-token").filter(|token| !token.is_empty()).ok_or(Denied::NoToken)?;
        let hash: Hash = Sha256::digest(token).into();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        let known = match known {
            Some((known, until)) if Instant::now() < until => known,
            _ => self.ask(token, hash).await?,
        };
        known.ok_or(Denied::NoRole)
    }

    async fn ask(&self, token: &HeaderValue, hash: Hash) -> Result<Known, Denied> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Denied::Busy) };
        let asked = Instant::now();
        let bearer = self.validator.validate(token).await.map_err(|error| {
            tracing::error!(error = %error, "a token could not be checked");
            Denied::Away
        })?;
        let bearer = bearer.ok_or(Denied::NoToken)?;
        let until = asked + REMEMBERED.min(bearer.life);
        let known = self.right(&bearer).map(|right| Arc::new(Caller { right, name: Some(bearer.user) }));
        self.remember(hash, known.clone(), until);
        Ok(known)
    }

    fn remember(&self, hash: Hash, known: Known, until: Instant) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MANY {
            let now = Instant::now();
            all.retain(|_, (_, until)| now < *until);
        }
        if all.len() >= MANY {
            all.clear();
        }
        all.insert(hash, (known, until));
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The most that the bearer of a token may.
    fn right(&self, bearer: &Bearer) -> Option<Right> {
        let counts = match &bearer.reach {
            Reach::System => true,
            Reach::Project { id, name, domain } => self
                .projects
                .iter()
                .any(|project| project == id || (project == name && domain == DEFAULT_DOMAIN)),
            Reach::Elsewhere => false,
        };
        let rights = bearer.roles.iter().filter_map(|role| match role.to_ascii_lowercase().as_str() {
            "admin" => Some(Right::Manage),
            // `service` is what Nova and its like have.
            "manager" | "member" | "service" => Some(Right::Use),
            "reader" => Some(Right::See),
            _ => None,
        });
        rights.max().filter(|_| counts)
    }
}
