//! Boot sessions over several instances: one story with one verdict on each.

use jiff::SignedDuration;

use super::*;
use crate::listen::{Certificate, PlainHttp, Tls};
use crate::timeline::{BootState, CountedCard, LoopDelay};

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journey_over_three_instances_is_one_story() {
    let store = MemoryStore::default();
    let start = |name| TestInstance::start(&store, name, None, None);
    let (a, b, c) = (start("boot-1"), start("boot-2"), start("boot-3"));
    wait_for_all(&[&a, &b, &c]).await;
    let now = Timestamp::now();
    // The later steps are recorded first: events of several instances arrive in any order.
    c.record(now - seconds(1), KNOWN, report(BootStep::Hooked));
    b.record(now - seconds(4), KNOWN, boot_request("j1", BootOutcome::Boot));
    a.record(now - SignedDuration::from_millis(8400), None, transfer("snponly.efi"));
    a.record(now - seconds(5), None, EventKind::SessionStarted);
    for instance in [&a, &b, &c] {
        wait_for("the story is whole", || instance.story().len() == 4).await;
        assert_eq!(instance.names_of_steps(), ["boot-1", "boot-1", "boot-2", "boot-3"]);
        let machine = instance.machine().expect("a machine");
        assert_eq!(machine.verdict.state, BootState::Hooked);
        assert_eq!(machine.verdict.text, "volume hooked after 7 s");
        assert_eq!((machine.name.as_deref(), machine.journeys_without_hook), (Some("web-1"), 1));
        assert_eq!(instance.timeline.len(), 1, "the address has no record of its own any more");
        assert!(instance.membership.missing_events().is_empty());
    }
    // The neighbour table of boot-2 shows its networks.
    assert!(b.machine().is_some_and(|machine| machine.is_attached && machine.inferred_on_at.is_some()));
    assert!(a.machine().is_some_and(|machine| !machine.is_attached && machine.inferred_on_at.is_some()));
    // Each instance counts its own events, and joins those of the others once.
    let metrics = c.metrics.encode(&crate::telemetry::Reading::default());
    for line in ["volboot_boot_sessions_total 0", "volboot_cluster_joined_events_total 3"] {
        assert!(metrics.lines().any(|other| other == line), "{line}:\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_speak_tls() {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("generates");
    let files = tempfile::tempdir().expect("a directory");
    let (certificate, key) = (files.path().join("certificate"), files.path().join("key"));
    std::fs::write(&certificate, issued.cert.pem()).expect("writes");
    std::fs::write(&key, issued.signing_key.serialize_pem()).expect("writes");
    let store = MemoryStore::default();
    let start = |name, cacert: Option<&Path>| {
        let pair = Certificate::read_blocking(&certificate, &key).expect("is valid");
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let listener = listener.with_tls(Tls::new(Some(pair), PlainHttp::Refused));
        let url = format!("https://localhost:{}", listener.local_addr().port());
        let client = build_client(cacert).expect("a client");
        TestInstance::start_with(client, listener, &store, name, None, Some(url))
    };
    let (a, b) = (start("boot-1", Some(&certificate)), start("boot-2", Some(&certificate)));
    wait_for_all(&[&a, &b]).await;
    a.record(Timestamp::now(), KNOWN, report(BootStep::Hooked));
    wait_for("the event is joined", || b.story().len() == 1).await;
    // An instance that does not know the authority trusts nobody.
    let c = start("boot-3", None);
    wait_for("both are missing", || c.membership.missing_events().len() == 2).await;
    assert!(c.timeline.is_empty());
}

/// Without joined events, the instance at which the sessions begin would hold the machine back.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_hooks_at_another_instance_is_in_no_loop() {
    let store = MemoryStore::default();
    let start = |name| TestInstance::start(&store, name, None, None);
    let (a, b) = (start("boot-1"), start("boot-2"));
    wait_for_all(&[&a, &b]).await;
    let card = CountedCard { mac: CARD, is_confirmed: true };
    for session in 1..=8_u32 {
        let journey = format!("j{session}");
        let delay = a.timeline.loop_detector().check(card, &journey, Instant::now());
        assert_eq!(delay, None, "session {session}");
        a.record(Timestamp::now(), KNOWN, boot_request(&journey, BootOutcome::Boot));
        b.record(Timestamp::now(), KNOWN, report(BootStep::Hooked));
        // Equal events within a second are merged.
        let count_hooks = || {
            let events = a.timeline.events_blocking(MachineId::Mac(CARD)).into_iter();
            let hooks = events.filter(|event| matches!(event.kind, EventKind::BootReport { .. }));
            hooks.map(|event| event.count).sum::<u32>()
        };
        wait_for("boot-1 hears of the hook", || count_hooks() == session).await;
    }
}

/// Without joined events, each instance would count its own sessions only.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_over_several_instances_is_found_at_the_sixth_session() {
    let store = MemoryStore::default();
    let start = |name| TestInstance::start(&store, name, None, None);
    let instances = [start("boot-1"), start("boot-2"), start("boot-3")];
    let [a, b, c] = &instances;
    wait_for_all(&[a, b, c]).await;
    let card = CountedCard { mac: CARD, is_confirmed: true };
    let now = Timestamp::now();
    for session in 0..5_u8 {
        let (instance, journey) = (&instances[usize::from(session) % 3], format!("j{session}"));
        assert_eq!(instance.timeline.loop_detector().check(card, &journey, Instant::now()), None);
        let at = now - seconds(300 - 60 * i64::from(session));
        instance.record(at, KNOWN, EventKind::SessionStarted);
        instance.record(at + seconds(1), KNOWN, boot_request(&journey, BootOutcome::Boot));
    }
    for instance in &instances {
        wait_for("the sessions are known", || instance.story().len() == 10).await;
        assert_eq!(instance.machine().map(|machine| machine.journeys_without_hook), Some(5));
        let delay = instance.timeline.loop_detector().peek(card, None, Instant::now());
        assert_eq!(delay, Some(LoopDelay { journeys: 6, seconds: 60, is_first: true }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_by_ten_minutes_keep_the_order() {
    let store = MemoryStore::default();
    let start = |name| TestInstance::start(&store, name, None, None);
    let (a, b, c) = (start("boot-1"), start("boot-2"), start("boot-3"));
    let skews = [(&a, SignedDuration::from_mins(10)), (&c, SignedDuration::from_mins(-10))];
    for (instance, skew) in skews {
        instance.membership.set_clock_skew(skew);
    }
    wait_for_all(&[&a, &b, &c]).await;
    // Measured with the clocks as they are now: earlier samples may be of a clock without a skew.
    wait_for("the clocks are measured", || {
        let instances = b.membership.instances();
        let offsets: Vec<_> = instances.iter().filter_map(|other| other.clock_offset_ms).collect();
        offsets.len() == 2 && (offsets[0] - 600_000).abs() < 1000 && (offsets[1] + 600_000).abs() < 1000
    })
    .await;
    let (now, minutes) = (Timestamp::now(), SignedDuration::from_mins(10));
    a.record(now - SignedDuration::from_millis(5400) + minutes, KNOWN, EventKind::SessionStarted);
    b.record(now - seconds(4), KNOWN, boot_request("j1", BootOutcome::Boot));
    c.record(now - seconds(2) - minutes, KNOWN, report(BootStep::Hooked));
    wait_for("the story is whole", || b.story().len() == 3).await;
    assert_eq!(b.names_of_steps(), ["boot-1", "boot-2", "boot-3"]);
    let machine = b.machine().expect("a machine");
    assert_eq!(machine.verdict.text, "volume hooked after 3 s");
    assert!(machine.first_seen >= now - seconds(6) && machine.last_seen <= now, "{machine:?}");
}
