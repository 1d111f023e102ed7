//! Machines boot at once over three instances, of which one is killed in the middle: the short form of the storm in
//! `cargo bench --bench cluster`.

use std::time::Duration;

use crate::appliance::{Appliance, Site};
use crate::boot_storm::{self, FIRST_BOOT, LATER_BOOT};
use crate::etcd::Options;
use crate::fake_cinder::FakeCinder;
use crate::run;

const MACHINES: u32 = 60;
/// The time in which all machines start.
const WINDOW: Duration = Duration::from_millis(500);
/// The duration of Cinder's calls, and how many it handles at a time.
const CALL: (Duration, usize) = (Duration::from_millis(50), 8);
/// The limit of concurrent resolutions: so many may be interrupted by the kill.
const RESOLUTIONS: usize = 32;

#[test]
fn no_machine_is_lost_in_a_storm_when_an_instance_is_killed() {
    run(Options::default(), |etcd| async move {
        let site = Site::with_cinder(etcd, FakeCinder::with_limits(CALL.0, CALL.1)).await;
        boot_storm::enroll(&site, 0..MACHINES).await;
        let mut instances: Vec<Appliance> = Vec::new();
        for name in ["boot-1", "boot-2", "boot-3"] {
            instances.push(site.start(name).await);
        }
        for (victim, calls) in [(0, FIRST_BOOT.as_slice()), (1, LATER_BOOT.as_slice())] {
            let result = boot_storm::run(&site, &mut instances, 0..MACHINES, WINDOW, Some(victim)).await;
            eprintln!("{}", result.describe(calls));
            result.check_calls(calls, RESOLUTIONS);
            boot_storm::check_attachments(&site, 0..MACHINES).await;
            instances[victim].restart();
        }
    });
}
