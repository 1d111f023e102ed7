//! [`HttpBasic`]: HTTP Basic authentication (RFC 7617) against an htpasswd file.
//!
//! bcrypt is slow on purpose, so its load is bounded: the checks of each address ([`LoginLimiter`]), a time-out in the
//! queue, and a cache of verified credentials.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::AuthError;
use super::htpasswd::{Htpasswd, HtpasswdError};
use super::login_limiter::LoginLimiter;
use crate::telemetry::Metrics;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;

/// How long a check waits in the queue.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest time between two log lines about wrong passwords.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);
/// Entries in the cache of verified credentials (as many as Ironic caches).
const CACHE_SIZE: usize = 256;

/// Verifies names and passwords against the htpasswd file.
#[derive(Debug)]
pub(super) struct HttpBasic {
    file: PathBuf,
    state: Arc<Mutex<State>>,
    limiter: LoginLimiter,
    metrics: Metrics,
    last_warning: Mutex<Option<Instant>>,
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
    pub(super) fn open_blocking(file: PathBuf, metrics: Metrics) -> Result<Self, HtpasswdError> {
        let htpasswd = Htpasswd::read_blocking(&file, None)?.unwrap_or_default();
        let keys = [RandomState::new(), RandomState::new()];
        let state = State { htpasswd: Arc::new(htpasswd), verified: HashSet::new(), keys };
        let (state, limiter) = (Arc::new(Mutex::new(state)), LoginLimiter::new());
        Ok(Self { file, state, limiter, metrics, last_warning: Mutex::default() })
    }

    /// Authenticates the `Authorization` header of a client, and returns the name.
    pub(super) async fn check(&self, headers: &HeaderMap, client: IpAddr) -> Result<String, AuthError> {
        let header = headers.get(header::AUTHORIZATION).ok_or(AuthError::MissingCredentials)?;
        let (name, password) =
            header.to_str().ok().and_then(parse_credentials).ok_or(AuthError::MalformedCredentials)?;
        self.reload_if_changed().await;
        if self.is_verified((&name, &password)) {
            return Ok(name);
        }
        let check = self.check_password(&name, password, client);
        let result = tokio::time::timeout(QUEUE_TIMEOUT, check).await.unwrap_or(Err(AuthError::Busy));
        self.metrics.count_login(match result {
            Ok(()) => "ok",
            Err(AuthError::TooManyAttempts) => "limited",
            Err(AuthError::Busy) => "busy",
            Err(_) => "wrong",
        });
        if let Err(error) = result {
            self.log_refusal(client, error);
        }
        result.map(|()| name)
    }

    /// Checks a password that is not in the cache.
    async fn check_password(&self, name: &str, password: String, client: IpAddr) -> Result<(), AuthError> {
        let source = self.limiter.identify(client, name);
        let _lock = self.limiter.lock(source).await;
        // A client that starts several requests at once logs in with the first.
        if self.is_verified((name, &password)) {
            return Ok(());
        }
        if !self.limiter.take_check(source) {
            return Err(AuthError::TooManyAttempts);
        }
        let _turn = self.limiter.wait_for_turn(source).await.ok_or(AuthError::Busy)?;
        let (htpasswd, digest) = {
            let state = lock(&self.state);
            (Arc::clone(&state.htpasswd), state.digest((name, &password)))
        };
        let (current, checked_name) = (Arc::clone(&htpasswd), name.to_owned());
        let verify = move || current.verify_blocking(&checked_name, &password);
        if !tokio::task::spawn_blocking(verify).await.unwrap_or(false) {
            return Err(AuthError::InvalidCredentials);
        }
        self.limiter.remember(source);
        let mut state = lock(&self.state);
        // A result is cached only if the file was not reloaded meanwhile.
        if Arc::ptr_eq(&state.htpasswd, &htpasswd) {
            if state.verified.len() >= CACHE_SIZE {
                state.verified.clear();
            }
            state.verified.insert(digest);
        }
        Ok(())
    }

    /// Whether the credentials are in the cache.
    fn is_verified(&self, credentials: (&str, &str)) -> bool {
        let state = lock(&self.state);
        state.verified.contains(&state.digest(credentials))
    }

