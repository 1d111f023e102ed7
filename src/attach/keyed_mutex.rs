//! [`KeyedMutex`]: one lock per volume of a node, shared by boot requests and the reconciler.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

type Key = (Uuid, String);

/// The locks in use, by node and volume.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyedMutex(Arc<Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>>);

/// Holds the lock of a volume until dropped.
#[derive(Debug)]
pub(super) struct KeyedGuard {
    locks: KeyedMutex,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl KeyedMutex {
    /// Waits for the lock.
    pub(super) async fn lock(&self, node: Uuid, volume: &str) -> KeyedGuard {
        let (key, mutex) = self.entry(node, volume);
        let guard = Some(mutex.lock_owned().await);
        KeyedGuard { locks: self.clone(), key, guard }
    }

    /// Takes the lock without waiting; `None` if another task holds it.
    pub(super) fn try_lock(&self, node: Uuid, volume: &str) -> Option<KeyedGuard> {
        let (key, mutex) = self.entry(node, volume);
        let guard = Some(mutex.try_lock_owned().ok()?);
        Some(KeyedGuard { locks: self.clone(), key, guard })
    }

    fn entry(&self, node: Uuid, volume: &str) -> (Key, Arc<tokio::sync::Mutex<()>>) {
        let key = (node, volume.to_owned());
        let mut entries = self.0.lock();
        let mutex = Arc::clone(entries.entry(key.clone()).or_default());
        (key, mutex)
    }
}

impl Drop for KeyedGuard {
    fn drop(&mut self) {
        let mut entries = self.locks.0.lock();
        self.guard = None;
        // Only the map still refers to the mutex: no task waits for the lock.
        if entries.get(&self.key).is_some_and(|mutex| Arc::strong_count(mutex) == 1) {
            entries.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn locks_exclude_each_other_and_unused_entries_are_removed() {
        let locks = KeyedMutex::default();
        let node = Uuid::nil();
        let guard = locks.lock(node, "a").await;
        locks.lock(node, "b").await;
        let second = tokio::spawn({
            let locks = locks.clone();
            async move { locks.lock(node, "a").await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        assert!(locks.try_lock(node, "a").is_none());
        drop(guard);
        drop(second.await.expect("the task does not panic"));
        assert!(locks.0.lock().is_empty());
    }
}
