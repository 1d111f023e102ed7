//! Replay: the state of a machine from its stored events, after an event of another instance arrived late.

use super::milestones::BootMilestones;
use super::progress::BootProgress;
use crate::telemetry::{Event, EventKind};

impl BootProgress {
    /// The state after all stored events of a machine, in the order of time. `before`: the state so far, which knows more
    /// than the stored events about sessions of the past. `None` without events.
    pub(super) fn replay(events: &[Event], before: &Self) -> Option<Self> {
        let (first, rest) = events.split_first()?;
        let mut progress = Self::new(first);
        for event in rest {
            progress.apply(event);
        }
        let is_success = |event: &Event| match &event.kind {
            EventKind::BootReport { step: Some(step), rc, .. } => step.is_success(rc.as_deref()),
            EventKind::BootRequest(request) => request.outcome.is_without_volume(),
            _ => false,
        };
        if !events.iter().any(is_success) {
            progress.journeys_without_hook = progress.journeys_without_hook.max(before.journeys_without_hook);
            progress.is_delayed |= before.is_delayed;
        }
        if progress.journey_started_at == first.at {
            // The start of the session may be older than the stored events.
            progress.journey_started_at = first.at.min(before.journey_started_at);
        }
        if progress.journey_started_at == before.journey_started_at {
            // The power-on is no event, and the milestones before the stored events are known to `before` only.
            let milestones =
                if progress.journey_started_at < first.at { before.milestones } else { progress.milestones };
            let powered_on_before = before.milestones.powered_on_before;
            progress.milestones = BootMilestones { powered_on_before, ..milestones };
        }
        // A repeated wait is merged into the first one, and keeps its time.
        progress.updated_at = progress.updated_at.max(before.updated_at);
        Some(progress)
    }
}
