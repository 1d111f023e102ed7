//! [`CurrentDatabase`]: the database that reads use, replaced when the store is reopened.

use std::sync::Arc;
use std::time::Duration;

use redb::Database;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::file::{needs_reopening, run, unavailable};
use super::job::StoreJob;
use crate::store::contract::{StoreAccess, StoreError};
use crate::store::panics::CatchDrop;

/// The most records of a read on an async thread: some tenths of a millisecond.
pub(super) const SHORT_READ: usize = 128;
/// How long a read waits for the store to be reopened after a failure.
const REOPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// One opened database, until the next reopening.
#[derive(Clone)]
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) database: Arc<CatchDrop<Database>>,
    pub(super) access: StoreAccess,
}

/// The reading end; the writer thread has the other end.
#[derive(Clone)]
pub(super) struct CurrentDatabase(pub(super) watch::Receiver<Generation>);

impl CurrentDatabase {
    pub(super) fn access(&self) -> StoreAccess {
        self.0.borrow().access.clone()
    }

    /// Runs a short read on this thread, a long one on a blocking thread.
    ///
    /// redb refuses all operations after a failed one. The read is then repeated once on the reopened database.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        records: usize,
        jobs: &mpsc::Sender<StoreJob>,
        read: impl Fn(&Database) -> Result<T, redb::Error> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        let generation = self.0.borrow().clone();
        let error = match run_read(&generation, records, read.clone()).await? {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if !needs_reopening(&error) {
            return Err(unavailable(error));
        }
        // With a full queue, the writer thread finds the failure by itself.
        let _ = jobs.try_send(StoreJob::Reopen(generation.number));
        let mut reopened = self.0.clone();
        match timeout(REOPEN_TIMEOUT, reopened.wait_for(|next| next.number > generation.number)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(unavailable(error)),
        }
        let generation = self.0.borrow().clone();
        run_read(&generation, records, read).await?.map_err(unavailable)
    }
}

/// Runs a read. The outer error: the runtime has no blocking thread.
async fn run_read<T: Send + 'static>(
    generation: &Generation,
    records: usize,
    read: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
) -> Result<Result<T, redb::Error>, StoreError> {
    if records <= SHORT_READ {
        return Ok(run(|| read(&generation.database)));
    }
    let database = Arc::clone(&generation.database);
    let read = tokio::task::spawn_blocking(move || run(|| read(&database))).await;
    read.map_err(|error| StoreError::Unavailable(error.to_string()))
}
