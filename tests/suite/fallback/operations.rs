//! What operators do: set, promote, retry and remove a fallback; the same through the API, by PATCH, and at the page.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use volboot::api;
use volboot::auth::Auth;
use volboot::model::{BootStep, Connection, Fallback, FallbackState, Node, PowerState, VolumeTarget};
use volboot::operator::Operator;
use volboot::store::{FallbackBasis, FallbackSnapshot};
use volboot::web;

use super::{Machine, Site, advance, boot_volume, iqn_of, settle};

const PATH: &str = "/v1/nodes/web-1/fallback";

fn uri(volume: &str) -> String {
    format!("iscsi:192.0.2.1::3260:1:{}", iqn_of(volume))
}

async fn send(router: Router, method: &str, path: &str, kind: &str, body: String) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("x-openstack-ironic-api-version", "1.52")
        .header("content-type", kind)
        .header("host", "boot.example")
        .header("origin", "http://boot.example")
        .body(Body::from(body))
        .expect("a request");
    let response = router.oneshot(request).await.expect("a response");
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

async fn call(operator: &Arc<Operator>, method: &str, path: &str, body: &Value) -> (u16, String) {
    let router = api::router(Arc::clone(operator), Auth::NoAuth);
    send(router, method, path, "application/json", body.to_string()).await
}

async fn submit(operator: &Arc<Operator>, path: &str, form: &str) -> (u16, String) {
    let router = web::router(Arc::clone(operator), Auth::NoAuth);
    send(router, "POST", path, "application/x-www-form-urlencoded", form.to_owned()).await
}

fn parse(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_default()
}

/// A site with one node without a fallback, and the operator apart, for its requests.
async fn open() -> (Site, Machine, Arc<Operator>) {
    let site = Site::open(1).await;
    let machine = site.add_node(1, false).await;
    let operator = Arc::new(crate::operator::build_operator_on(site.shared.join(), None));
    (site, machine, operator)
}

async fn fail_boots(site: &mut Site, machine: Machine) {
    for _ in 0..3 {
        assert_eq!(site.boot_and_hook(0, machine).await, "own-1");
        advance(300).await;
    }
}

