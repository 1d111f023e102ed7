//! Rules that the stores of one process share: where a list starts, and the change feed's retention, page limits and
//! waiting.

use std::ops::Bound;

use tokio::sync::watch;

use super::contract::{Change, Revision, StoreError};

/// Writes whose changes the feed retains.
pub(super) const RETAINED_WRITES: Revision = 10_000;

/// The lower bound of a list: behind `after`, but never before the prefix.
pub(super) fn list_start<'a>(prefix: &'a str, after: Option<&'a str>) -> Bound<&'a str> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    }
}

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

/// Waits for a revision that is news; fails once the sender is dropped.
pub(super) async fn wait_for_revision(
    mut latest: watch::Receiver<Revision>,
    is_news: impl Fn(Revision) -> bool,
) -> Result<Revision, StoreError> {
    match latest.wait_for(|revision| is_news(*revision)).await {
        Ok(revision) => Ok(*revision),
        Err(_) => Err(StoreError::Unavailable("the store is closed".into())),
    }
}
