//! Enrollment through the API and the page: the same records, and the same values refused.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use volboot::auth::Auth;
use volboot::model::{Node, Port, StorageInterface, VolumeConnector, VolumeTarget};
use volboot::operator::Operator;
use volboot::store::Resource;
use volboot::telemetry::{Event, EventKind};
use volboot::web;

use super::{build_operator, call_api, send};
use crate::daemon::LIMIT;

const MAC: &str = "52:54:00:00:00:01";
const OTHER_MAC: &str = "52:54:00:00:00:02";
const IQN: &str = "iqn.2017-08.org.openstack.web-1";
const OTHER_IQN: &str = "iqn.2017-08.org.openstack.web-2";
const TARGET: &str = "iscsi:192.0.2.2::3260:1:iqn.2010-10.org.example:root";
const VOLUME: &str = "0b1d4a52-6d5f-4d21-9a7e-0e8a4d0a6a11";

/// The values of one enrollment, as an operator enters them.
#[derive(Clone, Copy)]
struct Entry {
    name: &'static str,
    mac: &'static str,
    iqn: &'static str,
    volume: &'static str,
    user: &'static str,
    secret: &'static str,
}

/// A valid enrollment with an iSCSI target.
const VALID: Entry = Entry { name: "web-1", mac: MAC, iqn: IQN, volume: TARGET, user: "", secret: "" };

/// Enrolls through the API. Returns the status, and the text of a fault.
async fn enroll_by_api(operator: &Arc<Operator>, entry: Entry) -> (u16, Value) {
    let kind = if entry.volume == VOLUME { "volume" } else { "target" };
    let mut body = json!({"name": entry.name, "mac": entry.mac, "iqn": entry.iqn, kind: entry.volume});
    for (name, value) in [("auth_username", entry.user), ("auth_password", entry.secret)] {
        if !value.is_empty() {
            body[name] = value.into();
        }
    }
    call_api(operator, "POST", "/v1/enrollments", &body).await
}

/// Enrolls through the form. Returns the status and the page.
async fn enroll_by_page(operator: &Arc<Operator>, entry: Entry) -> (u16, String) {
    let Entry { name, mac, iqn, volume, user, secret } = entry;
    // Pasted text often has spaces around it. A secret may begin or end with a space.
    let form = format!("name=+{name}+&iqn={iqn}%20&volume={volume}%0A&user=+{user}+&secret={secret}");
    let request = Request::post(format!("/ui/machines/{mac}/enroll"));
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(Body::from(form));
    send(web::router(Arc::clone(operator), Auth::NoAuth), request.expect("a request")).await
}

/// All records of the nodes, without their UUIDs and times.
async fn read_records(operator: &Operator) -> Vec<Value> {
    let mut records = Vec::new();
    for node in operator.inventory.list::<Node>(None, 10).await.expect("nodes") {
        let uuid = node.value.uuid;
        records.push(without_identity(&node.value));
        records.extend(read_records_of::<Port>(operator, uuid).await);
        records.extend(read_records_of::<VolumeConnector>(operator, uuid).await);
        records.extend(read_records_of::<VolumeTarget>(operator, uuid).await);
    }
    records
}

async fn read_records_of<R: Resource + Serialize>(operator: &Operator, node: Uuid) -> Vec<Value> {
    let records: Vec<R> = operator.inventory.list_all_of(node).await.expect("records");
    records.iter().map(without_identity).collect()
}

fn without_identity(record: &impl Serialize) -> Value {
    let mut record: Map<_, _> = serde_json::from_value(json!(record)).expect("an object");
    record.retain(|name, _| !["uuid", "node_uuid", "created_at"].contains(&name.as_str()));
    record.into()
}

/// Records an event of a machine: the page of a machine without a node exists only once the machine was seen.
async fn see_machine(operator: &Operator, mac: &str) {
    let mut updates = operator.timeline.subscribe();
    operator.timeline.record(Event::new(Timestamp::now(), mac.parse().ok(), None, EventKind::SessionStarted));
    tokio::time::timeout(LIMIT, updates.recv()).await.expect("within the limit").expect("an update");
}

fn operator_with(enabled: &[StorageInterface]) -> Arc<Operator> {
    let mut operator = build_operator();
    operator.enabled_storage_interfaces = enabled.to_vec();
    operator.conductor.group = "rack-1".parse().expect("a group");
    Arc::new(operator)
}

