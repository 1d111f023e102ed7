//! The decision table of portals, the order of paths, and probes of real sockets.

use std::net::Ipv4Addr;

use tokio::net::TcpListener;
use uuid::Uuid;

use super::portals::MAX_PORTALS;
use super::*;
use crate::model::{BootVolume, SanUri};

fn portal(text: &str) -> Portal {
    text.parse().expect("a portal")
}

fn plan(portals: &[&str]) -> BootPlan {
    let path = |(at, text): (usize, &&str)| SanUri {
        portal: portal(text),
        lun: at.to_string().parse().expect("a LUN"),
        target: format!("iqn.2010-10.org.example:{at}").parse().expect("a name"),
    };
    BootPlan {
        node: Uuid::nil(),
        label: "web-1".into(),
        initiator: "iqn.2017-08.org.openstack.web-1".parse().expect("a name"),
        boot: BootVolume {
            id: "root".into(),
            paths: portals.iter().enumerate().map(path).collect(),
            chap: None,
        },
        data: Vec::new(),
        loader: None,
        notes: Vec::new(),
        once: None,
        portal_notes: Vec::new(),
    }
}

/// The portals of the boot volume, each with its target.
fn order(plan: &BootPlan) -> Vec<String> {
    plan.boot.paths.iter().map(|path| format!("{} {}", path.portal, path.target)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_portal_is_dead_only_if_it_was_reached_within_a_day_and_is_not_now() {
    let start = Instant::now();
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let it = portal("192.0.2.1");
    // The results of probes with their times, the time of the question, and whether the portal is dead then.
    for (probes, asked_at, is_dead) in [
        (vec![], hours(0), false),
        (vec![(hours(0), true)], hours(0), false),
        (vec![(hours(0), false)], hours(0), false),
        (vec![(hours(0), true), (hours(1), false)], hours(1), true),
        (vec![(hours(0), true), (hours(23), false)], hours(23), true),
        (vec![(hours(0), true), (hours(24), false)], hours(24), false),
        (vec![(hours(0), true), (hours(1), false)], hours(1) + Duration::from_secs(59), true),
        // The result is too old.
        (vec![(hours(0), true), (hours(1), false)], hours(1) + RESULT_AGE, false),
        (vec![(hours(0), true), (hours(1), false), (hours(2), true)], hours(2), false),
        (vec![(hours(0), false), (hours(1), true), (hours(2), false)], hours(2), true),
    ] {
        let mut portals = Portals::default();
        portals.note_use(std::slice::from_ref(&it), start);
        for (at, is_reached) in &probes {
            assert!(portals.begin_probe(&it) && !portals.begin_probe(&it), "one probe at a time");
            portals.finish_probe(&it, *is_reached, start + *at);
        }
        let silent = portals.silent_since(&it, start + asked_at);
        assert_eq!(silent.is_some(), is_dead, "{probes:?} at {asked_at:?}");
        let count = portals.count(start + asked_at);
        assert_eq!(count.dead, usize::from(is_dead), "{probes:?} at {asked_at:?}");
        assert_eq!(count.answering + count.dead + count.unknown, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn portals_in_use_are_renewed_before_their_results_are_old_and_then_forgotten() {
    let (start, it) = (Instant::now(), portal("192.0.2.1"));
    let mut portals = Portals::default();
    assert_eq!(portals.note_use(std::slice::from_ref(&it), start), std::slice::from_ref(&it));
    portals.begin_probe(&it);
    assert_eq!(portals.take_due(start), [], "the probe is under way");
    portals.finish_probe(&it, true, start);
    assert_eq!(portals.note_use(std::slice::from_ref(&it), start + Duration::from_secs(59)), []);
    assert_eq!(portals.take_due(start + Duration::from_secs(49)), []);
    assert_eq!(portals.take_due(start + Duration::from_secs(50)), std::slice::from_ref(&it));
    assert_eq!(portals.take_due(start + REACHED_WITHIN + RESULT_AGE), []);
    assert_eq!(portals.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn memory_has_a_limit() {
    let start = Instant::now();
    let mut portals = Portals::default();
    for number in 0..=MAX_PORTALS as u32 {
        let it = portal(&format!("{}:3260", Ipv4Addr::from(0x0a00_0000 + number)));
        portals.note_use(&[it], start + Duration::from_secs(number.into()));
    }
    assert_eq!(portals.len(), MAX_PORTALS);
    assert!(portals.begin_probe(&portal("10.0.4.0")) && !portals.begin_probe(&portal("10.0.0.0")));
}

#[test]
fn dead_portals_go_last_with_their_target_and_lun() {
    let texts = ["192.0.2.1:3260", "192.0.2.2:3260", "192.0.2.3:3260"];
    for (dead, expected) in [
        (vec![], vec![0, 1, 2]),
        (vec![0], vec![1, 2, 0]),
        (vec![1], vec![0, 2, 1]),
        (vec![2], vec![0, 1, 2]),
        (vec![0, 1], vec![2, 0, 1]),
        (vec![1, 2], vec![0, 1, 2]),
        (vec![0, 1, 2], vec![0, 1, 2]),
    ] {
        let mut plan = plan(&texts);
        let before = order(&plan);
        let is_dead = |it: &Portal| {
            dead.iter().any(|at: &usize| portal(texts[*at]) == *it).then_some(Duration::from_secs(720))
        };
        reorder::put_dead_portals_last(&mut plan, is_dead);
        let expected_order: Vec<_> = expected.iter().map(|at| before[*at].clone()).collect();
        assert_eq!(order(&plan), expected_order, "{dead:?}");
        assert_eq!(plan.portal_notes.is_empty(), expected == [0, 1, 2], "{dead:?}");
    }
    let mut plan = plan(&texts);
    reorder::put_dead_portals_last(&mut plan, |it| {
        (*it == portal(texts[0])).then_some(Duration::from_secs(720))
    });
    assert_eq!(
        plan.portal_notes,
        [
            "portal 192.0.2.1:3260 of volume root is tried last: it does not answer this host, and did 12 min ago"
        ]
    );
}

#[tokio::test]
async fn a_portal_that_stops_answering_is_found_and_one_that_never_answered_is_not_moved() {
    let listen = async || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listens");
        let address = listener.local_addr().expect("an address").to_string();
        (listener, address)
    };
    let ((first, first_portal), (second, second_portal), (never, never_portal)) =
        (listen().await, listen().await, listen().await);
    drop(never);
    let preflight = Preflight::default();
    let texts = [never_portal.as_str(), &first_portal, &second_portal];
    let mut sent = plan(&texts);
    preflight.apply(&mut sent).await;
    assert_eq!(order(&sent), order(&plan(&texts)));
    assert_eq!(preflight.is_reachable(&portal(&first_portal)), Some(true));
    assert_eq!(preflight.is_reachable(&portal(&never_portal)), Some(false));
    // One of two portals dies. Its cached result would last a minute.
    drop(first);
    for handle in [&first_portal, &second_portal].map(|text| preflight.start_probe(portal(text))) {
        handle.expect("a probe").await.expect("ends");
    }
    let mut sent = plan(&texts);
    preflight.apply(&mut sent).await;
    let before = order(&plan(&texts));
    assert_eq!(order(&sent), [before[0].clone(), before[2].clone(), before[1].clone()]);
    assert_eq!(sent.portal_notes.len(), 1);
    assert_eq!(preflight.count_portals(), PortalReading { answering: 1, dead: 1, unknown: 1 });
    preflight.configure(PreflightMode::Off);
    let mut sent = plan(&texts);
    preflight.apply(&mut sent).await;
    assert_eq!((order(&sent), sent.portal_notes), (before, Vec::new()));
    assert_eq!(preflight.count_portals(), PortalReading::default());
    drop(second);
}

#[tokio::test]
async fn a_plan_with_single_paths_probes_nothing() {
    let preflight = Preflight::default();
    preflight.apply(&mut plan(&["192.0.2.1"])).await;
    assert_eq!(preflight.0.portals.lock().len(), 0);
}
