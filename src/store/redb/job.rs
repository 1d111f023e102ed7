//! [`StoreJob`]: the jobs of the writer thread.

use tokio::sync::oneshot;

use crate::store::{Batch, Revision, StoreError, WriteError};

/// A job in the writer thread's queue.
pub(super) enum StoreJob {
    Write(Batch, oneshot::Sender<Result<Revision, WriteError>>),
    /// A read failed on the database of this number.
    Reopen(u64),
    Close(oneshot::Sender<Result<(), StoreError>>),
}
