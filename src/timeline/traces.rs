//! Traces of a machine's boots: the milestones of each boot session, from the events of the history.

use jiff::Timestamp;
use serde::Serialize;

use super::milestones::{BootMilestones, BootPhase, PhaseSpan};
use super::progress::BootProgress;
use crate::telemetry::Event;

/// The boots whose median is compared with the last one.
const MEDIAN_BOOTS: usize = 20;

/// The milestones of one boot session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootTrace {
    /// The start of the session.
    pub started_at: Timestamp,
    /// The milestones.
    pub milestones: BootMilestones,
}

/// The median of each phase over some boots of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MedianPhases {
    /// The number of boots.
    pub boots: usize,
    /// The phases, one after the other.
    pub phases: Vec<PhaseSpan>,
}

/// The boot sessions in a machine's events, which are in the order of time.
pub fn trace_boots(events: &[Event]) -> Vec<BootTrace> {
    let Some((first, rest)) = events.split_first() else { return Vec::new() };
    let mut progress = BootProgress::new(first);
    let mut traces = Vec::new();
    for event in rest {
        if progress.starts_session(event) {
            traces.push(BootTrace::new(&progress));
        }
        progress.apply(event);
    }
    traces.push(BootTrace::new(&progress));
    traces
}

impl BootTrace {
    fn new(progress: &BootProgress) -> Self {
        Self { started_at: progress.journey_started_at, milestones: progress.milestones }
    }
}

impl MedianPhases {
    /// The medians of the last twenty boots that hooked their volumes; `None` without one.
    pub fn new(boots: &[BootTrace]) -> Option<Self> {
        let complete = boots.iter().rev().filter(|boot| boot.milestones.login.is_some());
        let boots: Vec<_> = complete.take(MEDIAN_BOOTS).map(|boot| boot.milestones.phases()).collect();
        let mut start_ms = 0;
        let median = |phase: BootPhase| {
            let of_phase = boots.iter().flatten().filter(|span| span.phase == phase);
            let end_ms = start_ms + find_median(of_phase.map(PhaseSpan::duration_ms).collect())?;
            let span = PhaseSpan { phase, start_ms, end_ms };
            start_ms = end_ms;
            Some(span)
        };
        let phases = BootPhase::ALL.into_iter().filter_map(median).collect();
        (!boots.is_empty()).then_some(Self { boots: boots.len(), phases })
    }
}

/// The median; of an even number, the mean of the two in the middle.
fn find_median(mut values: Vec<u32>) -> Option<u32> {
    values.sort_unstable();
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(upper.midpoint(values[middle - 1]))
}
