//! [`ShareWatch`]: which instances still confirm their shares of the turns.
//!
//! A killed instance keeps its session, and its share, until the session's end. The machines that it had queued ask another
//! instance, which must not wait so long. So an instance confirms its share while others wait. A share that is not
//! confirmed within [`CONFIRMATION_TIMEOUT`] counts as free. Its instance may live, without the store: then it can claim no
//! further volumes either.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::TurnShare;

/// How long a share counts without confirmation, while this instance waits for turns. A waiting machine's request is held
/// for longer than this.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_millis(1500);

/// The shares of the other instances, by session.
#[derive(Debug, Default)]
pub(super) struct ShareWatch {
    /// Since when the store shows that this instance waits.
    waiting_since: Option<Instant>,
    /// Each share, and since when it has been the same.
    seen: HashMap<String, (TurnShare, Instant)>,
}

impl ShareWatch {
    /// Notes the present shares.
    pub(super) fn note(&mut self, shares: &BTreeMap<String, TurnShare>) {
        let now = Instant::now();
        self.seen.retain(|session, _| shares.contains_key(session));
        for (session, share) in shares {
            let seen = self.seen.entry(session.clone()).or_insert((*share, now));
            if seen.0 != *share {
                *seen = (*share, now);
            }
        }
    }

    /// Notes whether the store shows that this instance waits for turns.
    pub(super) fn set_waiting(&mut self, is_waiting: bool) {
        self.waiting_since = is_waiting.then(|| self.waiting_since.unwrap_or_else(Instant::now));
    }

    /// Forgets all times, after a failure of the store: meanwhile no instance could confirm its share.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether the share of a session counts.
    pub(super) fn is_confirmed(&self, session: &str) -> bool {
        self.find_deadline(session).is_none_or(|deadline| Instant::now() < deadline)
    }

    /// The next time at which a share will no longer count, if it is not confirmed.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        let deadlines = self.seen.keys().filter_map(|session| self.find_deadline(session));
        deadlines.filter(|deadline| *deadline > now).min()
    }

    fn find_deadline(&self, session: &str) -> Option<Instant> {
        let (_, since) = self.seen.get(session)?;
        Some(self.waiting_since?.max(*since) + CONFIRMATION_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_share_counts_while_it_is_confirmed_or_nobody_waits() {
        let shares = |confirmations| {
            BTreeMap::from([("a".to_owned(), TurnShare { turns: 4, queued: 0, confirmations })])
        };
        let mut watch = ShareWatch::default();
        watch.note(&shares(0));
        advance(2 * CONFIRMATION_TIMEOUT).await;
        assert!(watch.is_confirmed("a"), "this instance does not wait");
        assert_eq!(watch.next_deadline(), None);
        watch.set_waiting(true);
        for confirmations in 1..4 {
            advance(CONFIRMATION_TIMEOUT / 2).await;
            watch.set_waiting(true);
            watch.note(&shares(confirmations));
            assert!(watch.is_confirmed("a"));
        }
        assert_eq!(watch.next_deadline(), Some(Instant::now() + CONFIRMATION_TIMEOUT));
        advance(CONFIRMATION_TIMEOUT).await;
        watch.note(&shares(3));
        assert!(!watch.is_confirmed("a"));
        watch.note(&shares(4));
        assert!(watch.is_confirmed("a"), "it is confirmed again");
        advance(CONFIRMATION_TIMEOUT).await;
        watch.reset();
        watch.note(&shares(4));
        watch.set_waiting(true);
        assert!(watch.is_confirmed("a"), "the store was away");
    }
}
