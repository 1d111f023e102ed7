//! [`Recovery`]: reopens the store after a failure of its disk, first read-only, then for writing.
//!
//! A failed operation leaves redb's database unusable, so the store is opened again in the same process. It is opened
//! over an overlay, which works on a full and on a read-only disk. From then on the writer thread tries to open it for
//! writing, at growing intervals.
//!
//! Invariant: a database over the overlay sees a file that does not change. An attempt to open the file for writing may
//! change it. So the attempt retires the overlay first, for a long export too, and a new one follows a failed attempt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::Database;
use tokio::sync::watch;

use super::current::Generation;
use super::direct::DiskHealth;
use super::open::{OpenStore, Source};
use crate::store::contract::{OpenError, Revision, StoreAccess, StoreError};
use crate::store::panics::CatchDrop;

/// The interval of attempts to open the store for writing doubles this often.
const MAX_DOUBLINGS: u32 = 2;

/// The current database, and how the next one is opened.
pub(super) struct Recovery {
    source: Source,
    generation: watch::Sender<Generation>,
    /// The disk of the current database.
    disk: Arc<DiskHealth>,
    /// While the store is read-only.
    retry: Option<Retry>,
}

#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    doublings: u32,
}

impl Retry {
    fn new(source: &Source, doublings: u32) -> Self {
        Self { at: Instant::now() + source.retry * (1 << doublings), doublings }
    }
}

impl Recovery {
    /// Begins with a database that was opened at start.
    pub(super) fn new(source: Source, open: &OpenStore, access: StoreAccess) -> Self {
        let retry = match &access {
            StoreAccess::ReadWrite => None,
            StoreAccess::ReadOnly(_) => Some(Retry::new(&source, 0)),
        };
        let generation = Generation { number: 0, database: Arc::clone(&open.database), access };
        Self { source, generation: watch::Sender::new(generation), disk: Arc::clone(&open.disk), retry }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Generation> {
        self.generation.subscribe()
    }

    pub(super) fn database(&self) -> Arc<CatchDrop<Database>> {
        Arc::clone(&self.generation.borrow().database)
    }

    pub(super) fn number(&self) -> u64 {
        self.generation.borrow().number
    }

    pub(super) fn access(&self) -> StoreAccess {
        self.generation.borrow().access.clone()
    }

    /// How long to wait before [`Recovery::try_restore`]. `None`: the store is open for writing.
    pub(super) fn next_attempt_in(&self) -> Option<Duration> {
        self.retry.map(|retry| retry.at.saturating_duration_since(Instant::now()))
    }

    /// Whether the disk has failed since the database was opened for writing.
    pub(super) fn has_disk_failure(&self) -> bool {
        self.retry.is_none() && self.disk.failure().is_some()
    }

    /// Reopens the store read-only after a failure. `cause` is the reason if the disk has none.
    pub(super) fn fall_back(&mut self, cause: &str) -> Result<Revision, StoreError> {
        let reason = match self.access() {
            StoreAccess::ReadOnly(reason) => reason,
            StoreAccess::ReadWrite => {
                self.disk.retire();
                self.describe(&self.disk.failure().unwrap_or_else(|| cause.to_owned()))
            }
        };
        if self.retry.is_none() {
            tracing::error!(
                reason,
                "store is read-only: changes are refused, machines boot; retrying until the disk accepts writes"
            );
        }
        self.retry.get_or_insert_with(|| Retry::new(&self.source, 0));
        self.open_read_only(reason)
    }

    /// Tries to open the store for writing.
    pub(super) fn try_restore(&mut self) -> Result<Revision, StoreError> {
        match self.source.open_writable(|| self.disk.retire()) {
            Ok(open) => {
                self.retry = None;
                let revision = open.revision;
                self.replace(open, StoreAccess::ReadWrite);
                tracing::info!(path = %self.source.path.display(), "store accepts changes again");
                Ok(revision)
            }
            Err(failure) => {
                let doublings = self.retry.map_or(0, |retry| (retry.doublings + 1).min(MAX_DOUBLINGS));
                let reason = failure.disk_failure.unwrap_or_else(|| failure.error.to_string());
                let reopened = self.open_read_only(self.describe(&reason));
                // After the attempt, which takes long on a slow disk.
                self.retry = Some(Retry::new(&self.source, doublings));
                reopened
            }
        }
    }

    fn open_read_only(&mut self, reason: String) -> Result<Revision, StoreError> {
        match self.source.open_read_only() {
            Ok(open) => {
                let revision = open.revision;
                self.replace(open, StoreAccess::ReadOnly(reason));
                Ok(revision)
            }
            Err(error) => {
                self.generation.send_modify(|generation| generation.access = StoreAccess::ReadOnly(reason));
                let is_damaged = matches!(error, OpenError::Damaged { .. });
                let error = format_chain(&error);
                tracing::error!(error, "cannot reopen the store");
                Err(if is_damaged { StoreError::Damaged(error) } else { StoreError::Unavailable(error) })
            }
        }
    }

    /// Replaces the current database. Reads that have begun on it are repeated.
    fn replace(&mut self, open: OpenStore, access: StoreAccess) {
        let OpenStore { database, disk, .. } = open;
        std::mem::replace(&mut self.disk, disk).retire();
        let number = self.number() + 1;
        self.generation.send_replace(Generation { number, database, access });
    }

    fn describe(&self, failure: &str) -> String {
        describe_failure(&self.source, failure)
    }
}

/// The reason why a store is read-only.
pub(super) fn describe_failure(source: &Source, failure: &str) -> String {
    format!("cannot write {}: {failure}", source.path.display())
}

/// An error and its causes on one line.
fn format_chain(error: &OpenError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
