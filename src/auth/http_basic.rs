//! [`HttpBasic`]: HTTP Basic authentication (RFC 7617) against an htpasswd file.
//!
//! bcrypt is slow on purpose, so its load is bounded: a limit on concurrent checks, a time-out in the queue, and a
//! cache of verified credentials.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::AuthError;
use super::htpasswd::{Htpasswd, HtpasswdError};

/// Concurrent bcrypt checks: more would take CPU time from booting machines.
const MAX_CONCURRENT_CHECKS: usize = 2;
/// How long a check waits in the queue.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// Entries in the cache of verified credentials (as many as Ironic caches).
const CACHE_SIZE: usize = 256;

/// Verifies names and passwords against the htpasswd file.
#[derive(Debug)]
pub(super) struct HttpBasic {
    file: PathBuf,
    state: Arc<Mutex<State>>,
    permits: Semaphore,
}

#[derive(Debug)]
struct State {
    htpasswd: Arc<Htpasswd>,
    /// The cache of verified credentials.
    verified: HashSet<Digest>,
    /// Two random keys: 128 bits make an accidental collision negligible.
    keys: [RandomState; 2],
}

/// Keyed hash of a name and a password. Without this process's keys it reveals neither.
type Digest = [u64; 2];

impl State {
    fn digest(&self, credentials: (&str, &str)) -> Digest {
        self.keys.each_ref().map(|key| key.hash_one(credentials))
    }
}

impl HttpBasic {
    /// Reads the file for the first time.
    pub(super) fn open_blocking(file: PathBuf) -> Result<Self, HtpasswdError> {
        let htpasswd = Htpasswd::read_blocking(&file, None)?.unwrap_or_default();
        let keys = [RandomState::new(), RandomState::new()];
        let state = State { htpasswd: Arc::new(htpasswd), verified: HashSet::new(), keys };
        Ok(Self { file, state: Arc::new(Mutex::new(state)), permits: Semaphore::new(MAX_CONCURRENT_CHECKS) })
    }

    /// Authenticates the `Authorization` header and returns the name.
    pub(super) async fn check(&self, headers: &HeaderMap) -> Result<String, AuthError> {
        let header = headers.get(header::AUTHORIZATION).ok_or(AuthError::MissingCredentials)?;
        let (name, password) =
            header.to_str().ok().and_then(parse_credentials).ok_or(AuthError::MalformedCredentials)?;
        self.reload_if_changed().await;
        let (htpasswd, digest) = {
            let state = lock(&self.state);
            let digest = state.digest((&name, &password));
            if state.verified.contains(&digest) {
                return Ok(name);
            }
            (Arc::clone(&state.htpasswd), digest)
        };
        let permit = tokio::time::timeout(QUEUE_TIMEOUT, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else { return Err(AuthError::Busy) };
        let current = Arc::clone(&htpasswd);
        let verify = move || current.verify_blocking(&name, &password).then_some(name);
        let Ok(Some(name)) = tokio::task::spawn_blocking(verify).await else {
            return Err(AuthError::InvalidCredentials);
        };
        let mut state = lock(&self.state);
        // A result is cached only if the file was not reloaded meanwhile.
        if Arc::ptr_eq(&state.htpasswd, &htpasswd) {
            if state.verified.len() >= CACHE_SIZE {
                state.verified.clear();
            }
            state.verified.insert(digest);
        }
        Ok(name)
    }

    /// Reloads the file if it changed. On an error the previous content stays in effect.
    async fn reload_if_changed(&self) {
        let version = lock(&self.state).htpasswd.version();
        let (file, state) = (self.file.clone(), Arc::clone(&self.state));
        let task = tokio::task::spawn_blocking(move || match Htpasswd::read_blocking(&file, version) {
            Ok(None) => {}
            Ok(Some(htpasswd)) => {
                tracing::info!(file = %file.display(), "htpasswd file reloaded");
                let mut state = lock(&state);
                state.htpasswd = Arc::new(htpasswd);
                state.verified.clear();
            }
            Err(error) => {
                tracing::warn!(%error, "cannot reload the htpasswd file; the previous content stays in effect");
            }
        });
        if let Err(error) = task.await {
            tracing::error!(%error, "cannot check the htpasswd file for changes");
        }
    }
}

/// Ignores poison: no code panics while holding the lock, and the state would be consistent even then.
fn lock(state: &Mutex<State>) -> parking_lot::MutexGuard<'_, State> {
    state.lock()
}

