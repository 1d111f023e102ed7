//! Instances that go away and come back: what is joined, and what is said to be missing.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_was_away_joins_each_event_once() {
    let (store, directory) = (MemoryStore::default(), tempfile::tempdir().expect("a directory"));
    let history = |name: &str| directory.path().join(format!("{name}.redb"));
    let start = |name: &str| TestInstance::start(&store, name, Some(&history(name)), None);
    let (a, b) = (start("boot-1"), start("boot-2"));
    wait_for_all(&[&a, &b]).await;
    a.record(Timestamp::now(), KNOWN, EventKind::SessionStarted);
    b.record(Timestamp::now(), KNOWN, boot_request("j1", BootOutcome::Boot));
    wait_for("both steps are joined", || [&a, &b].iter().all(|instance| instance.story().len() == 2)).await;
    b.crash().await;
    for session in 2..40 {
        a.record(Timestamp::now(), KNOWN, boot_request(&format!("j{session}"), BootOutcome::Boot));
    }
    wait_for("the events are recorded", || a.timeline.queued_events() == 0).await;
    // Both restart in turn: the numbers and the places are in the files.
    let b = start("boot-2");
    wait_for("the rest is joined", || b.story().len() == 40).await;
    a.shut_down().await;
    let a = start("boot-1");
    a.record(Timestamp::now(), KNOWN, report(BootStep::Hooked));
    wait_for("the next event is joined", || b.story().len() == 41).await;
    assert_eq!(a.story().len(), 41);
    let of_b = |instance: &TestInstance| {
        instance.names_of_steps().iter().filter(|instance| *instance == "boot-2").count()
    };
    assert_eq!((of_b(&a), of_b(&b)), (1, 1));
    assert!(b.membership.instances().iter().all(|instance| instance.events_lost_at.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_part_of_an_instance_that_does_not_answer_is_missing() {
    let store = MemoryStore::default();
    let start = |name| TestInstance::start(&store, name, None, None);
    let (a, b) = (start("boot-1"), start("boot-2"));
    wait_for_all(&[&a, &b]).await;
    let before = Timestamp::now();
    assert_eq!(b.membership.missing_events(), []);
    a.exchange.abort();
    a.stop.cancel();
    wait_for("the instance is missed", || !b.membership.missing_events().is_empty()).await;
    let missing = b.membership.missing_events().remove(0);
    assert_eq!(missing.instance.as_str(), "boot-1");
    assert!((before - missing.since).get_seconds().abs() < 10, "{missing:?}");
    assert!(missing.reason.starts_with("cannot reach it"), "{missing:?}");
    let reading = b.membership.reading();
    assert_eq!((reading.instances, reading.unreachable), (2, 1));
    assert!(reading.lag >= Duration::from_secs(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_shut_down_leaves_nothing_missing() {
    let store = MemoryStore::default();
    let start = |name| TestInstance::start(&store, name, None, None);
    let (a, b) = (start("boot-1"), start("boot-2"));
    wait_for_all(&[&a, &b]).await;
    // The last event of a drain.
    a.record(Timestamp::now(), KNOWN, report(BootStep::Hooked));
    a.shut_down().await;
    assert_eq!(b.story().len(), 1);
    wait_for("the instance is gone", || b.membership.instances().len() == 1).await;
    assert_eq!(b.membership.missing_events(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_without_a_listener_are_listed_and_missing() {
    let store = MemoryStore::default();
    let a = TestInstance::start(&store, "boot-1", None, None);
    let timeline = Timeline::open_blocking(None, Metrics::new());
    let mut other = announcement(None);
    other.config.insert("boot.tries".into(), "a".into());
    let name = "boot-2".parse().expect("a name");
    let other = Membership::new(name, Arc::new(store.join()), timeline, other).expect("random numbers");
    a.membership.update(|own| drop(own.config.insert("boot.tries".into(), "b".into())));
    tokio::spawn(run(other.clone(), None));
    wait_for("the instance is missed", || !a.membership.missing_events().is_empty()).await;
    let instance = a.membership.instances().remove(1);
    assert_eq!(instance.differences, ["configuration key boot.tries"]);
    assert!(instance.problem.is_some_and(|problem| problem.contains("[cluster] listen")));
    let instances = other.instances();
    assert_eq!(instances.len(), 2, "{instances:?}");
    assert_eq!(a.membership.reading().differing, 1);
}
