//! The change feed's rules, common to all stores of one process: retention, page limits and waiting.

use tokio::sync::watch;

use super::contract::{Change, Revision, StoreError};

/// Writes whose changes the feed retains.
pub(super) const RETAINED_WRITES: Revision = 10_000;

/// Takes the first `limit` changes, and the remaining changes of the last write among them.
pub(super) fn take_whole_writes(changes: impl Iterator<Item = Change>, limit: usize) -> Vec<Change> {
    let mut page: Vec<Change> = Vec::new();
    for change in changes {
        if page.len() >= limit && page.last().is_some_and(|last| last.revision != change.revision) {
            break;
        }
        page.push(change);
    }
    page
}

/// Waits for a revision greater than `after`; fails once the sender is dropped.
pub(super) async fn wait_for_revision(
    mut latest: watch::Receiver<Revision>,
    after: Revision,
) -> Result<Revision, StoreError> {
    match latest.wait_for(|revision| *revision > after).await {
        Ok(revision) => Ok(*revision),
        Err(_) => Err(StoreError::Unavailable("the store is closed".into())),
    }
}
