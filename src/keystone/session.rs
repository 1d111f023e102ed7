//! [`Session`]: one authorization at a time, renewed by one request at a time.
//!
//! The request runs in a task of its own, so a caller that leaves halves nothing, and all who need a token while it
//! runs get its answer. A token that is about to end is renewed while it is still used; if that fails, it is used on.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::time::Instant;

use super::exchange::authenticate;
use super::{Authorization, Credentials, KeystoneError};

/// How long a no from Keystone stands before it is asked again: it counts wrong passwords, and locks users out.
const NO_STANDS: Duration = Duration::from_secs(10);
/// How long an early renewal that failed is not tried again.
const PAUSE: Duration = Duration::from_secs(5);

type Outcome = Result<Arc<Authorization>, KeystoneError>;

/// Who we are, with a token when there is need of one. Cheap to clone; made without a request.
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
    /// The request that runs.
    renewal: Option<Shared<BoxFuture<'static, Outcome>>>,
    /// How the last request failed, and when.
    failed: Option<(Instant, KeystoneError)>,
}

impl Session {
    /// `http` knows the certificates to trust, and follows no redirections: they would carry the secret elsewhere.
    pub fn new(credentials: Credentials, http: reqwest::Client) -> Self {
        let current = match &credentials {
            Credentials::None { user, project } => Authorization::unasked(user, project).map(Arc::new),
            _ => None,
        };
        let state = Mutex::new(State { current, ..State::default() });
        Self(Arc::new(Inner { credentials, http, state }))
    }

    /// The authorization to be used now: the one there is, or a new one.
    pub async fn authorization(&self) -> Outcome {
        let renewal = {
            let mut state = self.state();
            let now = Instant::now();
            if let Some(current) = state.current.clone().filter(|current| current.lives(now)) {
                let failed = state.failed.as_ref().is_some_and(|(at, _)| now < *at + PAUSE);
                if !current.is_fresh(now) && !failed {
                    // It runs by itself.
                    drop(self.renew(&mut state));
                }
                return Ok(current);
            }
            state.no_of_late(now)?;
            self.renew(&mut state)
        };
        renewal.await
    }

    /// After a service did not accept `rejected`: a new authorization, unless there is one already that somebody else
    /// got in the meantime.
    pub async fn renewed(&self, rejected: &Authorization) -> Outcome {
        let renewal = {
            let mut state = self.state();
            let now = Instant::now();
            match &state.current {
                Some(current) if !std::ptr::eq(&raw const **current, rejected) && current.lives(now) => {
                    return Ok(Arc::clone(current));
                }
                _ => {}
            }
            if self.0.credentials.auth_url().is_none() {
                return Err(KeystoneError::Refused(
                    "the service wants a token, but auth_type is none".into(),
                ));
            }
            state.current = None;
            state.no_of_late(now)?;
            self.renew(&mut state)
        };
        renewal.await
    }

    /// The request that runs, or a new one.
    fn renew(&self, state: &mut State) -> Shared<BoxFuture<'static, Outcome>> {
        if let Some(renewal) = &state.renewal {
            return renewal.clone();
        }
        let session = self.clone();
        let task = tokio::spawn(async move {
            let outcome = authenticate(&session.0.http, &session.0.credentials).await.map(Arc::new);
            session.state().done(&outcome);
            outcome
        });
        let renewal = async move {
            task.await.unwrap_or_else(|_| Err(KeystoneError::Away("volboot is about to stop".into())))
        };
        let renewal = renewal.boxed().shared();
        state.renewal = Some(renewal.clone());
        renewal
    }

    /// The request that runs.
    #[cfg(test)]
    pub(super) fn running(&self) -> Option<Shared<BoxFuture<'static, Outcome>>> {
        self.state().renewal.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn done(&mut self, outcome: &Outcome) {
        self.renewal = None;
        match outcome {
            Ok(authorization) => {
                self.current = Some(Arc::clone(authorization));
                self.failed = None;
            }
            Err(error) => {
                tracing::warn!(error = %error, "no authorization by Keystone");
                self.failed = Some((Instant::now(), error.clone()));
            }
        }
    }

    /// A no that came a moment ago, as an error.
    fn no_of_late(&self, now: Instant) -> Result<(), KeystoneError> {
        match &self.failed {
            Some((at, error @ KeystoneError::Refused(_))) if now < *at + NO_STANDS => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("credentials", &self.0.credentials).finish_non_exhaustive()
    }
}
