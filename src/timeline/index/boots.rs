//! The boots of machines, counted as their events are added.

use std::time::Duration;

use jiff::Timestamp;

use super::MachineIndex;
use crate::telemetry::{Event, Metrics};
use crate::timeline::boot_state::Verdict;
use crate::timeline::milestones::{BootMilestones, BootPhase, PhaseSpan};
use crate::timeline::record::MachineRecord;
use crate::timeline::statistics::{BootOverview, BootStatistics, CountedBoot, StatisticsStep};
use crate::timeline::storm::BootStorm;

/// What an event changed in the boots of a node.
#[derive(Debug, Default)]
pub(super) struct BootChange {
    /// The boot that the event has ended.
    ended: Option<CountedBoot>,
    /// The boot that has reached a milestone.
    reached: Option<ReachedMilestone>,
}

/// A milestone that a boot of a node has just reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::timeline) enum ReachedMilestone {
    Hooked(BootMilestones),
    Up(BootMilestones),
}

impl ReachedMilestone {
    /// Observes the phases that have ended with the milestone.
    pub(in crate::timeline) fn observe(self, metrics: &Metrics) {
        let observe = |span: &PhaseSpan| {
            let duration = Duration::from_millis(span.duration_ms().into());
            metrics.observe_boot_phase(span.phase.as_str(), duration);
        };
        match self {
            Self::Hooked(milestones) => milestones.phases().iter().for_each(observe),
            Self::Up(milestones) => {
                let phases = milestones.phases();
                let is_new =
                    |span: &&PhaseSpan| milestones.login.is_none() || span.phase == BootPhase::System;
                phases.iter().filter(is_new).for_each(observe);
                if let Some((milliseconds, from_power_on)) = milestones.up_after_ms() {
                    metrics.observe_boot_up(from_power_on, Duration::from_millis(milliseconds.into()));
                }
            }
        }
    }
}

impl BootChange {
    /// Applies an event to the boot session of a machine.
    pub(super) fn apply(record: &mut MachineRecord, event: &Event) -> Self {
        let progress = &mut record.progress;
        let counts = record.node.is_some();
        let ended =
            (counts && progress.starts_session(event)).then(|| CountedBoot::ended(progress, event.at));
        let before = progress.milestones;
        progress.apply(event);
        let after = progress.milestones;
        let reached = if after.up.is_some() && before.up.is_none() {
            Some(ReachedMilestone::Up(after))
        } else if after.login.is_some() && before.login.is_none() {
            Some(ReachedMilestone::Hooked(after))
        } else {
            None
        };
        Self { ended, reached: reached.filter(|_| counts) }
    }
}

impl MachineIndex {
    /// Counts what an event has changed.
    pub(super) fn count_boots(&mut self, change: BootChange) {
        if let Some(boot) = change.ended {
            let number = self.statistics.count(&boot);
            self.uncommitted.statistics.insert(number);
        }
        self.reached.extend(change.reached);
    }

    pub(in crate::timeline) fn statistics(&self) -> &BootStatistics {
        &self.statistics
    }

    /// Restores a step of the statistics from the history file.
    pub(in crate::timeline) fn restore_statistics(&mut self, number: i64, step: StatisticsStep) {
        self.statistics.restore(number, step);
    }

    /// Drops the steps of the statistics that are too old.
    pub(in crate::timeline) fn expire_statistics(&mut self, now: Timestamp) {
        let expired = self.statistics.expire(now);
        self.uncommitted.statistics.extend(expired);
    }

    /// The boots of all nodes, past and present.
    pub(in crate::timeline) fn summarize_boots(&self, now: Timestamp) -> BootOverview {
        let (mut storm, mut current) = (BootStorm::default(), Vec::new());
        for record in self.records().filter(|record| record.node.is_some()) {
            let progress = &record.progress;
            let state = Verdict::new(progress, now).state;
            storm.add(progress, state, now);
            current.push(CountedBoot::current(progress, state));
        }
        BootOverview { windows: self.statistics.summarize(&current, now), now: storm }
    }
}
