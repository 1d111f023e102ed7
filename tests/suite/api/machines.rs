//! What volboot tells of machines beyond Ironic's API: lists, timelines, previews, what is followed and counted.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use volboot::model::Mac;
use volboot::telemetry::{Answered, Event, What};
use volboot::timeline::{Key, Timeline};

use super::Api;

/// How long anything here may take before it has failed.
const LIMIT: Duration = Duration::from_secs(20);

fn mac(last: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, last])
}

fn asked(outcome: &'static str, reason: Option<&str>, node: Option<&str>) -> What {
    What::Answered(Box::new(Answered {
        attempt: 1,
        tries: 10,
        macs: Vec::new(),
        platform: Some("efi".into()),
        arch: None,
        uuid: None,
        node: node.map(|uuid| uuid.parse().expect("a UUID")),
        name: node.map(|_| "web-1".into()),
        journey: None,
        resolved: Vec::new(),
        hooks: Vec::new(),
        outcome: outcome.into(),
        reason: reason.map(str::to_owned),
        micros: 10,
    }))
}

/// Tells of something, and waits until it is known.
async fn tell(timeline: &Timeline, last: u8, what: What) {
    let address: IpAddr = [192, 0, 2, last].into();
    timeline.tell(Event::new(Timestamp::now(), Some(mac(last)), Some(address), what));
    let deadline = Instant::now() + LIMIT;
    while timeline.queue() > 0 || timeline.machine(Key::Mac(mac(last))).is_none() {
        assert!(Instant::now() < deadline, "it is known");
        tokio::task::yield_now().await;
    }
}

fn api() -> (Api, Timeline) {
    // Events are read from a file. This one stays open for as long as it is needed, whatever becomes of its name.
    let place = tempfile::tempdir().expect("a directory");
    let mut timeline = None;
    let api = Api::with(|state| {
        state.watch.timeline =
            Timeline::open(Some(&place.path().join("history.redb")), state.watch.metrics.clone());
        timeline = Some(state.watch.timeline.clone());
    });
    (api, timeline.expect("is there"))
}

/// A node that can boot, with the address that ends with 1.
async fn enrolled(api: &Api) -> String {
    let node = api
        .node(json!({
            "name": "web-1", "storage_interface": "external", "properties": {"capabilities": "iscsi_boot:True"},
        }))
        .await;
    let port = json!({"node_uuid": node, "address": mac(1).to_string()});
    api.post("/v1/ports", port).await.expect(201);
    let connector = json!({
        "node_uuid": node, "type": "iqn", "connector_id": "iqn.2017-08.org.openstack.web-1",
    });
    api.post("/v1/volume/connectors", connector).await.expect(201);
    let properties = json!({
        "target_portal": "192.0.2.9:3260", "target_iqn": "iqn.2010-10.org.openstack:root", "target_lun": 1,
        "auth_method": "CHAP", "auth_username": "user", "auth_password": "hunter2",
    });
    let target = json!({
        "node_uuid": node, "volume_type": "iscsi", "boot_index": 0, "volume_id": "root", "properties": properties,
    });
    api.post("/v1/volume/targets", target).await.expect(201);
    node
}

#[tokio::test]
async fn machines_are_listed_with_their_verdicts_and_found_by_what_is_known_of_them() {
    let (api, timeline) = api();
    let node = enrolled(&api).await;
    tell(&timeline, 1, asked("boot", None, Some(&node))).await;
    tell(&timeline, 2, asked("unknown", Some("no node has a port with the address X"), None)).await;
    let list = api.get("/v1/machines").await.expect(200);
    let listed = list["machines"].as_array().expect("a list");
    let ids: Vec<_> = listed.iter().map(|machine| machine["id"].as_str().expect("a text")).collect();
    assert_eq!(ids, ["52:54:00:00:00:02", "52:54:00:00:00:01"]);
    assert_eq!(
        listed[0]["verdict"],
        json!({
            "state": "unknown", "advice": "Enrol it: `volboot enroll`.",
            "text": "stopped at its question, because no node has a port with the address X",
        })
    );
    assert_eq!((&listed[1]["name"], &listed[1]["node"]), (&json!("web-1"), &json!(node)));
    for (query, expected) in [
        ("state=unknown", vec!["52:54:00:00:00:02"]),
        ("state=booted", vec![]),
        ("q=web", vec!["52:54:00:00:00:01"]),
        ("q=192.0.2.2", vec!["52:54:00:00:00:02"]),
        ("q=52:54", vec!["52:54:00:00:00:02", "52:54:00:00:00:01"]),
        ("limit=1", vec!["52:54:00:00:00:02"]),
        ("after=52:54:00:00:00:02", vec!["52:54:00:00:00:01"]),
    ] {
        let page = api.get(&format!("/v1/machines?{query}")).await.expect(200);
        let found = page["machines"].as_array().expect("a list").iter();
        let found: Vec<_> = found.map(|machine| machine["id"].as_str().expect("a text")).collect();
        assert_eq!(found, expected, "{query}");
        let next = json!("http://boot.example:6385/v1/machines?limit=1&after=52:54:00:00:00:02");
        assert_eq!(page.get("next"), (query == "limit=1").then_some(&next), "{query}");
    }
    for nonsense in ["state=lost", "limit=0", "after=web-1", "x=1"] {
        api.get(&format!("/v1/machines?{nonsense}")).await.fault(400);
    }
    api.get("/v1/machines?after=52:54:00:00:00:09").await.fault(404);
    api.get("/v1/machines/52:54:00:00:00:09").await.fault(404);
    api.get("/v1/machines/nonsense").await.fault(400);
}