    fn log_refusal(&self, client: IpAddr, error: AuthError) {
        let mut last_warning = self.last_warning.lock();
        if last_warning.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL) {
            *last_warning = Some(Instant::now());
            tracing::warn!(%client, %error, "log-in refused");
        }
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
    use std::net::Ipv4Addr;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

    fn open(file: &std::path::Path) -> Result<HttpBasic, HtpasswdError> {
        HttpBasic::open_blocking(file.to_owned(), Metrics::new())
    }

    async fn check(auth: &HttpBasic, headers: &HeaderMap) -> Result<String, AuthError> {
        auth.check(headers, CLIENT).await
    }

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
        let auth = open(file.path()).expect("valid file");
        assert_eq!(check(&auth, &basic("ann:pass:word")).await.as_deref(), Ok("ann"));
        assert_eq!(check(&auth, &basic("ann:wrong")).await, Err(AuthError::InvalidCredentials));
        assert_eq!(check(&auth, &basic("eve:pass:word")).await, Err(AuthError::InvalidCredentials));
        assert_eq!(check(&auth, &HeaderMap::new()).await, Err(AuthError::MissingCredentials));
        for malformed in ["Basic", "Basic !", "Bearer abc", "Basic YW5u", "basic /w=="] {
            assert_eq!(
                check(&auth, &headers(malformed)).await,
                Err(AuthError::MalformedCredentials),
                "{malformed}"
            );
        }
    }

    #[tokio::test]
    async fn a_changed_file_is_reloaded_at_once_and_a_broken_file_is_ignored() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        write(file.path(), "ann", "one", 4);
        let auth = open(file.path()).expect("valid file");
        assert_eq!(check(&auth, &basic("ann:one")).await.as_deref(), Ok("ann"));
        write(file.path(), "annabel", "two", 4);
        assert_eq!(check(&auth, &basic("ann:one")).await, Err(AuthError::InvalidCredentials));
        assert_eq!(check(&auth, &basic("annabel:two")).await.as_deref(), Ok("annabel"));
        std::fs::write(file.path(), "nonsense").expect("write succeeds");
        assert_eq!(check(&auth, &basic("annabel:two")).await.as_deref(), Ok("annabel"));
    }

    #[tokio::test]
    async fn wrong_passwords_of_one_address_deny_no_log_in_from_another() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        write(file.path(), "ann", "one", 4);
        let auth = open(file.path()).expect("valid file");
        assert_eq!(check(&auth, &basic("ann:one")).await.as_deref(), Ok("ann"));
        let wrong: Vec<_> = (0..100).map(|n| basic(&format!("eve:{n}"))).collect();
        let flood = futures_util::future::join_all(wrong.iter().map(|headers| check(&auth, headers)));
        // The file is written again, so the cache of verified credentials is empty.
        write(file.path(), "ann", "second", 4);
        let (fresh, other) = (basic("ann:second"), IpAddr::from([192, 0, 2, 8]));
        let (flood, same, other) = tokio::join!(flood, check(&auth, &fresh), auth.check(&fresh, other));
        assert_eq!((same.as_deref(), other.as_deref()), (Ok("ann"), Ok("ann")));
        let limited = flood.iter().filter(|result| **result == Err(AuthError::TooManyAttempts)).count();
        assert!((80..100).contains(&limited), "{limited}");
        assert_eq!(check(&auth, &basic("bob:right?")).await, Err(AuthError::TooManyAttempts));
    }

    #[tokio::test]
    async fn verified_credentials_are_cached_and_timing_does_not_reveal_names() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        write(file.path(), "ann", "one", 10);
        let auth = open(file.path()).expect("valid file");
        // Each check comes from an address of its own, so none is limited.
        let clients = std::cell::Cell::new(0u32);
        let next_client = || {
            clients.set(clients.get() + 1);
            IpAddr::from(Ipv4Addr::from_bits(clients.get()))
        };
        let measure = async |credentials: &str| {
            let start = Instant::now();
            let _ = auth.check(&basic(credentials), next_client()).await;
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
