//! [`TokenCache`]: authentication with Keystone tokens from the `X-Auth-Token` header.
//!
//! Roles grant access as in Ironic: *reader* reads, *member* also updates, *admin* also creates and deletes nodes and
//! ports. A role counts if the token has system scope, or the scope of a project that the operator listed (as with
//! Ironic's `rbac_service_project_name`). Owners and lessees of single nodes are not supported.
//!
//! A validation is cached for one minute, so a revoked token keeps working for at most as long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{AccessRole, AuthError, Caller};
use crate::keystone::{Bearer, TokenScope, Validator};

/// How long a validated token is cached.
const CACHE_TTL: Duration = Duration::from_secs(60);
/// Tokens in the cache.
const CACHE_SIZE: usize = 1024;
/// Concurrent validations: a client that sends invalid tokens must not overload Keystone.
const MAX_CONCURRENT_VALIDATIONS: usize = 8;
/// How long a validation waits in the queue.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// The domain whose projects may be listed by name. Projects of other domains need their id. Otherwise the
/// administrator of any domain could gain access with a new project of the same name.
const DEFAULT_DOMAIN: &str = "default";

/// Validates tokens with Keystone and caches the results.
#[derive(Debug)]
pub(super) struct TokenCache {
    validator: Validator,
    projects: Vec<String>,
    /// Results with the end of their life.
    entries: Mutex<HashMap<TokenHash, (CachedCaller, Instant)>>,
    permits: Semaphore,
}

/// SHA-256 of a token: the cache holds no usable credentials.
type TokenHash = [u8; 32];
/// The caller; `None` if no role of the token grants access.
type CachedCaller = Option<Arc<Caller>>;

impl TokenCache {
    pub(super) fn new(validator: Validator, projects: Vec<String>) -> Self {
        Self {
            validator,
            projects,
            entries: Mutex::default(),
            permits: Semaphore::new(MAX_CONCURRENT_VALIDATIONS),
        }
    }

    /// The `WWW-Authenticate` header: the Keystone that issues tokens.
    pub(super) fn challenge(&self) -> Option<HeaderValue> {
        format!("Keystone uri=\"{}\"", self.validator.auth_url()).parse().ok()
    }

    /// Authenticates the `X-Auth-Token` header.
    pub(super) async fn check(&self, headers: &HeaderMap) -> Result<Arc<Caller>, AuthError> {
        let token =
            headers.get("x-auth-token").filter(|token| !token.is_empty()).ok_or(AuthError::InvalidToken)?;
        let hash: TokenHash = Sha256::digest(token).into();
        let cached = self.entries.lock().get(&hash).cloned();
        let caller = match cached {
            Some((caller, expires_at)) if Instant::now() < expires_at => caller,
            _ => self.validate(token, hash).await?,
        };
        caller.ok_or(AuthError::NoRole)
    }

    async fn validate(&self, token: &HeaderValue, hash: TokenHash) -> Result<CachedCaller, AuthError> {
        let permit = tokio::time::timeout(QUEUE_TIMEOUT, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else { return Err(AuthError::Busy) };
        let started_at = Instant::now();
        let bearer = self.validator.validate(token).await.map_err(|error| {
            tracing::error!(%error, "cannot validate a token");
            AuthError::Unavailable
        })?;
        let bearer = bearer.ok_or(AuthError::InvalidToken)?;
        let expires_at = started_at + CACHE_TTL.min(bearer.lifetime);
        let role = self.access_role(&bearer);
        let caller = role.map(|role| Arc::new(Caller { role, name: Some(bearer.user) }));
        self.insert(hash, caller.clone(), expires_at);
        Ok(caller)
    }

    fn insert(&self, hash: TokenHash, caller: CachedCaller, expires_at: Instant) {
        let mut entries = self.entries.lock();
        if entries.len() >= CACHE_SIZE {
            let now = Instant::now();
            entries.retain(|_, (_, expires_at)| now < *expires_at);
        }
        if entries.len() >= CACHE_SIZE {
            entries.clear();
        }
        entries.insert(hash, (caller, expires_at));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// The highest role of a token that grants access.
    fn access_role(&self, bearer: &Bearer) -> Option<AccessRole> {
        let is_in_scope = match &bearer.scope {
            TokenScope::System => true,
            TokenScope::Project { id, name, domain } => self
                .projects
                .iter()
                .any(|project| project == id || (project == name && domain == DEFAULT_DOMAIN)),
            TokenScope::Other => false,
        };
        let roles = bearer.roles.iter().filter_map(|role| match role.to_ascii_lowercase().as_str() {
            "admin" => Some(AccessRole::Admin),
            // `service` is the role of Nova and other OpenStack services.
            "manager" | "member" | "service" => Some(AccessRole::Member),
            "reader" => Some(AccessRole::Reader),
            _ => None,
        });
        roles.max().filter(|_| is_in_scope)
    }
}
