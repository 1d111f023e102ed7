//! Several instances on one store: lists, conductors, and what is missing from timelines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::Request;
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use volboot::auth::Auth;
use volboot::cluster::{Membership, run};
use volboot::model::{Announcement, Mac};
use volboot::store::MemoryStore;
use volboot::telemetry::{Event, EventKind, Metrics};
use volboot::timeline::{MachineId, Timeline};
use volboot::web;

use super::{Api, column};
use crate::operator::build_operator_on;

/// The time limit of each wait.
const LIMIT: Duration = Duration::from_secs(30);
const CARD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);

async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The other instance has no listener, so its events are missing.
#[tokio::test]
async fn instances_are_listed_and_the_part_of_a_silent_one_is_missing() {
    let store = MemoryStore::default();
    let announcement: Announcement =
        serde_json::from_value(json!({"version": "0.9", "group": "rack-2"})).expect("an announcement");
    let silent = Timeline::open_blocking(None, Metrics::new());
    let name = "boot-2".parse().expect("a name");
    let other = Membership::new(name, Arc::new(store.join()), silent, announcement).expect("random numbers");
    tokio::spawn(run(other, None));
    let operator = build_operator_on(store, None);
    let (membership, timeline) = (operator.membership.clone(), operator.timeline.clone());
    tokio::spawn(run(membership.clone(), None));
    timeline.record(Event::new(Timestamp::now(), Some(CARD), None, EventKind::SessionStarted));
    wait_for("the machine is seen", || timeline.machine(MachineId::Mac(CARD)).is_some()).await;
    wait_for("the other instance is missed", || !membership.missing_events().is_empty()).await;
    let page = web::router(Arc::new(operator), Auth::NoAuth);
    let api = Api::with(|operator| {
        operator.membership = membership;
        operator.timeline = timeline;
    });

    let appliance = api.get("/v1/appliance").await.expect(200);
    assert_eq!(column(&appliance, "instances", "name"), ["boot-1", "boot-2"]);
    assert_eq!(column(&appliance, "instances", "self"), [true, false]);
    assert_eq!(appliance["instances"][1]["differences"], json!(["version of volboot"]));
    let machine = api.get(&format!("/v1/machines/{CARD}")).await.expect(200);
    for missing in [&appliance["missing_events"], &machine["missing_events"]] {
        assert_eq!(missing[0]["instance"], "boot-2");
        assert!(missing[0]["since"].is_string() && missing[0]["reason"] != Value::Null, "{missing}");
    }
    let conductors = api.get("/v1/conductors").await.expect(200);
    assert_eq!(column(&conductors, "conductors", "hostname"), ["boot-1", "boot-2"]);
    assert_eq!(column(&conductors, "conductors", "conductor_group"), ["", "rack-2"]);
    let first = api.get("/v1/conductors?limit=1&sort_dir=desc").await.expect(200);
    assert_eq!(column(&first, "conductors", "hostname"), ["boot-2"]);
    let next = first["next"].as_str().and_then(|next| next.split_once(":6385")).expect("a page").1;
    assert_eq!(column(&api.get(next).await.expect(200), "conductors", "hostname"), ["boot-1"]);
    let drivers = api.get("/v1/drivers").await.expect(200);
    assert_eq!(column(&drivers, "drivers", "hosts")[0], json!(["boot-1", "boot-2"]));

    for (path, texts) in [
        ("/ui/", ["Instances on the store", "may be missing", "does not answer"]),
        ("/ui/appliance", ["Instances on the store", "differs in version of volboot", "0.9"]),
        (&format!("/ui/machines/{CARD}"), ["The events of boot-2", "may be missing", "read /boot.ipxe"]),
    ] {
        let request = Request::get(path).header("host", "boot.example").body(Body::empty());
        let response = page.clone().oneshot(request.expect("a request")).await.expect("a response");
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        let body = String::from_utf8_lossy(&body);
        for text in texts {
            assert!(body.contains(text), "{path} lacks {text}:\n{body}");
        }
    }
}
