//! Requesters by their place in the network: what they get, and what becomes of their reports.

use std::time::Duration;

use super::*;
use crate::config::{HttpConfig, RequesterPolicy};
use crate::model::{Mac, PowerState};
use crate::timeline::{Machine, MachineId};

const LIMIT: Duration = Duration::from_secs(20);
const CARD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
const SCRIPT: &str = "/boot/52-54-00-00-00-01";
const REPORT: &str = "/boot/52-54-00-00-00-01/event?step=up";

pub(super) struct TestListener {
    pub(super) router: Router,
    pub(super) inventory: Inventory,
    pub(super) timeline: Timeline,
    pub(super) boot: Boot,
    metrics: Metrics,
}

impl TestListener {
    /// A listener for which each requester has this place.
    pub(super) async fn open(
        check: NeighbourCheck,
        policy: RequesterPolicy,
        trusted_proxies: &[&str],
    ) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        enroll(&Inventory::new(Arc::clone(&store)), 1).await;
        let timeline = Timeline::open_blocking(None, Metrics::new());
        Self::over(store, timeline, check, policy, trusted_proxies)
    }

    /// A listener over an existing store and an existing timeline.
    pub(super) fn over(
        store: Arc<dyn Store>,
        timeline: Timeline,
        check: NeighbourCheck,
        policy: RequesterPolicy,
        trusted_proxies: &[&str],
    ) -> Self {
        let inventory = Inventory::new(Arc::clone(&store));
        let trusted_proxies =
            trusted_proxies.iter().map(|text| format!("{text}/32").parse().expect("a network")).collect();
        let config = Config::default();
        let http = HttpConfig { trusted_proxies, ..config.http };
        let policy_of_attach = Policy { resolutions: 1, ..Policy::default() };
        let attach = Attach::new(Attachments::new(store), None, policy_of_attach);
        let metrics = timeline.metrics().clone();
        let neighbours = Neighbours::fixed(check);
        let boot =
            Boot::new(inventory.clone(), attach, timeline.loop_detector(), config.enabled_storage_interfaces)
                .with_requesters(policy, neighbours.clone());
        let state =
            HttpState::new(boot.clone(), config.boot, &http, Images::default(), timeline.clone(), neighbours);
        Self { router: router(state), inventory, timeline, boot, metrics }
    }

    pub(super) async fn send(&self, uri: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, String) {
        self.send_from("10.99.0.1:9", uri, headers).await
    }

    async fn send_from(
        &self,
        remote: &str,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, HeaderMap, String) {
        let address = |text: &str| text.parse().expect("an address");
        let peer = Peer { remote: address(remote), local: address("10.99.0.1:8080"), tls: false };
        let mut request = Request::builder().uri(uri).extension(peer);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("the router responds");
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, headers, String::from_utf8(body.to_vec()).expect("text"))
    }

    /// Sends a boot request, and returns the machine of the timeline afterwards.
    async fn boot(&self) -> Machine {
        let mut updates = self.timeline.subscribe();
        self.send(SCRIPT, &[]).await;
        tokio::time::timeout(LIMIT, updates.recv()).await.expect("within the limit").expect("an update");
        self.timeline.machine(MachineId::Mac(CARD)).expect("a machine")
    }

    pub(super) fn has_fault(&self, cause: &str, count: u32) -> bool {
        let line = format!("volboot_boot_requester_faults_total{{cause=\"{cause}\"}} {count}\n");
        self.metrics.encode(&crate::telemetry::Reading::default()).contains(&line)
    }
}

#[tokio::test]
async fn rejected_requesters_get_no_volume_and_their_reports_do_not_count() {
    let address = "10.99.0.7".parse().expect("an address");
    for (check, cause, action, status) in [
        (
            NeighbourCheck::Entry { mac: Mac::new([0x52, 0x54, 0, 0, 0, 7]), address },
            "other_card",
            "exit 1",
            StatusCode::FORBIDDEN,
        ),
        (NeighbourCheck::NoEntry { address }, "no_entry", "retrying in 5 s", StatusCode::SERVICE_UNAVAILABLE),
        (NeighbourCheck::Routed { address }, "routed", "exit 1", StatusCode::FORBIDDEN),
        (
            NeighbourCheck::Redirected { address, gateway: None },
            "redirected",
            "retrying in 5 s",
            StatusCode::SERVICE_UNAVAILABLE,
        ),
        (
            NeighbourCheck::Inconclusive("dark".into()),
            "inconclusive",
            "retrying in 5 s",
            StatusCode::SERVICE_UNAVAILABLE,
        ),
    ] {
        let site = TestListener::open(check, RequesterPolicy::default(), &[]).await;
        let (_, _, script) = site.send(SCRIPT, &[]).await;
        assert!(script.contains(action) && !script.contains("sanhook"), "{cause}: {script}");
        let (got, headers, body) = site.send(REPORT, &[]).await;
        assert_eq!(got, status, "{cause}: {body}");
        // iPXE would honour it and hold up the boot.
        assert!(!headers.contains_key(header::RETRY_AFTER), "{cause}");
        assert!(site.has_fault(cause, 2), "{cause} is not counted");
    }
}

