//! [`WorkQueue`]: which attachment records the reconciler works on, and when.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::model::{Attachment, AttachmentState};

/// The back-off after failures: the first delay, which doubles, and the longest.
const INITIAL_BACKOFF: Duration = Duration::from_secs(2);
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// The longest delay while Cinder waits for another service, which may be away for good.
const MAX_SLOW_BACKOFF: Duration = Duration::from_secs(600);
/// The delay while another task is at work on a record.
const CLAIM_RETRY: Duration = Duration::from_secs(2);

/// The node and the volume of a record.
pub(super) type RecordKey = (Uuid, String);

/// How the run of a record ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunResult {
    /// No work is left.
    Done,
    /// To be retried.
    Failed,
    /// To be retried without longer and longer delays: another task is at work.
    Claimed,
    /// To be repeated after this time: the work is not due yet.
    Early(Duration),
    /// To be retried with longer delays.
    Blocked,
}

/// The records with pending work.
#[derive(Debug)]
pub(super) struct WorkQueue {
    items: HashMap<RecordKey, WorkItem>,
    /// How long a boot request keeps its record to itself.
    grace_period: Duration,
}

#[derive(Debug, Clone, Copy)]
struct WorkItem {
    due_at: Instant,
    failures: u32,
    is_running: bool,
    /// The delay before the next run, if the record changed during this run.
    requeue_after: Option<Duration>,
}

impl WorkItem {
    fn after(delay: Duration) -> Self {
        Self { due_at: Instant::now() + delay, failures: 0, is_running: false, requeue_after: None }
    }

    fn after_failure(self, max_delay: Duration) -> Self {
        let delay = INITIAL_BACKOFF.saturating_mul(1 << self.failures.min(10)).min(max_delay);
        Self { failures: self.failures.saturating_add(1), ..Self::after(delay) }
    }
}

impl WorkQueue {
    pub(super) fn new(grace_period: Duration) -> Self {
        Self { items: HashMap::new(), grace_period }
    }

    /// Queues a changed record, or removes it from the queue.
    pub(super) fn update(&mut self, record: &Attachment) {
        let key = (record.node, record.volume.clone());
        let delay =
            if record.state == AttachmentState::Detaching { Duration::ZERO } else { self.grace_period };
        match self.items.get_mut(&key) {
            // The running task may be acting on the previous revision.
            Some(item) if item.is_running => item.requeue_after = has_pending_work(record).then_some(delay),
            Some(_) if !has_pending_work(record) => drop(self.items.remove(&key)),
            Some(item) => item.due_at = item.due_at.min(Instant::now() + delay),
            None if has_pending_work(record) => drop(self.items.insert(key, WorkItem::after(delay))),
            None => {}
        }
    }

    /// When the next record is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.items.values().filter(|item| !item.is_running).map(|item| item.due_at).min()
    }

    /// Marks at most `limit` due records as running, and returns them.
    pub(super) fn take_due(&mut self, limit: usize) -> Vec<RecordKey> {
        let now = Instant::now();
        let mut due: Vec<_> =
            self.items.iter_mut().filter(|(_, item)| !item.is_running && item.due_at <= now).collect();
        // The longest overdue item comes first, so that no item starves.
        due.sort_by(|(key, item), (other_key, other)| (item.due_at, key).cmp(&(other.due_at, other_key)));
        let start = |(key, item): (&RecordKey, &mut WorkItem)| {
            item.is_running = true;
            key.clone()
        };
        due.into_iter().take(limit).map(start).collect()
    }

    /// Ends the run of a record. Unless its work is done, the record becomes due again after a back-off.
    pub(super) fn finish(&mut self, key: RecordKey, result: RunResult) {
        let Some(item) = self.items.remove(&key) else { return };
        let next = match (item.requeue_after, result) {
            // The run itself records why it is blocked.
            (_, RunResult::Blocked) => item.after_failure(MAX_SLOW_BACKOFF),
            (_, RunResult::Claimed) => WorkItem { failures: item.failures, ..WorkItem::after(CLAIM_RETRY) },
            (_, RunResult::Early(delay)) | (Some(delay), RunResult::Done) => WorkItem::after(delay),
            (Some(Duration::ZERO), RunResult::Failed) => WorkItem::after(Duration::ZERO),
            (Some(_) | None, RunResult::Failed) => item.after_failure(MAX_BACKOFF),
            (None, RunResult::Done) => return,
        };
        self.items.insert(key, next);
    }

    /// Ends all back-off delays.
    pub(super) fn reset_backoff(&mut self) {
        for item in self.items.values_mut() {
            (item.due_at, item.failures) = (Instant::now(), 0);
        }
    }
}

