//! [`HttpBasic`]: names and passwords in the `Authorization` header (RFC 7617).
//!
//! bcrypt is slow on purpose, so that is bounded here: at most so many checks at once, a limit on how long one waits
//! for its turn, and a memory of those that were right.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::Semaphore;

use super::Denied;
use super::htpasswd::{Htpasswd, HtpasswdError};

/// Checks at once: more would take the time of those who boot.
const CHECKS: usize = 2;
/// How long a check waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pairs that are remembered to be right (as many as Ironic remembers).
const REMEMBERED: usize = 256;

/// The file, what was read from it, and who has shown to be in it.
#[derive(Debug)]
pub(super) struct HttpBasic {
    file: PathBuf,
    state: Arc<Mutex<State>>,
    turns: Semaphore,
}

#[derive(Debug)]
struct State {
    known: Arc<Htpasswd>,
    right: HashSet<Digest>,
    /// Two keys, so that a chance collision is out of the question.
    keys: [RandomState; 2],
}

/// What stands for a pair of name and password. It says nothing of them to who does not know this process's keys.
type Digest = [u64; 2];

impl State {
    fn digest(&self, pair: (&str, &str)) -> Digest {
        self.keys.each_ref().map(|key| key.hash_one(pair))
    }
}

impl HttpBasic {
    /// Reads the file for the first time.
    pub(super) fn open(file: PathBuf) -> Result<Self, HtpasswdError> {
        let known = Htpasswd::read_blocking(&file, None)?.unwrap_or_default();
        let keys = [RandomState::new(), RandomState::new()];
        let state = State { known: Arc::new(known), right: HashSet::new(), keys };
        Ok(Self { file, state: Arc::new(Mutex::new(state)), turns: Semaphore::new(CHECKS) })
    }

    /// Whose name and password these headers have.
    pub(super) async fn check(&self, headers: &HeaderMap) -> Result<String, Denied> {
        let header = headers.get(header::AUTHORIZATION).ok_or(Denied::Missing)?;
        let (name, password) = header.to_str().ok().and_then(pair).ok_or(Denied::Malformed)?;
        self.refresh().await;
        let (known, digest) = {
            let state = lock(&self.state);
            let digest = state.digest((&name, &password));
            if state.right.contains(&digest) {
                return Ok(name);
            }
            (Arc::clone(&state.known), digest)
        };
        let turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Denied::Busy) };
        let checked = Arc::clone(&known);
        let checking = move || checked.verify_blocking(&name, &password).then_some(name);
        let Ok(Some(name)) = tokio::task::spawn_blocking(checking).await else { return Err(Denied::Wrong) };
        let mut state = lock(&self.state);
        // Not if the file has changed in the meantime.
        if Arc::ptr_eq(&state.known, &known) {
            if state.right.len() >= REMEMBERED {
                state.right.clear();
            }
            state.right.insert(digest);
        }
        Ok(name)
    }

    /// Reads the file again if it changed. One that cannot be used changes nothing: who is in stays in.
    async fn refresh(&self) {
        let version = lock(&self.state).known.version();
        let (file, state) = (self.file.clone(), Arc::clone(&self.state));
        let read = tokio::task::spawn_blocking(move || match Htpasswd::read_blocking(&file, version) {
            Ok(None) => {}
            Ok(Some(new)) => {
                tracing::info!(file = %file.display(), "the password file was read again");
                let mut state = lock(&state);
                state.known = Arc::new(new);
                state.right.clear();
            }
            Err(error) => {
                tracing::warn!(%error, "the password file cannot be used; what was in it still counts");
            }
        });
        if let Err(error) = read.await {
            tracing::error!(%error, "the password file was not looked at");
        }
    }
}

/// Nobody panics with the lock held, and if they did, what it guards would still be whole.
fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Name and password in an `Authorization` header.
fn pair(header: &str) -> Option<(String, String)> {
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
        HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse().expect("a value"))])
    }

    fn basic(pair: &str) -> HeaderMap {
        headers(&format!("Basic {}", STANDARD.encode(pair)))
    }

    fn write(file: &std::path::Path, name: &str, password: &str, cost: u32) {
        let hash = bcrypt::hash(password, cost).expect("hashes");
        std::fs::write(file, format!("{name}:{hash}\n")).expect("is written");
    }

    #[tokio::test]
    async fn who_is_in_the_file_is_let_in() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        write(file.path(), "ann", "pass:word", 4);
        let door = HttpBasic::open(file.path().to_owned()).expect("opens");
        assert_eq!(door.check(&basic("ann:pass:word")).await.as_deref(), Ok("ann"));
        assert_eq!(door.check(&basic("ann:wrong")).await, Err(Denied::Wrong));
        assert_eq!(door.check(&basic("eve:pass:word")).await, Err(Denied::Wrong));
        assert_eq!(door.check(&HeaderMap::new()).await, Err(Denied::Missing));
        for malformed in ["Basic", "Basic !", "Bearer abc", "Basic YW5u", "basic /w=="] {
            assert_eq!(door.check(&headers(malformed)).await, Err(Denied::Malformed), "{malformed}");
        }
    }

    #[tokio::test]
    async fn a_file_that_changes_counts_at_once_and_one_that_breaks_does_not() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        write(file.path(), "ann", "one", 4);
        let door = HttpBasic::open(file.path().to_owned()).expect("opens");
        assert_eq!(door.check(&basic("ann:one")).await.as_deref(), Ok("ann"));
        write(file.path(), "annabel", "two", 4);
        assert_eq!(door.check(&basic("ann:one")).await, Err(Denied::Wrong));
        assert_eq!(door.check(&basic("annabel:two")).await.as_deref(), Ok("annabel"));
        std::fs::write(file.path(), "nonsense").expect("is written");
        assert_eq!(door.check(&basic("annabel:two")).await.as_deref(), Ok("annabel"));
    }

    #[tokio::test]
    async fn a_right_password_is_checked_once_and_an_unknown_name_takes_as_long_as_a_wrong_password() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        write(file.path(), "ann", "one", 10);
        let door = HttpBasic::open(file.path().to_owned()).expect("opens");
        let measure = async |pair: &str| {
            let began = Instant::now();
            let _ = door.check(&basic(pair)).await;
            began.elapsed()
        };
        // A busy host may take longer for anything: of several times, the shortest is what it takes.
        let shortest = async |pair: &str| {
            let mut times = Vec::new();
            for _ in 0..5 {
                times.push(measure(pair).await);
            }
            times.into_iter().min().expect("five")
        };
        let first = measure("ann:one").await;
        let again = shortest("ann:one").await;
        assert!(again < first / 4, "{first:?}, then {again:?}");
        let (wrong, unknown) = (shortest("ann:two").await, shortest("eve:two").await);
        assert!(unknown > wrong / 4, "{wrong:?} for a wrong password, {unknown:?} for an unknown name");
    }
}
