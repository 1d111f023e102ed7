//! What counts as a failed boot: one row for each rule, and each row over two instances.

use std::time::Duration;

use volboot::model::{BootStep, FallbackState};
use volboot::neighbours::Presence;

use super::{Machine, POLICY, Site, advance, boot_volume, settle};

/// What happens between the hooked volumes of the third boot and the fourth boot session.
#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    Up,
    UpAtTheOtherInstance,
    Restart,
    NewInstance,
    SessionLoss,
    Reset,
    DroppedReport,
    RefusedConnections,
    HookFailure,
    BootFailure,
    UnwrittenUp,
    ScriptOutsideASession,
    BootOnce,
    AnotherVolume,
    LongUptime,
    Soon,
    Answers,
    BeyondARouter,
}

async fn happens(site: &mut Site, machine: Machine, event: Event) {
    match event {
        Event::Nothing | Event::LongUptime | Event::Soon => {}
        Event::Answers => site.network.set(machine, Presence::Answers),
        Event::BeyondARouter => site.network.set(machine, Presence::Unknown),
        Event::Up => site.report(0, machine, &BootStep::Up, None),
        Event::UpAtTheOtherInstance => site.report(1, machine, &BootStep::Up, None),
        Event::Restart => {
            site.kill(1).await;
            site.start_instance().await;
        }
        Event::NewInstance => site.start_instance().await,
        Event::SessionLoss => site.instances[1].store.end_session(),
        Event::Reset => {
            let node = site.node(machine).await;
            site.operator.inventory.fallbacks().note_reset(&node).await.expect("writes");
        }
        Event::DroppedReport => site.instances[1].boot.note_dropped_report(machine.mac),
        Event::RefusedConnections => site.refuse_connections(1, machine.address()).await,
        Event::HookFailure => site.report(0, machine, &BootStep::Hook(0), Some("0x4c0a6035")),
        Event::BootFailure => site.report(0, machine, &BootStep::Boot, Some("0x1d852039")),
        Event::UnwrittenUp => {
            // The store is away for the instance that takes the report, and comes back before the next session.
            site.instances[1].store.set_outage(Some("no answer"));
            site.report(1, machine, &BootStep::Up, None);
            advance(60).await;
            site.instances[1].store.set_outage(None);
            advance(60).await;
        }
        Event::ScriptOutsideASession => {
            let request = volboot::model::BootRequest::new(machine.mac);
            assert!(boot_volume(&site.instances[1].boot.answer(&request).await).is_some());
        }
        Event::BootOnce => {
            let node = site.node(machine).await;
            let source = volboot::operator::SourceText { local: true, ..Default::default() };
            let once = volboot::operator::OnceRequest {
                source: source.parse().expect("a source"),
                with_volumes: false,
                shared: false,
                ttl: Duration::from_secs(3600),
            };
            let now = jiff::Timestamp::now();
            site.operator.set_boot_once(&node, once, now).await.expect("sets");
            let journey = site.new_journey();
            assert_eq!(boot_volume(&site.ask(1, machine, &journey, 1).await), None);
        }
        Event::AnotherVolume => {
            let targets: Vec<volboot::model::VolumeTarget> =
                site.operator.inventory.list_all_of(machine.node).await.expect("reads");
            let change = |old: &volboot::model::VolumeTarget, _: Option<&volboot::model::Node>| {
                let updated_at = Some(jiff::Timestamp::now());
                Ok::<_, ()>(volboot::model::VolumeTarget { updated_at, ..old.clone() })
            };
            site.operator.inventory.update(targets[0].uuid, change).await.expect("writes");
        }
    }
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn the_third_failed_boot_in_a_row_brings_the_fallback_into_force_and_any_doubt_does_not() {
    for (event, wait, expected, failed_boots) in [
        (Event::Nothing, 300, "spare-1", 3),
        (Event::Up, 300, "own-1", 0),
        (Event::UpAtTheOtherInstance, 300, "own-1", 0),
        (Event::Restart, 300, "own-1", 0),
        (Event::NewInstance, 300, "own-1", 0),
        (Event::SessionLoss, 300, "own-1", 0),
        (Event::Reset, 300, "own-1", 0),
        (Event::DroppedReport, 300, "own-1", 0),
        (Event::RefusedConnections, 300, "own-1", 0),
        (Event::HookFailure, 300, "own-1", 0),
        (Event::BootFailure, 300, "own-1", 0),
        (Event::UnwrittenUp, 300, "own-1", 0),
        (Event::ScriptOutsideASession, 300, "own-1", 0),
        (Event::BootOnce, 300, "own-1", 0),
        (Event::AnotherVolume, 300, "own-1", 0),
        (Event::LongUptime, 3700, "own-1", 0),
        (Event::Answers, 300, "own-1", 0),
        (Event::BeyondARouter, 300, "own-1", 0),
        // The time goes on, and the count stays.
        (Event::Soon, 60, "own-1", 2),
    ] {
        let mut site = Site::open(2).await;
        let machine = site.add_node(1, true).await;
        for boot in 0..2 {
            assert_eq!(site.boot_and_hook(boot, machine).await, "own-1");
            advance(300).await;
        }
        assert_eq!(site.boot_and_hook(0, machine).await, "own-1");
        happens(&mut site, machine, event).await;
        advance(wait).await;
        let journey = site.new_journey();
        let decision = site.ask(1, machine, &journey, 1).await;
        assert_eq!(boot_volume(&decision).as_deref(), Some(expected), "{event:?}");
        let FallbackState { failed_boots: count, in_force, .. } = site.state(machine).await;
        assert_eq!((count, in_force.is_some()), (failed_boots, expected == "spare-1"), "{event:?}");
        if let Some(notice) = &decision.fallback {
            assert!(
                notice.is_first && notice.text.contains("the last 3 boots of volume own-1"),
                "{notice:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_restarts_soon_falls_back_after_as_long_a_time() {
    let mut site = Site::open(1).await;
    let machine = site.add_node(1, true).await;
    let mut boots = 0;
    while site.boot_and_hook(0, machine).await == "own-1" {
        boots += 1;
        advance(40).await;
    }
    // Eight boots of 40 s make 320 s without a report, three times.
    assert_eq!(boots, 24);
    assert!(site.state(machine).await.in_force.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_does_not_start_counts_if_the_storage_is_there_at_the_next_try() {
    for (tries, falls_back) in [(1, false), (2, true)] {
        let mut site = Site::open(1).await;
        let machine = site.add_node(1, true).await;
        for _ in 0..3 {
            let journey = site.new_journey();
            for attempt in 1..=tries {
                assert!(boot_volume(&site.ask(0, machine, &journey, attempt).await).is_some());
                site.report(0, machine, &BootStep::Hooked, None);
                settle().await;
                site.report(0, machine, &BootStep::Boot, Some("0x7f22208e"));
                settle().await;
            }
            advance(300).await;
        }
        let volume = site.boot_and_hook(0, machine).await;
        assert_eq!(volume == "spare-1", falls_back, "{tries} tries: {volume}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_fallback_before_the_first_up_report_or_without_a_free_volume() {
    let mut site = Site::open(1).await;
    let (one, two) = (site.add_node(1, true).await, site.add_node(2, true).await);
    // Another node got the volume of the fallback as a volume target, which Ironic's API allows.
    let target = volboot::model::VolumeTarget::new(
        uuid::Uuid::new_v4(),
        one.node,
        1,
        "taken",
        jiff::Timestamp::UNIX_EPOCH,
    );
    let properties = serde_json::json!({
        "target_portal": "192.0.2.1:3260", "target_iqn": super::iqn_of("spare-2"), "target_lun": 1,
    });
    let properties = serde_json::from_value(properties).expect("an object");
    let target = volboot::model::VolumeTarget { properties, ..target };
    site.operator.inventory.create(&target).await.expect("creates");
    for _ in 0..POLICY.after {
        site.boot_and_hook(0, two).await;
        advance(300).await;
    }
    let journey = site.new_journey();
    let decision = site.ask(0, two, &journey, 1).await;
    assert_eq!(boot_volume(&decision).as_deref(), Some("own-2"));
    let volboot::model::BootAnswer::Boot(plan) = &decision.answer else { panic!("no boot") };
    assert_eq!(
        plan.notes[0],
        "the fallback is due after 3 failed boots, but the volume is a volume of node web-1 (boot index 1)"
    );

    // A system that never reported up: each of its boots looks failed. Once it was up, the count begins anew.
    let three = site.add_silent_node(3, true).await;
    for _ in 0..5 {
        assert_eq!(site.boot_and_hook(0, three).await, "own-3");
        advance(300).await;
    }
    assert_eq!(site.state(three).await.failed_boots, 4);
    site.report(0, three, &BootStep::Up, None);
    settle().await;
    for _ in 0..3 {
        assert_eq!(site.boot_and_hook(0, three).await, "own-3");
        advance(300).await;
    }
    assert_eq!(site.boot_and_hook(0, three).await, "spare-3");
    // All records end with the node.
    let ended =
        site.operator.inventory.delete(three.node, |_: &volboot::model::Node, _| Ok::<_, ()>(())).await;
    ended.expect("deletes");
    assert_eq!(site.operator.inventory.fallbacks().list().await.expect("lists").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn all_requests_of_a_boot_session_get_the_same_volume_from_every_instance() {
    let mut site = Site::open(2).await;
    let machine = site.add_node(1, true).await;
    for _ in 0..3 {
        site.boot_and_hook(0, machine).await;
        advance(300).await;
    }
    let journey = site.new_journey();
    // Both instances at once, and again.
    let (one, two) = tokio::join!(site.ask(0, machine, &journey, 1), site.ask(1, machine, &journey, 1));
    let mut volumes: Vec<_> = [&one, &two].into_iter().filter_map(boot_volume).collect();
    volumes.push(boot_volume(&site.ask(1, machine, &journey, 2).await).expect("boots"));
    assert!(volumes.iter().all(|volume| volume == "spare-1"), "{volumes:?}");
    // The next sessions too, without any further decision.
    assert_eq!(site.boot_and_hook(1, machine).await, "spare-1");
}
