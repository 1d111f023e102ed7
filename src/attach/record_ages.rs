//! [`RecordAges`]: since when this process has known what a record says, by its own monotonic clock.
//!
//! The hosts of two instances have two wall clocks, and a wall clock may jump over a restart. So no instance computes the
//! age of another one's work from a timestamp. It counts from its own first sight of the record: never less than the
//! real age minus the delay of the change feed, which is what each user of an age needs.
//!
//! | age | used for |
//! |---|---|
//! | of an interrupted create | its request may still take effect: [`Windows::late_request`] |
//! | of an export that followed one without a response | the earlier request may still arrive: the same window |
//! | of a resolution that the change feed showed | a repeat of the boot request gets its result: [`Windows::repeat`] |
//!
//! The first two ages are never too high, so a window is waited for in full. The last is never too low: it exists only if the
//! feed showed the record's change, and not a record that was there when the process started.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::model::{Attachment, AttachmentState};

/// How long a read of the store may be ahead of the change feed.
const FEED_DELAY: Duration = Duration::from_secs(1);
/// How long a sighting is remembered at least. A later look counts anew, so this is far longer than any window.
const MEMORY: Duration = Duration::from_secs(3600);

/// Time limits of the work over several instances. Tests shorten them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// How long a request to Cinder without a response may still take effect.
    pub late_request: Duration,
    /// How long a resolution serves repeats of its boot request at other instances.
    pub repeat: Duration,
    /// How long a boot request keeps its record to itself, before the reconciler completes interrupted work.
    pub grace_period: Duration,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            late_request: Duration::from_secs(120),
            repeat: Duration::from_secs(120),
            grace_period: Duration::from_secs(10),
        }
    }
}

/// What was seen of a record. The timestamps only tell one attempt from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Aspect {
    Create(Timestamp),
    LateExport(Option<Timestamp>),
    Resolution(Option<Timestamp>),
}

/// The first sights of this process, by the id of the attachment's record.
#[derive(Debug, Default)]
pub(super) struct RecordAges {
    sights: Mutex<HashMap<(Uuid, Aspect), Instant>>,
    /// Notified when the feed has shown a record.
    shown: Notify,
}

impl RecordAges {
    /// Notes a record of the change feed. `is_new`: the record changed while this process followed the feed.
    pub(super) fn note(&self, record: &Attachment, is_new: bool) {
        let aspects = [
            (is_create(record) || record.superseded_create).then_some(Aspect::Create(record.begun_at)),
            record.superseded_export.then_some(Aspect::LateExport(record.resolved_at)),
            (is_new && record.resolved_for.is_some()).then_some(Aspect::Resolution(record.resolved_at)),
        ];
        for aspect in aspects.into_iter().flatten() {
            self.first_sight(record, aspect);
        }
        self.shown.notify_waiters();
    }

    /// The age of an interrupted create, of which this may be the first sight.
    pub(super) fn create_age(&self, record: &Attachment) -> Duration {
        self.first_sight(record, Aspect::Create(record.begun_at)).elapsed()
    }

    /// The age of an export that followed one without a response, of which this may be the first sight.
    pub(super) fn late_export_age(&self, record: &Attachment) -> Duration {
        self.first_sight(record, Aspect::LateExport(record.resolved_at)).elapsed()
    }

    /// The age of the record's connection, if the change feed showed its resolution. A read may be ahead of the feed, so
    /// this waits for the feed for a moment.
    pub(super) async fn resolution_age(&self, record: &Attachment) -> Option<Duration> {
        let showing = async {
            loop {
                let mut shown = pin!(self.shown.notified());
                // From here on, no notification is lost.
                shown.as_mut().enable();
                if let Some(age) = self.known_resolution_age(record) {
                    return age;
                }
                shown.await;
            }
        };
        timeout(FEED_DELAY, showing).await.ok()
    }

    fn known_resolution_age(&self, record: &Attachment) -> Option<Duration> {
        let key = (record.id, Aspect::Resolution(record.resolved_at));
        self.sights.lock().get(&key).map(Instant::elapsed)
    }

    /// Evicts what no window needs any more.
    pub(super) fn evict_old(&self, windows: &Windows) {
        let mut record_ages = self.sights.lock();
        let memory = MEMORY.max(2 * windows.late_request.max(windows.repeat));
        record_ages.retain(|_, since| since.elapsed() < memory);
        let remaining = record_ages.len();
        record_ages.shrink_to(2 * remaining);
    }

    fn first_sight(&self, record: &Attachment, aspect: Aspect) -> Instant {
        *self.sights.lock().entry((record.id, aspect)).or_insert_with(Instant::now)
    }
}

/// Whether the record is of a create whose result was not recorded.
fn is_create(record: &Attachment) -> bool {
    record.cinder_id.is_none()
        && matches!(record.state, AttachmentState::Intended | AttachmentState::Detaching)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BootAttempt;

    fn record() -> Attachment {
        // Another host's clock, far ahead of this one.
        let begun_at = Timestamp::now() + Duration::from_secs(86_400);
        Attachment::new(Uuid::nil(), "root", Uuid::nil(), Vec::new(), begun_at)
    }

    #[tokio::test(start_paused = true)]
    async fn an_age_counts_from_the_first_sight_whatever_the_record_says() {
        let (record_ages, record) = (RecordAges::default(), record());
        record_ages.note(&record, false);
        tokio::time::advance(Duration::from_secs(119)).await;
        assert_eq!(record_ages.create_age(&record), Duration::from_secs(119));
        // A repeated create has another time of begin, so the count starts again.
        let again = Attachment { begun_at: Timestamp::UNIX_EPOCH, ..record };
        assert_eq!(record_ages.create_age(&again), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_resolution_that_the_feed_showed_has_an_age() {
        let record_ages = RecordAges::default();
        let attempt = BootAttempt { journey: "a".into(), attempt: 1 };
        let record = Attachment { resolved_for: Some(attempt), ..record() };
        record_ages.note(&record, false);
        assert_eq!(record_ages.resolution_age(&record).await, None);
        record_ages.note(&record, true);
        assert_eq!(record_ages.resolution_age(&record).await, Some(Duration::ZERO));
        let windows = Windows::default();
        tokio::time::advance(MEMORY).await;
        record_ages.evict_old(&windows);
        assert_eq!(record_ages.resolution_age(&record).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_ahead_of_the_feed_waits_for_it() {
        let attempt = BootAttempt { journey: "a".into(), attempt: 1 };
        let (record_ages, record) =
            (RecordAges::default(), Attachment { resolved_for: Some(attempt), ..record() });
        let feed = async {
            tokio::time::sleep(FEED_DELAY / 2).await;
            record_ages.note(&record, true);
        };
        let (age, ()) = tokio::join!(record_ages.resolution_age(&record), feed);
        assert_eq!(age, Some(Duration::ZERO));
    }
}