/// Whether a record needs the reconciler.
pub(super) fn has_pending_work(record: &Attachment) -> bool {
    record.pending_export
        || record.superseded_export
        || match record.state {
            AttachmentState::Intended | AttachmentState::Detaching => true,
            AttachmentState::Reserved | AttachmentState::Attached => false,
        }
}

/// Whether all that is left is a last look at the attachment, after an earlier export can no longer arrive.
pub(super) fn is_settling(record: &Attachment) -> bool {
    record.superseded_export && !record.pending_export && record.state == AttachmentState::Attached
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn record(state: AttachmentState) -> Attachment {
        let mut record = Attachment::new(Uuid::nil(), "root", Uuid::nil(), Vec::new(), Timestamp::UNIX_EPOCH);
        record.state = state;
        record
    }

    #[tokio::test(start_paused = true)]
    async fn a_detachment_is_due_at_once_and_an_intent_after_the_grace_period() {
        let mut queue = WorkQueue::new(Duration::from_secs(10));
        queue.update(&record(AttachmentState::Intended));
        assert!(queue.take_due(8).is_empty());
        queue.update(&record(AttachmentState::Detaching));
        assert_eq!(queue.take_due(8), [(Uuid::nil(), "root".to_owned())]);
        assert!(queue.take_due(8).is_empty(), "the record is running");
    }

    #[tokio::test(start_paused = true)]
    async fn completed_records_leave_the_queue() {
        let mut queue = WorkQueue::new(Duration::from_secs(10));
        queue.update(&record(AttachmentState::Intended));
        queue.update(&record(AttachmentState::Attached));
        assert_eq!(queue.next_due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_until_the_longest_delay() {
        let mut queue = WorkQueue::new(Duration::from_secs(10));
        queue.update(&record(AttachmentState::Detaching));
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            let key = queue.take_due(1).pop().expect("the record is due");
            queue.finish(key, RunResult::Failed);
            assert_eq!(queue.next_due(), Some(Instant::now() + Duration::from_secs(seconds)));
            tokio::time::advance(Duration::from_secs(seconds)).await;
        }
        let key = queue.take_due(1).pop().expect("the record is due");
        queue.finish(key, RunResult::Failed);
        queue.reset_backoff();
        let key = queue.take_due(1).pop().expect("the record is due");
        queue.finish(key, RunResult::Done);
        assert_eq!(queue.next_due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_that_changed_during_its_run_is_queued_again() {
        let mut queue = WorkQueue::new(Duration::from_secs(10));
        queue.update(&record(AttachmentState::Detaching));
        let key = queue.take_due(1).pop().expect("the record is due");
        queue.update(&record(AttachmentState::Detaching));
        queue.finish(key, RunResult::Failed);
        assert_eq!(queue.take_due(1).len(), 1, "a change to detaching needs no back-off");
    }

    #[tokio::test(start_paused = true)]
    async fn a_blocked_record_backs_off_further_although_the_run_changed_it() {
        let mut queue = WorkQueue::new(Duration::from_secs(10));
        queue.update(&record(AttachmentState::Detaching));
        for seconds in [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
            let key = queue.take_due(1).pop().expect("the record is due");
            queue.update(&record(AttachmentState::Detaching));
            queue.finish(key, RunResult::Blocked);
            assert_eq!(queue.next_due(), Some(Instant::now() + Duration::from_secs(seconds)));
            tokio::time::advance(Duration::from_secs(seconds)).await;
        }
    }
}
