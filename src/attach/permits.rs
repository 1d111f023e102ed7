//! [`Permits`]: bound the calls to Cinder that run concurrently outside of resolutions.
//!
//! The wait for a permit says nothing about Cinder. It has a time-out and a reason of its own, and takes no time of the
//! call.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::error::AttachError;

/// The time-out of the wait for a permit: with that of the call, less than a machine waits for its script.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(3);

/// Volumes that are checked, and those that are confirmed, concurrently.
const MAX_CONCURRENT: usize = 16;

/// The permits of checks and confirmations. Checks must not delay boot requests.
#[derive(Debug)]
pub(super) struct Permits {
    /// For previews and validations.
    pub(super) checks: PermitPool,
    /// For boot requests while the store is read-only.
    pub(super) confirmations: PermitPool,
}

impl Default for Permits {
    fn default() -> Self {
        let [checks, confirmations] = [(); 2].map(|()| PermitPool::new(MAX_CONCURRENT));
        Self { checks, confirmations }
    }
}

/// A bounded number of permits.
#[derive(Debug)]
pub(super) struct PermitPool {
    permits: Semaphore,
    size: usize,
}

impl PermitPool {
    fn new(size: usize) -> Self {
        Self { permits: Semaphore::new(size), size }
    }

    /// Waits for a permit, which is returned on drop.
    pub(super) async fn acquire(&self) -> Result<SemaphorePermit<'_>, AttachError> {
        let size = self.size;
        let busy = || AttachError::Transient(format!("{size} other requests to Cinder are in progress"));
        // The semaphore is never closed.
        timeout(PERMIT_TIMEOUT, self.permits.acquire()).await.ok().and_then(Result::ok).ok_or_else(busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_without_a_free_permit_ends_with_a_reason() {
        let pool = PermitPool::new(2);
        let first = pool.acquire().await;
        let second = pool.acquire().await;
        let error = pool.acquire().await.expect_err("no permit is free");
        assert_eq!(error.into_reason(), "2 other requests to Cinder are in progress");
        drop(first);
        assert!(second.is_ok() && pool.acquire().await.is_ok());
    }
}