async fn boot_target(site: &Site, machine: Machine) -> VolumeTarget {
    site.operator.inventory.list_all_of::<VolumeTarget>(machine.node).await.expect("reads").remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_fallback_is_set_fallen_back_to_retried_promoted_and_removed_over_the_api() {
    let (mut site, machine, operator) = open().await;
    let body = json!({"target": uri("spare"), "auth_username": "ann", "auth_password": "a-long-secret"});
    let (status, shown) = call(&operator, "PUT", PATH, &body).await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(parse(&shown)["fallback"], json!({"target": uri("spare"), "auth_username": "ann"}));
    assert!(!shown.contains("a-long-secret"));
    let (_, node) = call(&operator, "GET", "/v1/nodes/web-1", &json!({})).await;
    assert_eq!(parse(&node)["extra"]["volboot"]["fallback"], json!({"target": uri("spare")}));

    fail_boots(&mut site, machine).await;
    let journey = site.new_journey();
    let decision = site.ask(0, machine, &journey, 1).await;
    assert_eq!(boot_volume(&decision).as_deref(), Some("spare"));
    let volboot::model::BootAnswer::Boot(plan) = &decision.answer else { panic!("no boot") };
    assert_eq!(plan.boot.chap.as_ref().map(|chap| chap.username.as_str()), Some("ann"));
    assert!(
        plan.notes[0].starts_with("boots from its fallback, volume iqn.2010-10.org.example:spare"),
        "{:?}",
        plan.notes
    );
    let (_, shown) = call(&operator, "GET", PATH, &json!({})).await;
    let shown = parse(&shown);
    assert_eq!(
        (&shown["in_force"]["failed_boots"], &shown["in_force"]["failed_volume"]),
        (&json!(3), &json!("own-1"))
    );

    // The machine runs from it: it cannot be taken away, by neither way, nor be given to another node.
    let (status, refused) = call(&operator, "DELETE", PATH, &json!({})).await;
    assert_eq!(status, 409, "{refused}");
    let patch = json!([{"op": "remove", "path": "/extra/volboot"}]);
    let (status, refused) = call(&operator, "PATCH", "/v1/nodes/web-1", &patch).await;
    assert_eq!(status, 409, "{refused}");
    assert!(refused.contains("may run from its fallback"), "{refused}");

    let (status, shown) = call(&operator, "POST", &format!("{PATH}/retry"), &json!({})).await;
    assert_eq!((status, &parse(&shown)["in_force"]), (200, &json!(null)));
    let (status, _) = call(&operator, "DELETE", PATH, &json!({})).await;
    assert_eq!(status, 409, "before the machine has booted from its own volume");
    fail_boots(&mut site, machine).await;
    assert_eq!(site.boot_and_hook(0, machine).await, "spare");

    let (status, shown) = call(&operator, "POST", &format!("{PATH}/promote"), &json!({})).await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(parse(&shown)["fallback"], json!({"target": uri("own-1"), "name": "own-1"}));
    let target = boot_target(&site, machine).await;
    let connection = Connection::from_record(&target.properties).expect("a connection");
    assert_eq!(connection.paths[0].to_string(), uri("spare"));
    assert_eq!(connection.chap.map(|chap| chap.username).as_deref(), Some("ann"));
    assert_eq!(site.boot_and_hook(0, machine).await, "spare");
    assert!(site.state(machine).await.in_force.is_none());

    let (status, _) = call(&operator, "DELETE", PATH, &json!({})).await;
    assert_eq!(status, 204);
    assert_eq!(Fallback::of(&site.node(machine).await), Ok(None));
    let (status, refused) = call(&operator, "POST", &format!("{PATH}/retry"), &json!({})).await;
    assert_eq!(status, 409, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_promotion_at_any_moment_of_a_boot_leaves_the_machine_one_of_its_two_volumes() {
    let (mut site, machine, operator) = open().await;
    call(&operator, "PUT", PATH, &json!({"target": uri("spare")})).await;
    let promote = format!("{PATH}/promote");
    // Between two tries: the session is over for the records, and the machine's next request begins anew.
    let journey = site.new_journey();
    assert_eq!(boot_volume(&site.ask(0, machine, &journey, 1).await).as_deref(), Some("own-1"));
    let nothing = json!({});
    assert_eq!(call(&operator, "POST", &promote, &nothing).await.0, 200);
    assert_eq!(boot_volume(&site.ask(0, machine, &journey, 2).await).as_deref(), Some("spare"));
    // At the same time as a request.
    for _ in 0..20 {
        let journey = site.new_journey();
        let (decision, (status, _)) =
            tokio::join!(site.ask(0, machine, &journey, 1), call(&operator, "POST", &promote, &nothing));
        assert_eq!(status, 200);
        let volume = boot_volume(&decision);
        assert!(volume.is_none() || ["own-1", "spare"].contains(&volume.as_deref().unwrap_or_default()));
        settle().await;
        let own =
            Connection::from_record(&boot_target(&site, machine).await.properties).expect("a connection");
        let next = site.boot_and_hook(0, machine).await;
        assert_eq!(iqn_of(&next), own.paths[0].target.as_str(), "the next boot is from the boot volume");
        site.report(0, machine, &BootStep::Up, None);
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_another_node_is_refused_by_every_way_unless_shared() {
    let (site, _, operator) = open().await;
    site.add_node(2, true).await;
    for volume in ["own-2", "spare-2"] {
        let (status, refused) = call(&operator, "PUT", PATH, &json!({"target": uri(volume)})).await;
        assert_eq!(status, 409, "{refused}");
        assert!(refused.contains("of node web-2") && refused.contains("shared"), "{refused}");
        let fields = json!({"fallback": {"target": uri(volume)}});
        let patch = json!([{"op": "add", "path": "/extra/volboot", "value": fields}]);
        let (status, refused) = call(&operator, "PATCH", "/v1/nodes/web-1", &patch).await;
        assert_eq!(status, 409, "{refused}");
        let (status, page) =
            submit(&operator, "/ui/nodes/web-1/fallback", &format!("source={}", uri(volume))).await;
        assert_eq!(status, 409, "{page}");
        let body = json!({"target": uri(volume), "shared": true});
        assert_eq!(call(&operator, "PUT", PATH, &body).await.0, 200);
        assert_eq!(call(&operator, "DELETE", PATH, &json!({})).await.0, 204);
    }
    let own = json!({"target": uri("own-1"), "shared": true});
    let (status, refused) = call(&operator, "PUT", PATH, &own).await;
    assert_eq!(status, 409, "{refused}");
    assert!(refused.contains("one of the node's own volumes"), "{refused}");
    // A one-time boot of another node counts, and so does a fallback for a one-time boot.
    let once = json!({"target": uri("rescue")});
    assert_eq!(call(&operator, "PUT", "/v1/nodes/web-2/boot-once", &once).await.0, 200);
    assert_eq!(call(&operator, "PUT", PATH, &once).await.0, 409);
    let once = json!({"target": uri("spare-2")});
    let (status, refused) = call(&operator, "PUT", "/v1/nodes/web-1/boot-once", &once).await;
    assert_eq!(status, 409, "{refused}");
    assert!(refused.contains("fallback of node web-2"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn of_two_fallbacks_named_at_once_one_is_refused() {
    let (site, _, operator) = open().await;
    site.add_node(2, false).await;
    let other = Arc::new(crate::operator::build_operator_on(site.shared.join(), None));
    for round in 0..20 {
        let body = json!({"target": uri(&format!("spare-of-round-{round}"))});
        let (one, two) = tokio::join!(
            call(&operator, "PUT", PATH, &body),
            call(&other, "PUT", "/v1/nodes/web-2/fallback", &body)
        );
        let mut statuses = [one.0, two.0];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{one:?} {two:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn invalid_fallbacks_are_refused_without_showing_a_secret() {
    let (site, machine, operator) = open().await;
    for body in [
        json!({}),
        json!({"volume": "root"}),
        json!({"target": "iscsi:nowhere", "auth_username": "a", "auth_password": "a-long-secret"}),
        json!({"target": uri("spare"), "auth_password": "a-long-secret"}),
        json!({"target": uri("spare"), "auth_username": "a", "auth_password": ["a-long-secret"]}),
        json!({"target": uri("spare"), "auth_username": "a", "auth_password": "s".repeat(300)}),
        json!({"volume": "0b1d4a52-6d5f-4d21-9a7e-0e8a4d0a6a11", "with_data": true}),
        json!({"target": uri("spare"), "colour": "blue"}),
        json!({"target": 7}),
    ] {
        let (status, refused) = call(&operator, "PUT", PATH, &body).await;
        assert_eq!(status, 400, "{body}: {refused}");
        assert!(!refused.contains("a-long-secret"), "{refused}");
    }
    let secret = json!({"target": uri("spare"), "auth_password": "a-long-secret"});
    let patch = json!([{"op": "add", "path": "/extra/volboot", "value": {"fallback": secret}}]);
    let (status, refused) = call(&operator, "PATCH", "/v1/nodes/web-1", &patch).await;
    assert_eq!(status, 400, "{refused}");
    assert!(refused.contains("auth_password") && !refused.contains("a-long-secret"), "{refused}");
    assert_eq!(Fallback::of(&site.node(machine).await), Ok(None));
    // What other clients keep beside it stays.
    let patch = json!([{"op": "add", "path": "/extra/volboot", "value": {"window": "off"}}]);
    assert_eq!(call(&operator, "PATCH", "/v1/nodes/web-1", &patch).await.0, 200);
    assert_eq!(call(&operator, "PUT", PATH, &json!({"target": uri("spare")})).await.0, 200);
    assert_eq!(call(&operator, "DELETE", PATH, &json!({})).await.0, 204);
    let node = site.node(machine).await;
    assert_eq!(node.extra.get("volboot"), Some(&json!({"window": "off"})));
}

/// The form of an action's page, with what the page shows.
async fn ask(operator: &Arc<Operator>, action: &str) -> String {
    let path = format!("/ui/nodes/web-1/fallback/{action}");
    let router = web::router(Arc::clone(operator), Auth::NoAuth);
    let (_, page) = send(router, "GET", &path, "text/plain", String::new()).await;
    let (_, rest) = page.split_once("name=\"basis\" value=\"").unwrap_or_else(|| panic!("{page}"));
    format!("basis={}", rest.split('"').next().expect("a value"))
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_out_of_date_neither_promotes_nor_removes_nor_retries() {
    let (mut site, machine, operator) = open().await;
    call(&operator, "PUT", PATH, &json!({"target": uri("other")})).await;
    let (promote, remove) = (ask(&operator, "promote").await, ask(&operator, "remove").await);
    call(&operator, "PUT", PATH, &json!({"target": uri("spare")})).await;
    let stale = async |action: &str, form: &str| {
        let (status, page) = submit(&operator, &format!("/ui/nodes/web-1/fallback/{action}"), form).await;
        assert_eq!(status, 409, "{action}: {page}");
        assert!(page.contains("This has changed since the page was made."), "{page}");
    };
    stale("promote", &promote).await;
    stale("remove", &remove).await;
    let ready = ask(&operator, "promote").await;
    fail_boots(&mut site, machine).await;
    assert_eq!(site.boot_and_hook(0, machine).await, "spare");
    stale("promote", &ready).await;
    stale("retry", &ready).await;
    assert!(site.state(machine).await.in_force.is_some());
    // A second click on the same page does not undo the first.
    let form = ask(&operator, "promote").await;
    assert_eq!(submit(&operator, "/ui/nodes/web-1/fallback/promote", &form).await.0, 303);
    stale("promote", &form).await;
    assert_eq!(boot_volume_of(&site, machine).await, iqn_of("spare"));
}

#[tokio::test(start_paused = true)]
async fn the_page_sets_promotes_and_removes() {
    let (site, machine, operator) = open().await;
    let form = format!("source={}&user=ann&secret=a-long-secret", uri("spare"));
    let (status, page) = submit(&operator, "/ui/nodes/web-1/fallback", &form).await;
    assert_eq!(status, 303, "{page}");
    let form = ask(&operator, "promote").await;
    assert_eq!(submit(&operator, "/ui/nodes/web-1/fallback/promote", &form).await.0, 303);
    assert_eq!(boot_volume_of(&site, machine).await, iqn_of("spare"));
    let form = ask(&operator, "remove").await;
    let (status, page) = submit(&operator, "/ui/nodes/web-1/fallback/remove", &form).await;
    assert_eq!(status, 409, "the machine may run from the volume that is the fallback now: {page}");
    assert_eq!(submit(&operator, "/ui/nodes/web-1/fallback/retry", &form).await.0, 303);
}

async fn boot_volume_of(site: &Site, machine: Machine) -> String {
    boot_target(site, machine).await.volume_id
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_another_node_keeps_is_refused_as_a_volume_target() {
    let (site, machine, operator) = open().await;
    let other = site.add_node(2, true).await;
    let once = json!({"target": uri("rescue-2")});
    assert_eq!(call(&operator, "PUT", "/v1/nodes/web-2/boot-once", &once).await.0, 200);
    let properties = |volume: &str| json!({"target_portal": "192.0.2.1:3260", "target_iqn": iqn_of(volume), "target_lun": 1});
    let off = |old: &Node, _: Option<&Node>| {
        Ok::<_, ()>(old.clone().with_power_state(PowerState::Off, jiff::Timestamp::now()))
    };
    site.operator.inventory.update(machine.node, off).await.expect("updates");
    let path = format!("/v1/volume/targets/{}", boot_target(&site, machine).await.uuid);
    for (volume, usage) in
        [("spare-2", "the fallback of node web-2"), ("rescue-2", "node web-2 boots once from the volume")]
    {
        let target = json!({
            "node_uuid": machine.node, "volume_type": "iscsi", "volume_id": "data", "boot_index": 1,
            "properties": properties(volume),
        });
        let (status, refused) = call(&operator, "POST", "/v1/volume/targets", &target).await;
        assert!(status == 409 && refused.contains(usage), "{status}: {refused}");
        let change = json!([{"op": "replace", "path": "/properties", "value": properties(volume)}]);
        let (status, refused) = call(&operator, "PATCH", &path, &change).await;
        assert!(status == 409 && refused.contains(usage), "{status}: {refused}");
        let form = format!("volume={}", uri(volume));
        let (status, refused) = submit(&operator, "/ui/nodes/web-1/volumes", &form).await;
        assert!(status == 409 && refused.contains(usage), "{status}: {refused}");
        let enrollment = json!({
            "name": "web-3", "mac": "52:54:00:00:00:03", "iqn": "iqn.2017-08.org.openstack.web-3",
            "target": uri(volume),
        });
        let (status, refused) = call(&operator, "POST", "/v1/enrollments", &enrollment).await;
        assert!(status == 409 && refused.contains(usage), "{status}: {refused}");
    }
    // Shared volumes, the node's own, and those of volume targets, as in Ironic.
    for (node, volume) in [(machine, "own-2"), (other, "spare-2"), (other, "rescue-2")] {
        let index = if volume == "rescue-2" { 2 } else { 1 };
        let target = json!({
            "node_uuid": node.node, "volume_type": "iscsi", "volume_id": volume, "boot_index": index,
            "properties": properties(volume),
        });
        let (status, created) = call(&operator, "POST", "/v1/volume/targets", &target).await;
        assert_eq!(status, 201, "{created}");
    }
    let once = json!({"target": uri("rescue-2"), "shared": true});
    assert_eq!(call(&operator, "PUT", "/v1/nodes/web-2/boot-once", &once).await.0, 200);
    let change = json!([{"op": "replace", "path": "/properties", "value": properties("rescue-2")}]);
    assert_eq!(call(&operator, "PATCH", &path, &change).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_is_not_taken_from_a_machine_that_gets_it_meanwhile() {
    let (site, machine, operator) = open().await;
    let body = json!({"target": uri("spare"), "auth_username": "ann", "auth_password": "a-long-secret"});
    assert_eq!(call(&operator, "PUT", PATH, &body).await.0, 200);
    let inventory = &site.operator.inventory;
    let read = async || inventory.fallbacks().read(machine.node, None).await.expect("reads").expect("exists");
    let remove = async |idle: &FallbackSnapshot| {
        let basis = FallbackBasis { since: None, idle: Some(idle) };
        let change = |old: &Node| Ok::<_, ()>(Fallback::write(None, old.clone()));
        inventory.set_fallback(machine.node, basis, None, change).await.expect("reads")
    };
    // Before its first boot, the node has no state; then it has one.
    for may_run in [false, true] {
        let idle = read().await;
        let state = FallbackState { may_run, ..idle.state.clone() };
        assert!(inventory.fallbacks().replace(&idle, &state).await.expect("writes"));
        assert_eq!(remove(&idle).await, None, "the state has changed");
    }
    let idle = read().await;
    let on = |old: &Node, _: Option<&Node>| {
        Ok::<_, ()>(Node { power_state: None, maintenance: true, ..old.clone() })
    };
    inventory.update(machine.node, on).await.expect("writes");
    assert_eq!(remove(&idle).await, None, "the power state may have changed");
    assert!(Fallback::of(&site.node(machine).await).expect("valid").is_some());
    assert!(read().await.secret.is_some());
    assert!(remove(&read().await).await.is_some());
    assert!(read().await.secret.is_none(), "the secret goes with it");
}
