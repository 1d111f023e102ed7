//! Storms of 1,000 machines over three instances, with and without a kill. Cinder's calls per boot are the same, but for
//! the resolutions that the kill interrupts.

use std::time::Duration;

use crate::appliance::{Appliance, Site};
use crate::etcd::Options;
use crate::fake_cinder::FakeCinder;
use crate::storm::{self, FIRST_BOOT, LATER_BOOT};
use crate::{read_number, run};

/// The time in which all machines start.
const WINDOW: Duration = Duration::from_secs(1);
/// The duration of Cinder's calls.
const CALL: Duration = Duration::from_millis(100);
/// The calls that Cinder handles at a time.
const CONCURRENT_CALLS: usize = 8;
/// The limit of concurrent resolutions, the product's default: so many may be interrupted by the kill.
const RESOLUTIONS: usize = 32;

pub(crate) fn measure() {
    let machines = read_number("MACHINES", 1000);
    println!("storm of {machines} machines; Cinder handles {CONCURRENT_CALLS} calls of {CALL:?} at a time");
    run(Options::default(), move |etcd| async move {
        let site = Site::with_cinder(etcd, FakeCinder::with_limits(CALL, CONCURRENT_CALLS)).await;
        let (first, second) = (0..machines, machines..2 * machines);
        storm::enroll(&site, 0..2 * machines).await;
        let mut instances: Vec<Appliance> = Vec::new();
        for name in ["boot-1", "boot-2", "boot-3"] {
            instances.push(site.start(name).await);
        }
        for (name, machines, calls, victim) in [
            ("first boots", first.clone(), FIRST_BOOT.as_slice(), None),
            ("first boots, one instance killed", second, FIRST_BOOT.as_slice(), Some(0)),
            ("later boots", first.clone(), LATER_BOOT.as_slice(), None),
            ("later boots, one instance killed", first, LATER_BOOT.as_slice(), Some(1)),
        ] {
            let result = storm::run(&site, &mut instances, machines, WINDOW, victim).await;
            println!("{name}: {}", result.describe(calls));
            result.check_calls(calls, if victim.is_some() { RESOLUTIONS } else { 0 });
            if let Some(victim) = victim {
                instances[victim].restart();
            }
        }
        storm::check_attachments(&site, 0..2 * machines).await;
    });
}
