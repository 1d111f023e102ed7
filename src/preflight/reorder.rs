//! The order of a volume's paths: those through dead portals last.

use std::time::Duration;

use crate::model::{BootPlan, BootVolume, Portal};

/// The portals of volumes with several paths, without duplicates. A single path has no other order.
pub(super) fn portals_with_alternatives(plan: &BootPlan) -> Vec<Portal> {
    let mut portals: Vec<Portal> = Vec::new();
    for volume in std::iter::once(&plan.boot).chain(&plan.data).filter(|volume| volume.paths.len() > 1) {
        for path in &volume.paths {
            if !portals.contains(&path.portal) {
                portals.push(path.portal.clone());
            }
        }
    }
    portals
}

/// Puts the paths through dead portals last, in their order, and notes each. `silent_since`: how long ago a dead portal
/// answered last. A volume whose portals are all dead stays as it is.
pub(super) fn put_dead_portals_last(plan: &mut BootPlan, silent_since: impl Fn(&Portal) -> Option<Duration>) {
    let mut notes = Vec::new();
    for volume in std::iter::once(&mut plan.boot).chain(&mut plan.data) {
        reorder(volume, &silent_since, &mut notes);
    }
    plan.portal_notes = notes;
}

fn reorder(
    volume: &mut BootVolume,
    silent_since: impl Fn(&Portal) -> Option<Duration>,
    notes: &mut Vec<String>,
) {
    let is_dead = |path: &crate::model::SanUri| silent_since(&path.portal).is_some();
    let Some(first_dead) = volume.paths.iter().position(is_dead) else { return };
    // Every dead portal is at the end already.
    if volume.paths[first_dead..].iter().all(is_dead) {
        return;
    }
    let (dead, alive): (Vec<_>, Vec<_>) = volume.paths.drain(..).partition(is_dead);
    for path in &dead {
        let since = silent_since(&path.portal).unwrap_or_default();
        notes.push(format!(
            "portal {} of volume {} is tried last: it does not answer this host, and did {} ago",
            path.portal,
            volume.id,
            describe_age(since)
        ));
    }
    volume.paths = alive.into_iter().chain(dead).collect();
}

fn describe_age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}
