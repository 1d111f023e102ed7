//! [`Locks`]: one worker at a time on one volume of one node, whether a machine asked or something is left to be done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

type Key = (Uuid, String);

/// The volumes that are worked on.
#[derive(Debug, Clone, Default)]
pub(super) struct Locks(Arc<Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>>);

/// Nobody else works on it while this is held.
#[derive(Debug)]
pub(super) struct Held {
    locks: Locks,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Locks {
    /// Waits for its turn.
    pub(super) async fn hold(&self, node: Uuid, volume: &str) -> Held {
        let (key, lock) = self.lock(node, volume);
        let guard = Some(lock.lock_owned().await);
        Held { locks: self.clone(), key, guard }
    }

    /// Does not wait: `None` if somebody works on it.
    pub(super) fn try_hold(&self, node: Uuid, volume: &str) -> Option<Held> {
        let (key, lock) = self.lock(node, volume);
        let guard = Some(lock.try_lock_owned().ok()?);
        Some(Held { locks: self.clone(), key, guard })
    }

    fn lock(&self, node: Uuid, volume: &str) -> (Key, Arc<tokio::sync::Mutex<()>>) {
        let key = (node, volume.to_owned());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = Arc::clone(all.entry(key.clone()).or_default());
        (key, lock)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard = None;
        // The map's own is the last one: nobody waits for it.
        if all.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            all.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_is_left_behind() {
        let locks = Locks::default();
        let node = Uuid::nil();
        let held = locks.hold(node, "a").await;
        locks.hold(node, "b").await;
        let second = tokio::spawn({
            let locks = locks.clone();
            async move { locks.hold(node, "a").await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        assert!(locks.try_hold(node, "a").is_none());
        drop(held);
        drop(second.await.expect("runs"));
        assert!(locks.0.lock().expect("whole").is_empty());
    }
}
