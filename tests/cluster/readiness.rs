//! `/readyz` of an instance: during outages of etcd, without space, at the shutdown, and at a start without etcd.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::appliance::{ApplianceOptions, LONG, Site};
use crate::etcd::Options;
use crate::proxy::Link;
use crate::{run, wait_until};

#[test]
fn an_instance_without_etcd_is_not_ready_and_says_since_when() {
    run(Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let mut a = site.start("boot-1").await;
        let mut enrolled = site.enroll(&a).await;
        enrolled.machine.boot(&[&a], LONG).await;
        enrolled.machine.report(a.http(), "hooked").await;
        wait_until(LONG, "the card is recorded", async || {
            site.records_of(&enrolled.volume).await.iter().all(|record| record.hooked_by.is_some())
        })
        .await;
        let body = a.wait_for_readiness(true).await;
        assert_eq!((&body["store"], &body["session"]), (&"ok".into(), &"ok".into()), "{body}");
        a.etcd.set_link(Link::Silent);
        let asked_at = Instant::now();
        wait_until(LONG, "the outage has an age", async || {
            let (is_ready, body) = a.readiness().await;
            let store = body["store"].as_str().unwrap_or_default().to_owned();
            !is_ready && store.starts_with("is away for ") && store != "is away for 0 s"
        })
        .await;
        assert!(asked_at.elapsed() < Duration::from_secs(15), "{:?}", asked_at.elapsed());
        let (status, text) = a.call("GET", "/healthz", &Value::Null).await;
        assert_eq!((status, text), (200, "ok\n".into()));
        // The API writes nothing, and gives the reason.
        let (status, body) = a.call("DELETE", &format!("/v1/nodes/{}", enrolled.node), &Value::Null).await;
        assert_eq!(status, 503, "{body}");
        a.etcd.set_link(Link::Up(Duration::ZERO));
        a.wait_for_readiness(true).await;
        // A start without etcd: from the mirror, not ready, and ready once etcd is back.
        a.kill();
        a.etcd.set_link(Link::Closed);
        a.restart();
        let (is_ready, body) = a.readiness().await;
        assert!(
            !is_ready && body["store"].as_str().is_some_and(|text| text.starts_with("is away")),
            "{body}"
        );
        assert_eq!(body["session"], "none");
        // Cinder confirms the attachment of the mirror's record.
        enrolled.machine.switch_off();
        enrolled.machine.boot(&[&a], LONG).await;
        a.etcd.set_link(Link::Up(Duration::ZERO));
        a.wait_for_readiness(true).await;
        a.get(&format!("/v1/nodes/{}", enrolled.node)).await;
    });
}

#[test]
fn at_the_shutdown_readiness_drops_first() {
    run(Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let delay = Duration::from_secs(3);
        let mut a = site.start_with("boot-1", ApplianceOptions::with_drain_delay(delay)).await;
        let b = site.start("boot-2").await;
        let mut enrolled = site.enroll(&a).await;
        enrolled.machine.boot(&[&a], LONG).await;
        a.wait_for_readiness(true).await;
        let signalled_at = Instant::now();
        a.daemon().terminate();
        let body = a.wait_for_readiness(false).await;
        assert_eq!((&body["stopping"], &body["store"]), (&true.into(), &"ok".into()), "{body}");
        // Machines are still answered.
        enrolled.machine.switch_off();
        enrolled.machine.boot(&[&a], delay).await;
        assert_eq!(a.daemon().wait(), Some(0));
        assert!(signalled_at.elapsed() >= delay);
        // The other instance has the whole story, and none of it is said to be missing.
        let appliance = b.get("/v1/appliance").await;
        assert_eq!(appliance["missing_events"], serde_json::json!([]), "{appliance}");
        assert!(b.timeline(&enrolled.mac).await.iter().any(|(instance, _)| instance == "boot-1"));
        enrolled.machine.switch_off();
        enrolled.machine.boot(&[&b], LONG).await;
        site.expect_consistent(&enrolled.volume, 1, LONG, "after the shutdown").await;
    });
}

#[test]
fn without_space_a_running_instance_stays_ready_and_a_new_one_is_not() {
    let arguments = vec!["--quota-backend-bytes".to_owned(), (4 << 20).to_string()];
    run(Options { arguments, ..Options::default() }, |etcd| async move {
        let mut site = Site::open(etcd).await;
        let a = site.start("boot-1").await;
        let mut enrolled = site.enroll(&a).await;
        enrolled.machine.boot(&[&a], LONG).await;
        site.expect_consistent(&enrolled.volume, 1, LONG, "after the boot").await;
        site.etcd.fill();
        wait_until(LONG, "the lack of space is told", async || {
            let (is_ready, body) = a.readiness().await;
            is_ready && body["store"].as_str().is_some_and(|text| text.contains("NOSPACE"))
        })
        .await;
        let b = site.start("boot-2").await;
        let (is_ready, body) = b.readiness().await;
        assert!(!is_ready && body["session"] == "none", "{body}");
        wait_until(LONG, "the reason is told", async || {
            b.readiness().await.1["store"].as_str().is_some_and(|text| text.contains("NOSPACE"))
        })
        .await;
        let (status, body) = a.call("DELETE", &format!("/v1/nodes/{}", enrolled.node), &Value::Null).await;
        assert!(status == 503 && body.to_string().contains("NOSPACE"), "{status}: {body}");
        site.etcd.compact_inside();
        site.etcd.ctl(&["defrag"]);
        site.etcd.ctl(&["alarm", "disarm"]);
        b.wait_for_readiness(true).await;
        enrolled.machine.switch_off();
        enrolled.machine.boot(&[&b], LONG).await;
        site.expect_consistent(&enrolled.volume, 1, LONG, "after the second boot").await;
    });
}