#[tokio::test]
async fn a_timeline_is_told_of_a_machine_and_of_a_node() {
    let (api, timeline) = api();
    let node = enrolled(&api).await;
    tell(&timeline, 1, asked("boot", None, Some(&node))).await;
    tell(&timeline, 1, What::Reported { step: Some("hooked".into()), rc: None, attempt: 1 }).await;
    let machine = api.get("/v1/machines/52-54-00-00-00-01").await.expect(200);
    let history = api.get("/v1/nodes/web-1/boot-history").await.expect(200);
    assert_eq!(machine["timeline"], history["timeline"]);
    let texts = |told: &Value| -> Vec<String> {
        let entries = told.as_array().expect("a list").iter();
        entries.map(|entry| entry["text"].as_str().expect("a text").to_owned()).collect()
    };
    assert_eq!(
        texts(&history["timeline"]),
        [
            "asked for its script (UEFI), try 1; it was sent",
            "hooked its volumes: it has logged in and found its disks"
        ]
    );
    assert_eq!(history["verdict"]["state"], "hooked");
    assert_eq!(history["machines"][0]["id"], "52:54:00:00:00:01");
    // A node that never booted has a history, too.
    api.node(json!({"name": "web-2"})).await;
    let nothing = api.get("/v1/nodes/web-2/boot-history").await.expect(200);
    assert_eq!((&nothing["verdict"], &nothing["timeline"]), (&Value::Null, &json!([])));
    api.get("/v1/nodes/web-3/boot-history").await.fault(404);
}

#[tokio::test]
async fn a_preview_is_what_the_machine_would_get_without_the_secrets() {
    let (api, timeline) = api();
    let node = enrolled(&api).await;
    let preview = api.get("/v1/nodes/web-1/boot-preview").await.expect(200);
    assert_eq!((&preview["outcome"], &preview["reason"]), (&json!("boot"), &Value::Null));
    let script = preview["script"].as_str().expect("a text");
    assert!(
        script.contains("set password:hex ******\n") && script.contains("sanhook --drive 0x80"),
        "{script}"
    );
    assert!(!script.contains("68:75:6e:74:65:72:32"), "{script}");
    assert_eq!(preview["asked_as"], json!({"macs": ["52:54:00:00:00:01"], "platform": null}));
    // As the firmware that it was seen with.
    tell(&timeline, 1, asked("boot", None, Some(&node))).await;
    let preview = api.get("/v1/nodes/web-1/boot-preview").await.expect(200);
    assert_eq!(preview["asked_as"]["platform"], "efi");
    let preview = api.get("/v1/nodes/web-1/boot-preview?platform=pcbios").await.expect(200);
    assert_eq!(preview["asked_as"]["platform"], "pcbios");
    api.get("/v1/nodes/web-1/boot-preview?platform=riscv").await.fault(400);
    // Nobody has booted by that.
    assert_eq!(timeline.events_blocking(Key::Mac(mac(1))).len(), 1);
    api.put("/v1/nodes/web-1/maintenance", json!({"reason": "disks"})).await.expect(202);
    let preview = api.get("/v1/nodes/web-1/boot-preview").await.expect(200);
    assert_eq!(
        (&preview["outcome"], &preview["reason"]),
        (&json!("refuse"), &json!("node web-1 is in maintenance: disks"))
    );
    api.node(json!({"name": "web-2"})).await;
    let nothing = api.get("/v1/nodes/web-2/boot-preview").await.expect(200);
    assert_eq!((&nothing["outcome"], &nothing["script"]), (&json!("unknown"), &Value::Null));
}

