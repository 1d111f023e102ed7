//! Lost `up` reports: a machine that still answers on the network has not failed.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use parking_lot::Mutex;
use volboot::boot::AttachedNetwork;
use volboot::model::{BootStep, Mac};
use volboot::neighbours::Presence;

use super::{Machine, Site, advance, settle};

/// The card at an address of the site's network.
fn card_at(address: IpAddr) -> Option<Mac> {
    let IpAddr::V4(address) = address else { return None };
    let [192, 0, 2, number] = address.octets() else { return None };
    Some(Mac::new([2, 0, 0, 0, 0, number]))
}

/// The network of a site, in which a machine is silent unless a test says otherwise.
#[derive(Debug, Default)]
pub(crate) struct TestNetwork(Mutex<HashMap<IpAddr, Presence>>);

impl TestNetwork {
    pub(super) fn set(&self, machine: Machine, presence: Presence) {
        self.0.lock().insert(machine.address(), presence);
    }
}

impl AttachedNetwork for TestNetwork {
    fn find_presence(&self, address: IpAddr) -> Pin<Box<dyn Future<Output = Presence> + Send + '_>> {
        let presence = self.0.lock().get(&address).copied();
        Box::pin(async move { presence.unwrap_or(Presence::Silent) })
    }

    fn find_card(&self, client: SocketAddr) -> Pin<Box<dyn Future<Output = Option<Mac>> + Send + '_>> {
        Box::pin(async move { card_at(client.ip()) })
    }
}

/// A database whose network lets no report through, and which is restarted for other causes.
#[tokio::test(start_paused = true)]
async fn lost_reports_of_a_machine_that_answers_never_bring_the_fallback_into_force() {
    for uptime in [301, 600, 1800, 3599] {
        for presence in [Presence::Answers, Presence::Unknown] {
            let mut site = Site::open(2).await;
            let machine = site.add_node(1, true).await;
            site.network.set(machine, presence);
            for boot in 0..7 {
                let volume = site.boot_and_hook(boot % 2, machine).await;
                assert_eq!(volume, "own-1", "{presence:?}, after {boot} boots of {uptime} s");
                advance(uptime).await;
            }
            let state = site.state(machine).await;
            assert_eq!((state.failed_boots, state.in_force), (0, None), "{presence:?} {uptime}");
            // The same machine, with a system that panics.
            site.network.set(machine, Presence::Silent);
            for _ in 0..3 {
                assert_eq!(site.boot_and_hook(0, machine).await, "own-1");
                advance(uptime).await;
            }
            assert_eq!(site.boot_and_hook(0, machine).await, "spare-1");
        }
    }
}

/// The time goes on over boots that end soon. A boot whose machine answers ends the count.
#[tokio::test(start_paused = true)]
async fn a_machine_that_answers_once_and_restarts_soon_is_counted_anew() {
    let mut site = Site::open(1).await;
    let machine = site.add_node(1, true).await;
    for (failed_boots, presence) in [
        (0, Presence::Silent),
        (0, Presence::Silent),
        (1, Presence::Silent),
        (1, Presence::Answers),
        (0, Presence::Silent),
    ] {
        site.boot_and_hook(0, machine).await;
        assert_eq!(site.state(machine).await.failed_boots, failed_boots);
        site.network.set(machine, presence);
        advance(260).await;
    }
}

/// iPXE reports that nothing on the volume starts, and then waits: it answers, and no system is up.
#[tokio::test(start_paused = true)]
async fn a_volume_from_which_nothing_starts_counts_although_ipxe_answers() {
    let mut site = Site::open(2).await;
    let machine = site.add_node(1, true).await;
    site.network.set(machine, Presence::Answers);
    for _ in 0..3 {
        let journey = site.new_journey();
        for attempt in 1..=3 {
            site.ask(0, machine, &journey, attempt).await;
            for (step, rc) in [(BootStep::Hooked, None), (BootStep::Boot, Some("0x7f22208e"))] {
                site.report(1, machine, &step, rc);
                settle().await;
            }
            advance(110).await;
        }
    }
    assert_eq!(site.boot_and_hook(0, machine).await, "spare-1");
}

/// The instance that would have asked the machine is gone, or its note is lost: nothing is known.
#[tokio::test(start_paused = true)]
async fn without_a_result_the_boot_does_not_count() {
    let mut site = Site::open(2).await;
    let machine = site.add_node(1, true).await;
    for _ in 0..5 {
        assert_eq!(site.boot_and_hook(0, machine).await, "own-1");
        advance(200).await;
        site.instances[0].store.set_outage(Some("no answer"));
        advance(70).await;
        site.instances[0].store.set_outage(None);
        advance(100).await;
    }
    assert_eq!(site.state(machine).await.failed_boots, 0);
}