#[tokio::test]
async fn only_a_card_of_the_node_infers_that_its_machine_is_on() {
    let address = "10.99.0.7".parse().expect("an address");
    let other = Mac::new([0x52, 0x54, 0, 0, 0, 7]);
    let networks = vec!["10.98.0.0/24".parse().expect("a network")];
    let trusting = RequesterPolicy { verify_mac: false, routed_networks: networks };
    let routed = NeighbourCheck::Routed { address: "10.98.0.7".parse().expect("an address") };
    for (check, is_inferred) in [
        (NeighbourCheck::Entry { mac: CARD, address }, true),
        (NeighbourCheck::Entry { mac: other, address }, false),
        (NeighbourCheck::NoEntry { address }, false),
        (routed, false),
        (NeighbourCheck::Unchecked, false),
    ] {
        // Without the check of [boot] verify_mac, each of them boots.
        let site = TestListener::open(check.clone(), trusting.clone(), &[]).await;
        assert_eq!(site.boot().await.inferred_on_at.is_some(), is_inferred, "{check:?}");
    }
}

#[tokio::test]
async fn a_machine_whose_boot_is_refused_is_on_and_the_node_s_record_stays_the_same() {
    let check = NeighbourCheck::Entry { mac: CARD, address: "10.99.0.7".parse().expect("an address") };
    let site = TestListener::open(check, RequesterPolicy::default(), &[]).await;
    let uuid = Uuid::from_u128(1);
    let change = |node: &Node, _: Option<&Node>| {
        let node = Node { maintenance: true, ..node.clone() };
        Ok::<_, ()>(node.with_power_state(PowerState::Off, Timestamp::UNIX_EPOCH))
    };
    site.inventory.update(uuid, change).await.expect("updates");
    let before = site.inventory.get::<Node>(uuid).await.expect("reads").expect("a node");
    assert!(site.boot().await.inferred_on_at.is_some());
    let after = site.inventory.get::<Node>(uuid).await.expect("reads").expect("a node");
    assert_eq!(
        (after.revision, after.value),
        (before.revision, before.value),
        "the boot path writes nothing"
    );
}

