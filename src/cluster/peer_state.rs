//! [`PeerState`]: what is known of another instance.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::task::AbortHandle;

use crate::model::Announcement;
use crate::timeline::PeerProgress;

/// Time without an answer after which an instance counts as away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);
/// Time after which an instance that is gone is no longer said to be missing.
pub(super) const FORGET_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// What is known of another instance.
#[derive(Debug)]
pub(super) struct PeerState {
    pub(super) announcement: Announcement,
    pub(super) is_registered: bool,
    pub(super) first_seen: (Instant, Timestamp),
    pub(super) last_answer: Option<(Instant, Timestamp)>,
    pub(super) problem: Option<String>,
    pub(super) clock_offset: Option<SignedDuration>,
    /// Whether it has read the last events of this instance, which is shutting down.
    pub(super) has_all_events: bool,
    /// What the log has told.
    pub(super) logged_differences: Vec<String>,
    pub(super) is_logged_away: bool,
    pub(super) follower: Option<(String, AbortHandle)>,
}

impl PeerState {
    pub(super) fn new(announcement: Announcement) -> Self {
        Self {
            announcement,
            is_registered: true,
            first_seen: (Instant::now(), Timestamp::now()),
            last_answer: None,
            problem: None,
            clock_offset: None,
            has_all_events: false,
            logged_differences: Vec::new(),
            is_logged_away: false,
            follower: None,
        }
    }

    /// The time since the last answer, or since the instance was first seen.
    pub(super) fn silence(&self) -> Duration {
        self.last_answer.map_or(self.first_seen.0, |(at, _)| at).elapsed()
    }

    pub(super) fn is_answering(&self) -> bool {
        self.silence() < ANSWER_TIMEOUT
    }

    /// Whether there is nothing more to read from an instance without a session.
    pub(super) fn is_over(&self, progress: Option<&PeerProgress>) -> bool {
        let is_complete = progress.is_some_and(|progress| progress.is_complete);
        let last_sign = self.last_answer.map_or(self.first_seen.1, |(_, at)| at);
        is_complete || Timestamp::now().duration_since(last_sign) >= FORGET_AFTER
    }

    pub(super) fn describe_problem(&self) -> String {
        match (&self.problem, &self.announcement.url) {
            (_, None) => "it has no listener for the other instances ([cluster] listen)".to_owned(),
            (Some(problem), Some(_)) => problem.clone(),
            (None, Some(_)) => "it does not answer".to_owned(),
        }
    }
}

impl Drop for PeerState {
    fn drop(&mut self) {
        if let Some((_, follower)) = &self.follower {
            follower.abort();
        }
    }
}