/// Name and password from an `Authorization` header.
fn parse_credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse().expect("header value"))])
    }

    fn basic(credentials: &str) -> HeaderMap {
        headers(&format!("Basic {}", STANDARD.encode(credentials)))
    }

    fn write(file: &std::path::Path, name: &str, password: &str, cost: u32) {
        let hash = bcrypt::hash(password, cost).expect("bcrypt hash");
        std::fs::write(file, format!("{name}:{hash}\n")).expect("write succeeds");
    }

    #[tokio::test]
    async fn names_in_the_file_are_accepted_with_their_password() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        write(file.path(), "ann", "pass:word", 4);
        let auth = HttpBasic::open_blocking(file.path().to_owned()).expect("valid file");
        assert_eq!(auth.check(&basic("ann:pass:word")).await.as_deref(), Ok("ann"));
        assert_eq!(auth.check(&basic("ann:wrong")).await, Err(AuthError::InvalidCredentials));
        assert_eq!(auth.check(&basic("eve:pass:word")).await, Err(AuthError::InvalidCredentials));
        assert_eq!(auth.check(&HeaderMap::new()).await, Err(AuthError::MissingCredentials));
        for malformed in ["Basic", "Basic !", "Bearer abc", "Basic YW5u", "basic /w=="] {
            assert_eq!(
                auth.check(&headers(malformed)).await,
                Err(AuthError::MalformedCredentials),
                "{malformed}"
            );
        }
    }

    #[tokio::test]
    async fn a_changed_file_is_reloaded_at_once_and_a_broken_file_is_ignored() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        write(file.path(), "ann", "one", 4);
        let auth = HttpBasic::open_blocking(file.path().to_owned()).expect("valid file");
        assert_eq!(auth.check(&basic("ann:one")).await.as_deref(), Ok("ann"));
        write(file.path(), "annabel", "two", 4);
        assert_eq!(auth.check(&basic("ann:one")).await, Err(AuthError::InvalidCredentials));
        assert_eq!(auth.check(&basic("annabel:two")).await.as_deref(), Ok("annabel"));
        std::fs::write(file.path(), "nonsense").expect("write succeeds");
        assert_eq!(auth.check(&basic("annabel:two")).await.as_deref(), Ok("annabel"));
    }

    #[tokio::test]
    async fn verified_credentials_are_cached_and_timing_does_not_reveal_names() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        write(file.path(), "ann", "one", 10);
        let auth = HttpBasic::open_blocking(file.path().to_owned()).expect("valid file");
        let measure = async |credentials: &str| {
            let start = Instant::now();
            let _ = auth.check(&basic(credentials)).await;
            start.elapsed()
        };
        // A busy host adds noise: the shortest of several measurements is the most accurate.
        let shortest = async |credentials: &str| {
            let mut times = Vec::new();
            for _ in 0..5 {
                times.push(measure(credentials).await);
            }
            times.into_iter().min().expect("five samples")
        };
        let first = measure("ann:one").await;
        let cached = shortest("ann:one").await;
        assert!(cached < first / 4, "{first:?} uncached, {cached:?} cached");
        let (wrong, unknown) = (shortest("ann:two").await, shortest("eve:two").await);
        assert!(unknown > wrong / 4, "{wrong:?} for a wrong password, {unknown:?} for an unknown name");
    }
}
