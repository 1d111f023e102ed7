//! Faults from a seed: instances killed, suspended and cut off; Cinder away; and the end of all faults.

use std::sync::Arc;

use tokio::time::sleep;

use super::history::RunEvent;
use super::link::Gate;
use super::network::CinderOutage;
use super::random::Random;
use super::site::SimulatedSite;

/// Begins faults and ends them, until the task is aborted.
pub(super) async fn inject(site: Arc<SimulatedSite>, mut random: Random) {
    loop {
        sleep(random.millis(500, 15_000)).await;
        let slot = random.below(site.slots());
        let instance = site.instance(slot);
        let number = instance.link.instance;
        let record = |text: String| site.history.record(RunEvent::Fault(text));
        match random.below(8) {
            0 | 1 => {
                record(format!("instance {number} is killed"));
                instance.kill();
                sleep(random.millis(100, 15_000)).await;
                site.replace_instance(slot).await;
                let number = site.instance(slot).link.instance;
                record(format!("instance {number} starts"));
            }
            2 | 3 => {
                record(format!("instance {number} is suspended"));
                instance.link.set_gate(Gate::Suspended);
                // With the delay of a late request, less than the window in which volboot expects it.
                sleep(random.millis(500, 40_000)).await;
                instance.link.set_gate(Gate::Open);
                record(format!("instance {number} goes on"));
            }
            4 | 5 => {
                record(format!("instance {number} is cut off from the store"));
                instance.link.set_outage(Some(site.begin_outage().await));
                let (site, pause) = (Arc::clone(&site), random.millis(500, 60_000));
                // Another fault may begin meanwhile.
                tokio::spawn(async move {
                    sleep(pause).await;
                    instance.link.set_outage(None);
                    site.history
                        .record(RunEvent::Fault(format!("instance {number} reaches the store again")));
                });
            }
            6 => {
                record(format!("instance {number} loses its session"));
                instance.end_session();
            }
            _ => {
                let outage = random.pick(&[
                    CinderOutage::NotConnected,
                    CinderOutage::Silent,
                    CinderOutage::Unavailable,
                ]);
                record(format!("Cinder is away: {outage:?}"));
                site.network.set_outage(Some(outage));
                sleep(random.millis(500, 40_000)).await;
                site.network.set_outage(None);
                record("Cinder is back".to_owned());
            }
        }
    }
}

/// Ends all faults.
pub(super) async fn heal(site: &SimulatedSite) {
    site.network.set_outage(None);
    for slot in 0..site.slots() {
        let instance = site.instance(slot);
        if instance.link.gate() == Gate::Killed {
            site.replace_instance(slot).await;
        }
        let instance = site.instance(slot);
        instance.link.set_gate(Gate::Open);
        instance.link.set_outage(None);
        instance.link.stop_faults();
    }
    site.history.record(RunEvent::Fault("all faults end".to_owned()));
}
