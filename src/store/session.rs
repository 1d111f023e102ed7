//! [`Cluster`]: the part of the contract for several instances on one store: sessions, announcements, claims.
//!
//! A process has one *session* at a time. A shared store ends the session of a process that no longer responds; the
//! process then gets a new session. An *announcement* and a *claim* end with their session.
//!
//! A claim is mutual exclusion by a lease, and a lease alone is no safety: a holder that was suspended wakes up without
//! its claim. Two rules make claims safe:
//!
//! * *Fencing.* Every write of claimed work carries [`super::Condition::Held`]. The store refuses such a write, as a
//!   conflict, after the claim has ended.
//! * *Deadline.* Before each call to another service, the holder reads [`Claim::must_stop_by`]; no call has a time-out
//!   beyond it. The deadline is that of this process's monotonic clock. No wall clock decides.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::error::{Revision, StoreFuture};

/// A live process of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The id of its session. A restart and a lost session change it.
    pub session: String,
    /// Its configured name. Two instances with one name are an error of the configuration; both are listed.
    pub name: String,
    /// The first announcement of the session, by the instance's own clock: for operators only.
    pub since: Timestamp,
    /// Its announcement: a JSON document that the store does not interpret.
    pub record: Vec<u8>,
    /// Whether this process is the instance.
    pub is_self: bool,
}

/// The identity of a claim: a later claim on the same work has another revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimId {
    /// The claimed work, such as `volume/<id>`.
    pub work: String,
    /// The revision at which the store granted the claim.
    pub revision: Revision,
}

/// The holder of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimHolder {
    /// The claim.
    pub id: ClaimId,
    /// The id of the holder's session, as in [`Instance::session`].
    pub session: String,
    /// Whether a task of this process holds the claim.
    pub is_self: bool,
    /// The claim's note.
    pub note: Vec<u8>,
}

/// The state of a session, as its process knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionState {
    /// The session is alive until the deadline, if it has one.
    Alive(Option<Instant>),
    /// The session ended at this time.
    Ended(Instant),
}

impl SessionState {
    /// Whether the session has not ended, and its deadline has not passed.
    pub(super) fn is_alive(self) -> bool {
        match self {
            Self::Alive(deadline) => deadline.is_none_or(|deadline| Instant::now() < deadline),
            Self::Ended(_) => false,
        }
    }
}

/// Gives a claim back without waiting for the store.
pub(super) trait ReleaseClaim: Send + Sync {
    fn release_in_background(&self, id: &ClaimId);
}

/// A held claim. Its drop gives it back in the background; [`Cluster::release`] waits for the store.
pub struct Claim {
    id: ClaimId,
    session: watch::Receiver<SessionState>,
    owner: Option<Arc<dyn ReleaseClaim>>,
}

impl Claim {
    pub(super) fn new(
        id: ClaimId,
        session: watch::Receiver<SessionState>,
        owner: Arc<dyn ReleaseClaim>,
    ) -> Self {
        Self { id, session, owner: Some(owner) }
    }

    /// The claim's identity, for [`super::Condition::Held`].
    pub fn id(&self) -> &ClaimId {
        &self.id
    }

    /// When the holder must have stopped: the session's time to live after the last confirmed keep-alive, minus a
    /// margin. Each confirmed keep-alive moves it. `None`: the session lasts as long as the process.
    pub fn must_stop_by(&self) -> Option<Instant> {
        match *self.session.borrow() {
            SessionState::Alive(deadline) => deadline,
            SessionState::Ended(at) => Some(at),
        }
    }

    /// Whether the claim has ended, or may have ended: the deadline has passed.
    pub fn is_lost(&self) -> bool {
        self.must_stop_by().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Waits until the claim is lost; for ever, if the session lasts as long as the process.
    pub async fn wait_for_loss(&self) {
        let mut session = self.session.clone();
        loop {
            let deadline = match *session.borrow_and_update() {
                SessionState::Alive(deadline) => deadline,
                SessionState::Ended(_) => return,
            };
            let passed = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = session.changed() => if changed.is_err() { return },
                () = passed => return,
            }
        }
    }

    /// Returns the identity; the claim is then given back by a batch, or ends with the session.
    pub fn into_id(mut self) -> ClaimId {
        self.owner = None;
        self.id.clone()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(owner) = &self.owner {
            owner.release_in_background(&self.id);
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claim").field(&self.id).finish()
    }
}

/// The instances on a store, and the work that they claim. A store in one process has one instance: itself.
pub trait Cluster: Send + Sync {
    /// Announces this process; replaces the session's earlier announcement. A new session repeats it.
    fn announce<'a>(&'a self, name: &'a str, record: Vec<u8>) -> StoreFuture<'a, ()>;

    /// Whether this process has a session: without one, it can claim no work. May be old by the session's time to live.
    fn has_session(&self) -> bool;

    /// Lists the announced instances with a live session, by name and session.
    fn instances(&self) -> StoreFuture<'_, Vec<Instance>>;

    /// Claims work for this process's session. `None`: the work is claimed, by another session or by this one.
    ///
    /// A record that was read before the claim was granted may be old: read it again.
    fn claim<'a>(&'a self, work: &'a str, note: &'a [u8]) -> StoreFuture<'a, Option<Claim>>;

    /// Reads the holder of a claim. The answer may be old once it arrives; only a condition decides.
    fn holder<'a>(&'a self, work: &'a str) -> StoreFuture<'a, Option<ClaimHolder>>;

    /// Replaces the note of a claim of this process. Returns whether the claim is still held.
    ///
    /// The note ends with the claim. State that a successor needs belongs in a record, or the successor reads the note
    /// while the claim is held. A time in a note is an age by the holder's monotonic clock.
    fn annotate<'a>(&'a self, claim: &'a ClaimId, note: &'a [u8]) -> StoreFuture<'a, bool>;

    /// Gives a claim back. A lost claim is no error.
    fn release(&self, claim: Claim) -> StoreFuture<'_, ()>;
}
