//! What the stores of one process share to tell of changes: how many are kept, how they are cut, how one waits.

use tokio::sync::watch;

use super::contract::{Change, Revision, StoreError};

/// Writes whose changes are kept for the feed.
pub(super) const KEPT_WRITES: Revision = 10_000;

/// The first `limit` changes, and what else belongs to the last of their writes.
pub(super) fn whole_writes(changes: impl Iterator<Item = Change>, limit: usize) -> Vec<Change> {
    let mut taken: Vec<Change> = Vec::new();
    for change in changes {
        if taken.len() >= limit && taken.last().is_some_and(|last| last.revision != change.revision) {
            break;
        }
        taken.push(change);
    }
    taken
}

/// Waits until the latest revision is greater than `after`; fails when its sender is gone.
pub(super) async fn wait_for(
    mut latest: watch::Receiver<Revision>,
    after: Revision,
) -> Result<Revision, StoreError> {
    match latest.wait_for(|revision| *revision > after).await {
        Ok(revision) => Ok(*revision),
        Err(_) => Err(StoreError::Unavailable("it was closed".into())),
    }
}