#[tokio::test]
async fn api_and_page_create_the_same_records() {
    use StorageInterface::{Cinder, External, Noop};
    for entry in [
        VALID,
        Entry { user: "ann", secret: "hunter2", ..VALID },
        Entry { user: "ann", secret: " a b ", ..VALID },
        Entry { volume: VOLUME, ..VALID },
    ] {
        let (by_api, by_page) =
            (operator_with(&[Noop, External, Cinder]), operator_with(&[Noop, External, Cinder]));
        let (status, fault) = enroll_by_api(&by_api, entry).await;
        assert_eq!(status, 201, "{fault}");
        let (status, page) = enroll_by_page(&by_page, entry).await;
        assert_eq!(status, 303, "{page}");
        let records = read_records(&by_api).await;
        assert_eq!(records.len(), 4, "{records:?}");
        assert_eq!(records, read_records(&by_page).await);
        for operator in [by_api, by_page] {
            let node = operator.find_node("web-1").await.expect("reads").expect("exists");
            assert!(operator.conductor.manages(&node), "{node:?}");
            let patch = json!([{"op": "add", "path": "/extra/rack", "value": "a"}]);
            let (status, fault) = call_api(&operator, "PATCH", "/v1/nodes/web-1", &patch).await;
            assert_eq!(status, 200, "{fault}");
        }
    }
}

#[tokio::test]
async fn api_and_page_refuse_the_same_values() {
    use StorageInterface::{Cinder, External, Noop};
    let all = &[Noop, External, Cinder][..];
    let other = Entry { name: "web-2", mac: OTHER_MAC, iqn: OTHER_IQN, ..VALID };
    for (enabled, entry, api_text, page_text) in [
        (
            &[Noop, External][..],
            Entry { volume: VOLUME, ..VALID },
            "Could not find the following interface in the 'ironic.hardware.interfaces.storage' entrypoint: cinder. \
             Valid interfaces are ['noop', 'external'].",
            r##"href="#volume">Storage interface cinder is not enabled; enabled are noop, external."##,
        ),
        (
            &[Noop, Cinder],
            VALID,
            "Could not find the following interface in the 'ironic.hardware.interfaces.storage' entrypoint: external. \
             Valid interfaces are ['noop', 'cinder'].",
            r##"href="#volume">Storage interface external is not enabled; enabled are noop, cinder."##,
        ),
        (
            all,
            Entry { name: "a b", ..VALID },
            "Cannot create node with invalid name 'a b'",
            r##"href="#name">Use only letters, digits and - . _ ~ in the name."##,
        ),
        (
            all,
            Entry { name: "detail", ..VALID },
            "The word \"detail\" is reserved and can not be used as a node name.",
            r##"href="#name">Use another name. Reserved words are: detail,"##,
        ),
        (
            all,
            Entry { iqn: "web-1", ..VALID },
            "iqn: an iSCSI name looks like",
            r##"href="#iqn">An iSCSI name looks like"##,
        ),
        (
            all,
            Entry { volume: "root", ..VALID },
            "target: expected iscsi:",
            r##"href="#volume">Enter the UUID of a Cinder"##,
        ),
        (
            all,
            Entry { user: "ann", ..VALID },
            "auth_username and auth_password must be set together",
            r##"href="#secret">Enter the secret"##,
        ),
        (
            all,
            Entry { secret: "hunter2", ..VALID },
            "auth_username and auth_password must be set together",
            r##"href="#user">Enter the user"##,
        ),
        (
            all,
            Entry { volume: VOLUME, user: "ann", secret: "hunter2", ..VALID },
            "auth_username and auth_password require a target",
            r##"href="#user">Leave user and secret empty"##,
        ),
        (
            all,
            Entry { name: "web-2", ..VALID },
            "A node with name web-2 already exists.",
            r##"href="#name">Another node has the name web-2."##,
        ),
        (
            all,
            Entry { mac: OTHER_MAC, ..VALID },
            "A port with MAC address 52:54:00:00:00:02 already exists.",
            "<h1>web-2",
        ),
        (
            all,
            Entry { iqn: OTHER_IQN, ..VALID },
            "A volume connector with type iqn and connector ID iqn.2017-08.org.openstack.web-2 already exists.",
            r##"href="#iqn">Another node has the"##,
        ),
    ] {
        // The other node was enrolled before the configuration changed.
        let operator = operator_with(all);
        assert_eq!(enroll_by_api(&operator, other).await.0, 201);
        let operator = Arc::into_inner(operator).expect("the only owner");
        let operator = Arc::new(Operator { enabled_storage_interfaces: enabled.to_vec(), ..operator });
        see_machine(&operator, entry.mac).await;
        let before = read_records(&operator).await;
        let (status, fault) = enroll_by_api(&operator, entry).await;
        assert!(
            matches!(status, 400 | 409) && fault.as_str().is_some_and(|fault| fault.starts_with(api_text)),
            "{status}: {fault}"
        );
        let (status, page) = enroll_by_page(&operator, entry).await;
        assert!(status == 422 && page.contains(page_text), "{status}: {page}");
        assert_eq!(read_records(&operator).await, before);
    }
}
