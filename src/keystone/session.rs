//! [`Session`]: holds one authorization, and renews it by single flight.
//!
//! The request runs in a task of its own: a cancelled caller does not abort it, and all concurrent callers share its
//! result. A token is renewed while it is still valid. If the renewal fails, the old token stays in use.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::tokens::authenticate;
use super::{Authorization, Credentials, KeystoneError};

/// How long a refusal is cached. Keystone counts failed logins, and locks the user out after too many.
const REFUSAL_TTL: Duration = Duration::from_secs(10);
/// Back-off after an early renewal that failed.
const RENEWAL_BACKOFF: Duration = Duration::from_secs(5);

type AuthorizationResult = Result<Arc<Authorization>, KeystoneError>;
type Renewal = Shared<BoxFuture<'static, AuthorizationResult>>;

/// A Keystone session. It requests a token when the first caller needs one. Cheap to clone.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    credentials: Credentials,
    http: reqwest::Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Authorization>>,
    /// The request in flight.
    renewal: Option<Renewal>,
    /// The time and the error of the last request, if it failed.
    last_failure: Option<(Instant, KeystoneError)>,
}

impl Session {
    /// `http` has the CA bundle, and must follow no redirects: a redirect would send the secret to another server.
    pub fn new(credentials: Credentials, http: reqwest::Client) -> Self {
        let current = match &credentials {
            Credentials::None { user, project } => {
                Authorization::without_keystone(user, project).map(Arc::new)
            }
            _ => None,
        };
        let state = Mutex::new(State { current, ..State::default() });
        Self(Arc::new(Inner { credentials, http, state }))
    }

    /// Returns the current authorization if it is valid, else a new one.
    pub async fn authorization(&self) -> AuthorizationResult {
        let renewal = {
            let mut state = self.0.state.lock();
            let now = Instant::now();
            if let Some(current) = state.current.clone().filter(|current| current.is_valid(now)) {
                let backs_off =
                    state.last_failure.as_ref().is_some_and(|(at, _)| now < *at + RENEWAL_BACKOFF);
                if current.needs_renewal(now) && !backs_off {
                    // The task runs without a caller.
                    drop(self.start_or_join_renewal(&mut state));
                }
                return Ok(current);
            }
            state.check_recent_refusal(now)?;
            self.start_or_join_renewal(&mut state)
        };
        renewal.await
    }

    /// Returns a new authorization after a service has rejected `rejected`. If another caller has replaced it
    /// already, that replacement is returned.
    pub async fn reauthorize(&self, rejected: &Authorization) -> AuthorizationResult {
        let renewal = {
            let mut state = self.0.state.lock();
            let now = Instant::now();
            match &state.current {
                Some(current) if !std::ptr::eq(&raw const **current, rejected) && current.is_valid(now) => {
                    return Ok(Arc::clone(current));
                }
                _ => {}
            }
            if self.0.credentials.auth_url().is_none() {
                return Err(KeystoneError::Refused(
                    "the service requires a token, but auth_type is none".into(),
                ));
            }
            state.current = None;
            state.check_recent_refusal(now)?;
            self.start_or_join_renewal(&mut state)
        };
        renewal.await
    }

    fn start_or_join_renewal(&self, state: &mut State) -> Renewal {
        if let Some(renewal) = &state.renewal {
            return renewal.clone();
        }
        let session = self.clone();
        let task = tokio::spawn(async move {
            let result = authenticate(&session.0.http, &session.0.credentials).await.map(Arc::new);
            session.0.state.lock().record(&result);
            result
        });
        let renewal = async move {
            task.await.unwrap_or_else(|_| Err(KeystoneError::Unavailable("volboot is shutting down".into())))
        };
        let renewal = renewal.boxed().shared();
        state.renewal = Some(renewal.clone());
        renewal
    }

    /// The request in flight.
    #[cfg(test)]
    pub(super) fn renewal(&self) -> Option<Renewal> {
        self.0.state.lock().renewal.clone()
    }
}

impl State {
    /// Records the result of the request in flight.
    fn record(&mut self, result: &AuthorizationResult) {
        self.renewal = None;
        match result {
            Ok(authorization) => {
                self.current = Some(Arc::clone(authorization));
                self.last_failure = None;
            }
            Err(error) => {
                tracing::warn!(error = %error, "Keystone authentication failed");
                self.last_failure = Some((Instant::now(), error.clone()));
            }
        }
    }

    /// Returns the refusal that is still cached, as an error.
    fn check_recent_refusal(&self, now: Instant) -> Result<(), KeystoneError> {
        match &self.last_failure {
            Some((at, error @ KeystoneError::Refused(_))) if now < *at + REFUSAL_TTL => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("credentials", &self.0.credentials).finish_non_exhaustive()
    }
}