#[tokio::test]
async fn what_happens_is_told_while_it_happens_until_the_end() {
    let mut watch = None;
    let api = Api::with(|state| {
        state.watch.stop = CancellationToken::new();
        watch = Some(state.watch.clone());
    });
    let watch = watch.expect("is there");
    let request = Request::get("/v1/events?machine=52:54:00:00:00:01").header("host", "boot.example:6385");
    let request = request.body(Body::empty()).expect("a request");
    let answer = api.router.clone().oneshot(request).await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    let mut next = async || {
        let frame = tokio::time::timeout(LIMIT, body.frame()).await.expect("in time");
        frame.map(|frame| {
            String::from_utf8(frame.expect("a frame").into_data().expect("data").to_vec()).expect("text")
        })
    };
    assert_eq!(next().await.as_deref(), Some("retry: 2000\n\n"));
    tell(&watch.timeline, 2, asked("unknown", Some("nobody knows it"), None)).await;
    tell(&watch.timeline, 1, asked("wait", Some("Cinder is away"), None)).await;
    let message = next().await.expect("a message");
    let data = message.strip_prefix("data: ").and_then(|data| data.strip_suffix("\n\n")).expect("data");
    let told: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(told["machine"]["id"], "52:54:00:00:00:01");
    assert_eq!(told["machine"]["verdict"]["text"], "waits, because Cinder is away");
    assert_eq!(told["event"]["text"], "asked for its script (UEFI), try 1; it has to wait: Cinder is away");
    watch.stop.cancel();
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn no_more_may_follow_than_there_is_room_for() {
    let (api, timeline) = api();
    let followers: Vec<_> = (0..64).map(|_| timeline.follow()).collect();
    api.get("/v1/events").await.fault(503);
    drop(followers);
}

#[tokio::test]
async fn what_is_counted_is_told_and_so_is_how_volboot_is() {
    let (api, timeline) = api();
    tell(&timeline, 2, asked("unknown", Some("nobody knows it"), None)).await;
    let text = api.get("/v1/metrics").await.expect(200);
    let text = text.as_str().expect("a text");
    for line in [
        "volboot_boot_requests_total{outcome=\"unknown\"} 1",
        "volboot_machines{state=\"unknown\"} 1",
        "volboot_store_up 1",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
    }
    assert_eq!(api.get("/metrics").await.expect(200).as_str().expect("a text").lines().last(), Some("# EOF"));
    let appliance = api.get("/v1/appliance").await.expect(200);
    assert_eq!(appliance["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(appliance["cinder"], "not configured");
    assert_eq!(appliance["machines"]["unknown"], 1);
}

#[tokio::test]
async fn a_node_is_enrolled_whole_or_not_at_all() {
    let (api, _timeline) = api();
    let body = json!({
        "name": "web-1", "mac": "52-54-00-00-00-01", "iqn": "iqn.2017-08.org.openstack.web-1",
        "target": "iscsi:192.0.2.9::3260:1:iqn.2010-10.org.openstack:root",
        "auth_username": "user", "auth_password": "hunter2",
    });
    let made = api.post("/v1/enrollments", body.clone()).await;
    let location = made.header("location").to_owned();
    let made = made.expect(201);
    let uuid = made["node"]["uuid"].as_str().expect("a UUID");
    assert_eq!(location, format!("http://boot.example:6385/v1/nodes/{uuid}"));
    assert_eq!(made["target"]["properties"]["auth_password"], "******");
    let preview = api.get("/v1/nodes/web-1/boot-preview").await.expect(200);
    assert_eq!(preview["outcome"], "boot", "{preview}");
    // It is as if it had been made by Ironic's own requests.
    assert_eq!(api.get("/v1/nodes/web-1").await.expect(200), made["node"]);
    assert_eq!(api.get("/v1/ports").await.expect(200)["ports"].as_array().map(Vec::len), Some(1));

    let with = |name: &str, value: Value| {
        let mut body = body.clone();
        body[name] = value;
        body
    };
    let other = with("name", json!("web-2"));
    let fault = api.post("/v1/enrollments", other.clone()).await.fault(409);
    assert_eq!(fault, "A port with MAC address 52:54:00:00:00:01 already exists.");
    for (name, value) in [
        ("mac", json!("nonsense")),
        ("iqn", json!("nonsense")),
        ("target", json!("iscsi:nonsense")),
        ("target", Value::Null),
        ("volume", json!("7f0e5a3c-0000-0000-0000-000000000001")),
        ("auth_password", Value::Null),
        ("driver", json!("ipmi")),
        ("name", json!("a b")),
        ("colour", json!("red")),
    ] {
        api.post("/v1/enrollments", with(name, value)).await.fault(400);
    }
    let nodes = api.get("/v1/nodes").await.expect(200);
    assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(1), "nothing is left of what was refused");
    let mut cinder = with("mac", json!("52:54:00:00:00:02"));
    cinder["name"] = "web-2".into();
    cinder["iqn"] = "iqn.2017-08.org.openstack.web-2".into();
    for name in ["target", "auth_username", "auth_password"] {
        cinder[name] = Value::Null;
    }
    cinder["volume"] = "7f0e5a3c-0000-0000-0000-000000000001".into();
    let made = api.post("/v1/enrollments", cinder).await.expect(201);
    assert_eq!(made["node"]["storage_interface"], "cinder");
    api.delete(&format!("/v1/nodes/{uuid}")).await.expect(204);
    assert_eq!(api.get("/v1/ports").await.expect(200)["ports"].as_array().map(Vec::len), Some(1));
}
