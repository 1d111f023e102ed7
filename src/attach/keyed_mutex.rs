//! [`KeyedMutex`]: the queues of this process for claims: first come, first served. Without them, tasks of one process
//! would poll the store for a claim that another of them holds.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// The locks in use, by claimed work.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyedMutex(Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>);

/// Holds a lock until dropped.
#[derive(Debug)]
pub(super) struct KeyedGuard {
    locks: KeyedMutex,
    key: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl KeyedMutex {
    /// Waits for the lock.
    pub(super) async fn lock(&self, work: &str) -> KeyedGuard {
        let mutex = self.entry(work);
        let guard = Some(mutex.lock_owned().await);
        KeyedGuard { locks: self.clone(), key: work.to_owned(), guard }
    }

    /// Takes the lock without waiting; `None` if another task holds it.
    pub(super) fn try_lock(&self, work: &str) -> Option<KeyedGuard> {
        let mutex = self.entry(work);
        let guard = Some(mutex.try_lock_owned().ok()?);
        Some(KeyedGuard { locks: self.clone(), key: work.to_owned(), guard })
    }

    fn entry(&self, work: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.0.lock().entry(work.to_owned()).or_default())
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
        let guard = locks.lock("a").await;
        locks.lock("b").await;
        let second = tokio::spawn({
            let locks = locks.clone();
            async move { locks.lock("a").await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        assert!(locks.try_lock("a").is_none());
        drop(guard);
        drop(second.await.expect("the task does not panic"));
        assert!(locks.0.lock().is_empty());
    }
}