#[tokio::test]
async fn machine_of_a_named_network_boots_and_reports() {
    let check = NeighbourCheck::Routed { address: "10.98.0.7".parse().expect("an address") };
    let routed_networks = vec!["10.98.0.0/24".parse().expect("a network")];
    let policy = RequesterPolicy { routed_networks, verify_mac: false };
    let site = TestListener::open(check, policy, &[]).await;
    assert!(site.send(SCRIPT, &[]).await.2.contains("sanhook"));
    assert_eq!(site.send(REPORT, &[]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn request_through_an_unknown_proxy_on_the_host_is_refused() {
    let site = TestListener::open(NeighbourCheck::Unchecked, RequesterPolicy::default(), &[]).await;
    assert!(site.send(SCRIPT, &[]).await.2.contains("sanhook"), "the host itself is trusted");
    for header in ["x-forwarded-for", "forwarded", "x-forwarded-host", "via"] {
        let (_, _, script) = site.send(SCRIPT, &[(header, "10.99.0.7")]).await;
        assert!(
            script.contains("came through a proxy at 10.99.0.1, which [http] trusted_proxies does not name"),
            "{header}: {script}"
        );
        assert!(!script.contains("sanhook"), "{header}: {script}");
        assert_eq!(site.send(REPORT, &[(header, "10.99.0.7")]).await.0, StatusCode::FORBIDDEN, "{header}");
    }
}

#[tokio::test]
async fn client_of_a_trusted_proxy_is_the_requester() {
    let site =
        TestListener::open(NeighbourCheck::Unchecked, RequesterPolicy::default(), &["10.99.0.1"]).await;
    let script = site.send(SCRIPT, &[("x-forwarded-for", "10.99.0.7")]).await.2;
    assert!(script.contains("sanhook"), "{script}");
    let script = site.send(SCRIPT, &[("x-forwarded-for", "203.0.113.9")]).await.2;
    assert!(script.contains("address 203.0.113.9 is not in any network of [http] allow"), "{script}");
    let script = site.send(SCRIPT, &[]).await.2;
    assert!(script.contains("the proxy 10.99.0.1 names no client; let it set X-Forwarded-For"), "{script}");
}

/// What a stranger must not change: the verdict, the address, the last event and the number of events.
fn describe_machine(timeline: &Timeline) -> String {
    let id = MachineId::Mac(Mac::new([0x52, 0x54, 0, 0, 0, 1]));
    let machine = timeline.machine(id).expect("the machine was seen");
    let events = timeline.events_blocking(id).len();
    format!("{:?} {:?} {} {events}", machine.verdict, machine.address, machine.last_seen)
}

#[tokio::test]
async fn requests_of_strangers_leave_the_timeline_of_a_booted_machine_alone() {
    const STRANGER: &str = "10.98.0.7";
    let address = STRANGER.parse().expect("an address");
    let own_mac = Mac::new([0x52, 0x54, 0, 0, 0, 7]);
    let own_id = MachineId::Mac(own_mac);
    let address_id = MachineId::Address(address);
    let routed = NeighbourCheck::Routed { address };
    // The stranger's place, whether the node is in maintenance, the path, and the stranger's record.
    for (check, maintenance, uri, id) in [
        (NeighbourCheck::Entry { mac: own_mac, address }, false, SCRIPT, own_id),
        (NeighbourCheck::NoEntry { address }, false, SCRIPT, address_id),
        (routed.clone(), false, SCRIPT, address_id),
        (NeighbourCheck::Redirected { address, gateway: None }, false, SCRIPT, address_id),
        (NeighbourCheck::Proxied { address }, false, SCRIPT, address_id),
        (NeighbourCheck::Inconclusive("dark".into()), false, SCRIPT, address_id),
        // Refused for another reason, before the requester is verified.
        (routed.clone(), true, SCRIPT, address_id),
        (NeighbourCheck::Entry { mac: own_mac, address }, true, SCRIPT, own_id),
        (routed.clone(), false, "/boot/52-54-00-00-00-01?macs=52-54-00-00-00-02", address_id),
    ] {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let timeline = Timeline::open_blocking(None, Metrics::new());
        let policy = RequesterPolicy::default();
        let place = NeighbourCheck::Entry {
            mac: Mac::new([0x52, 0x54, 0, 0, 0, 1]),
            address: "10.99.0.1".parse().expect("an address"),
        };
        let site = TestListener::over(Arc::clone(&store), timeline, place, policy.clone(), &[]);
        for number in [1, 2] {
            enroll(&site.inventory, number).await;
        }
        let mut updates = site.timeline.subscribe();
        let mut next_updates = async |count: usize| {
            for _ in 0..count {
                let update = tokio::time::timeout(Duration::from_secs(20), updates.recv());
                update.await.expect("an event in time").expect("an update");
            }
        };
        assert!(site.send(SCRIPT, &[]).await.2.contains("sanboot"));
        assert_eq!(site.send(REPORT, &[]).await.0, StatusCode::OK);
        next_updates(2).await;
        let before = describe_machine(&site.timeline);
        assert!(before.contains("Booted") && before.contains("10.99.0.1"), "{before}");

        if maintenance {
            let change =
                |node: &Node, _: Option<&Node>| Ok::<_, ()>(Node { maintenance: true, ..node.clone() });
            site.inventory.update(Uuid::from_u128(1), change).await.expect("updates");
        }
        let stranger = TestListener::over(store, site.timeline.clone(), check.clone(), policy, &[]);
        for _ in 0..10 {
            let (_, _, script) = stranger.send_from("10.98.0.7:9", uri, &[]).await;
            assert!(!script.contains("sanhook"), "{check:?}: {script}");
        }
        next_updates(10).await;
        assert_eq!(describe_machine(&site.timeline), before, "{check:?} {uri}");
        // The operator sees the requests under the stranger's own name.
        let machine = site.timeline.machine(id).expect("the stranger has a record");
        assert_eq!((machine.node, machine.macs, machine.is_rejected), (None, Vec::new(), true), "{check:?}");
        let events = site.timeline.events_blocking(id);
        assert_eq!(events.iter().map(|event| event.count).sum::<u32>(), 10, "{check:?}");
        let text = &crate::timeline::describe(events)[0].text;
        assert!(text.starts_with("boot request for 52:54:00:00:00:01, try 1; "), "{text}");
    }
}
