//! [`LocalSession`]: sessions and claims of a store in one process.
//!
//! A claim's table is in memory, so a claim ends with the process at the latest. One store may have several sessions, for
//! tests of a cluster: see [`super::MemoryStore::join`].

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::contract::{Revision, StoreFuture};
use super::session::{Claim, ClaimHolder, ClaimId, Cluster, Instance, ReleaseClaim, SessionState};

/// The claims and announcements of all sessions.
#[derive(Debug, Default)]
pub(super) struct LocalClaims(Mutex<ClaimTable>);

#[derive(Debug, Default)]
struct ClaimTable {
    /// By work.
    claims: BTreeMap<String, ClaimEntry>,
    /// By session.
    instances: BTreeMap<String, (String, Timestamp, Vec<u8>)>,
    granted: Revision,
}

#[derive(Debug)]
struct ClaimEntry {
    revision: Revision,
    session: String,
    note: Vec<u8>,
}

impl ClaimTable {
    fn get_mut(&mut self, id: &ClaimId) -> Option<&mut ClaimEntry> {
        self.claims.get_mut(&id.work).filter(|entry| entry.revision == id.revision)
    }
}

impl LocalClaims {
    /// Whether a claim has not ended.
    pub(super) fn is_held(&self, id: &ClaimId) -> bool {
        self.0.lock().get_mut(id).is_some()
    }

    /// Ends a claim, if it has not ended.
    pub(super) fn remove(&self, id: &ClaimId) {
        let mut table = self.0.lock();
        if table.get_mut(id).is_some() {
            table.claims.remove(&id.work);
        }
    }
}

impl ReleaseClaim for LocalClaims {
    fn release_in_background(&self, id: &ClaimId) {
        self.remove(id);
    }
}

/// The session of one handle.
#[derive(Debug)]
pub(super) struct LocalSession {
    claims: Arc<LocalClaims>,
    current: Mutex<CurrentSession>,
}

#[derive(Debug)]
struct CurrentSession {
    id: String,
    state: watch::Sender<SessionState>,
}

impl CurrentSession {
    fn start() -> Self {
        Self { id: Uuid::new_v4().to_string(), state: watch::Sender::new(SessionState::Alive(None)) }
    }
}

impl Default for LocalSession {
    fn default() -> Self {
        Self::join(Arc::default())
    }
}

impl LocalSession {
    /// A new session beside the others of the table.
    pub(super) fn join(claims: Arc<LocalClaims>) -> Self {
        Self { claims, current: Mutex::new(CurrentSession::start()) }
    }

    pub(super) fn claims(&self) -> &Arc<LocalClaims> {
        &self.claims
    }

    /// Ends the session with its claims and its announcement, and starts a new one.
    pub(super) fn end(&self) {
        let mut current = self.current.lock();
        let mut table = self.claims.0.lock();
        table.claims.retain(|_, entry| entry.session != current.id);
        let announcement = table.instances.remove(&current.id);
        let ended = std::mem::replace(&mut *current, CurrentSession::start());
        if let Some(announcement) = announcement {
            table.instances.insert(current.id.clone(), announcement);
        }
        ended.state.send_replace(SessionState::Ended(Instant::now()));
    }

    /// Ends the session's claims without telling its process.
    #[cfg(test)]
    pub(super) fn expire_claims(&self) {
        let session = self.current.lock().id.clone();
        self.claims.0.lock().claims.retain(|_, entry| entry.session != session);
    }

    /// Ends the session for good.
    pub(super) fn close(&self) {
        self.claims.0.lock().instances.remove(&self.current.lock().id);
        self.end();
    }

    /// Sets the deadline of this session's claims.
    pub(super) fn set_deadline(&self, deadline: Option<Instant>) {
        self.current.lock().state.send_replace(SessionState::Alive(deadline));
    }

    fn list(&self) -> Vec<Instance> {
        let own = self.current.lock().id.clone();
        let table = self.claims.0.lock();
        let entries = table.instances.iter();
        let mut instances: Vec<Instance> = entries
            .map(|(session, (name, since, record))| Instance {
                session: session.clone(),
                name: name.clone(),
                since: *since,
                record: record.clone(),
                is_self: *session == own,
            })
            .collect();
        instances.sort_by(|a, b| (&a.name, &a.session).cmp(&(&b.name, &b.session)));
        instances
    }

    fn try_claim(&self, work: &str, note: &[u8]) -> Option<Claim> {
        let current = self.current.lock();
        let mut table = self.claims.0.lock();
        if table.claims.contains_key(work) {
            return None;
        }
        table.granted += 1;
        let revision = table.granted;
        let entry = ClaimEntry { revision, session: current.id.clone(), note: note.to_vec() };
        table.claims.insert(work.to_owned(), entry);
        let id = ClaimId { work: work.to_owned(), revision };
        Some(Claim::new(id, current.state.subscribe(), Arc::clone(&self.claims) as Arc<dyn ReleaseClaim>))
    }

    fn find_holder(&self, work: &str) -> Option<ClaimHolder> {
        let own = self.current.lock().id.clone();
        let table = self.claims.0.lock();
        let entry = table.claims.get(work)?;
        Some(ClaimHolder {
            id: ClaimId { work: work.to_owned(), revision: entry.revision },
            is_self: entry.session == own,
            session: entry.session.clone(),
            note: entry.note.clone(),
        })
    }
}

impl Cluster for LocalSession {
    fn announce<'a>(&'a self, name: &'a str, record: Vec<u8>) -> StoreFuture<'a, ()> {
        let session = self.current.lock().id.clone();
        let mut table = self.claims.0.lock();
        let since = table.instances.get(&session).map_or_else(Timestamp::now, |(_, since, _)| *since);
        table.instances.insert(session, (name.to_owned(), since, record));
        Box::pin(async { Ok(()) })
    }

    fn has_session(&self) -> bool {
        self.current.lock().state.borrow().is_alive()
    }

    fn instances(&self) -> StoreFuture<'_, Vec<Instance>> {
        Box::pin(async { Ok(self.list()) })
    }

    fn claim<'a>(&'a self, work: &'a str, note: &'a [u8]) -> StoreFuture<'a, Option<Claim>> {
        Box::pin(async move { Ok(self.try_claim(work, note)) })
    }

    fn holder<'a>(&'a self, work: &'a str) -> StoreFuture<'a, Option<ClaimHolder>> {
        Box::pin(async move { Ok(self.find_holder(work)) })
    }

    fn annotate<'a>(&'a self, claim: &'a ClaimId, note: &'a [u8]) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut table = self.claims.0.lock();
            Ok(table.get_mut(claim).map(|entry| entry.note = note.to_vec()).is_some())
        })
    }

    fn release(&self, claim: Claim) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.claims.remove(&claim.into_id());
            Ok(())
        })
    }
}
