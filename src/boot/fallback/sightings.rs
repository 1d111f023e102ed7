//! [`FallbackSightings`]: what this instance has seen of the nodes with a fallback, by its own monotonic clock.
//!
//! The wall clocks of two hosts differ, and may jump. So the time since a script counts from this instance's first sight of it:
//! never more than the real time, and by the delay of the change feed less.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use crate::model::{FallbackState, WatchedBoot, WatchedStage};
use crate::store::FallbackChanges;

/// The first sights of the nodes' boots, and the nodes in fallback.
#[derive(Debug, Default)]
pub(super) struct FallbackSightings(Mutex<HashMap<Uuid, Sighting>>);

#[derive(Debug, Clone, Default)]
struct Sighting {
    boot: Option<SeenBoot>,
    is_in_force: bool,
}

#[derive(Debug, Clone)]
struct SeenBoot {
    journey: String,
    since: Instant,
    clock: String,
    clock_since: Instant,
}

impl FallbackSightings {
    /// Notes a page of the change feed. A node without a state in a full list has lost it.
    pub(super) fn note_changes(&self, changes: &FallbackChanges) {
        if changes.is_full_list {
            let present: HashSet<Uuid> = changes.states.iter().map(|(node, _)| *node).collect();
            self.0.lock().retain(|node, _| present.contains(node));
        }
        for (node, state) in &changes.states {
            self.note(*node, state.as_ref());
        }
    }

    /// Notes the present state of a node; `None`: the state was deleted.
    pub(super) fn note(&self, node: Uuid, state: Option<&FallbackState>) {
        let mut sightings = self.0.lock();
        let boot = state.and_then(|state| state.boot.as_ref());
        let boot = boot.filter(|boot| boot.stage >= WatchedStage::HandedOut);
        let is_in_force = state.is_some_and(|state| state.in_force.is_some());
        if boot.is_none() && !is_in_force {
            // A boot that begins keeps the time of the boot before, if that goes on.
            let continues = state.and_then(|state| state.boot.as_ref()).is_some_and(|begun| {
                let seen = sightings.get(&node).and_then(|sighting| sighting.boot.as_ref());
                seen.is_some_and(|seen| seen.clock == begun.clock)
            });
            if !continues {
                sightings.remove(&node);
            }
            return;
        }
        let sighting = sightings.entry(node).or_default();
        sighting.is_in_force = is_in_force;
        sighting.boot = boot.map(|boot| SeenBoot::after(sighting.boot.take(), boot));
    }

    /// The time since the first sight of a boot's clock, and of the boot itself.
    pub(super) fn elapsed(&self, node: Uuid, boot: &WatchedBoot) -> Option<(Duration, Duration)> {
        let sightings = self.0.lock();
        let seen = sightings.get(&node)?.boot.as_ref()?;
        (seen.journey == boot.journey && seen.clock == boot.clock)
            .then(|| (seen.clock_since.elapsed(), seen.since.elapsed()))
    }

    /// The number of nodes that boot from their fallback.
    pub(super) fn count_in_force(&self) -> usize {
        self.0.lock().values().filter(|sighting| sighting.is_in_force).count()
    }
}

impl SeenBoot {
    fn after(seen: Option<Self>, boot: &WatchedBoot) -> Self {
        let now = Instant::now();
        let clock_since = seen.as_ref().filter(|seen| seen.clock == boot.clock).map(|seen| seen.clock_since);
        match seen {
            Some(seen) if seen.journey == boot.journey && seen.clock == boot.clock => seen,
            _ => Self {
                journey: boot.journey.clone(),
                since: now,
                clock: boot.clock.clone(),
                clock_since: clock_since.unwrap_or(now),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::FallbackInForce;

    const NODE: Uuid = Uuid::from_u128(1);

    fn state(journey: &str, clock: &str, stage: WatchedStage) -> FallbackState {
        let boot = WatchedBoot { stage, clock: clock.into(), ..WatchedBoot::begin(journey, "v") };
        FallbackState { boot: Some(boot), ..FallbackState::default() }
    }

    fn elapsed(sightings: &FallbackSightings, state: &FallbackState) -> Option<(u64, u64)> {
        let elapsed = sightings.elapsed(NODE, state.boot.as_ref().expect("a boot"));
        elapsed.map(|(clock, own)| (clock.as_secs(), own.as_secs()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_goes_on_while_boots_share_a_clock() {
        let sightings = FallbackSightings::default();
        let note = |state: &FallbackState| sightings.note(NODE, Some(state));
        let advance = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let begun = state("a", "a", WatchedStage::Begun);
        note(&begun);
        assert_eq!(elapsed(&sightings, &begun), None, "no script, no time");
        let first = state("a", "a", WatchedStage::HandedOut);
        note(&first);
        advance(10).await;
        note(&state("a", "a", WatchedStage::Hooked));
        assert_eq!(elapsed(&sightings, &first), Some((10, 10)));
        note(&state("b", "a", WatchedStage::Begun));
        advance(2).await;
        let second = state("b", "a", WatchedStage::HandedOut);
        note(&second);
        advance(20).await;
        assert_eq!(elapsed(&sightings, &second), Some((32, 20)));
        assert_eq!(elapsed(&sightings, &first), None);
        let third = state("c", "c", WatchedStage::HandedOut);
        note(&third);
        assert_eq!(elapsed(&sightings, &third), Some((0, 0)));
        sightings.note(NODE, None);
        assert_eq!(elapsed(&sightings, &third), None);
    }

    #[test]
    fn a_full_list_ends_the_sightings_of_deleted_states() {
        let sightings = FallbackSightings::default();
        let in_force = FallbackInForce {
            since: Timestamp::UNIX_EPOCH,
            failed_boots: 3,
            failed_volume: "v".into(),
            source: "w".into(),
        };
        let in_force = FallbackState { in_force: Some(in_force), ..FallbackState::default() };
        let changes = |nodes: &[u128], is_full_list| {
            let state = |node: &u128| (Uuid::from_u128(*node), Some(in_force.clone()));
            FallbackChanges { states: nodes.iter().map(state).collect(), revision: 1, is_full_list }
        };
        sightings.note_changes(&changes(&[1, 2], true));
        sightings.note_changes(&changes(&[3], false));
        assert_eq!(sightings.count_in_force(), 3);
        sightings.note_changes(&changes(&[2, 3], true));
        assert_eq!(sightings.count_in_force(), 2);
    }
}
