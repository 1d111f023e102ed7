//! Conductors, conductor groups and BIOS settings.

use serde_json::{Value, json};

use super::{Api, column};

#[tokio::test]
async fn the_process_is_a_conductor() {
    let api = Api::new();
    let listed = api.get("/v1/conductors").await.expect(200);
    let links = json!([
        {"rel": "self", "href": "http://boot.example:6385/v1/conductors/boot-1"},
        {"rel": "bookmark", "href": "http://boot.example:6385/conductors/boot-1"},
    ]);
    let summary = json!({"hostname": "boot-1", "conductor_group": "", "alive": true, "links": links});
    assert_eq!(listed, json!({"conductors": [summary]}));
    let mut detailed = api.get("/v1/conductors?detail=True").await.expect(200)["conductors"][0].clone();
    let mut shown = api.get("/v1/conductors/boot-1").await.expect(200);
    for body in [&mut detailed, &mut shown] {
        assert!(body["created_at"].take().is_string() && body["updated_at"].take().is_string());
    }
    let mut expected = summary;
    expected["drivers"] = json!(["fake-hardware", "manual-management", "redfish"]);
    (expected["created_at"], expected["updated_at"]) = (Value::Null, Value::Null);
    assert_eq!(detailed, expected);
    assert_eq!(shown, expected);
    let page = api.get("/v1/conductors?limit=1&fields=hostname").await.expect(200);
    let next =
        page["next"].as_str().expect("a page").strip_prefix("http://boot.example:6385").expect("a link");
    assert!(next.contains("fields=hostname") && next.contains("marker=boot-1"), "{next}");
    assert_eq!(api.get(next).await.expect(200), json!({"conductors": []}));
    for (path, status) in [
        ("/v1/conductors?marker=none", 404),
        ("/v1/conductors?sort_key=alive", 400),
        ("/v1/conductors?sort_key=hostname&sort_dir=desc", 200),
        ("/v1/conductors?sort_dir=x", 400),
        ("/v1/conductors?limit=0", 400),
        ("/v1/conductors?fields=nothing", 400),
        ("/v1/conductors?fields=drivers&detail=True", 400),
        ("/v1/conductors?nothing=1", 400),
        ("/v1/conductors/boot-1?fields=alive", 200),
        ("/v1/conductors/boot-1?detail=True", 400),
    ] {
        assert_eq!(api.get(path).await.status, status, "{path}");
    }
    let missing = api.get("/v1/conductors/none").await.expect_fault(404);
    assert_eq!(missing, "Conductor none could not be found.");
    let early = api.with_version("1.48").get("/v1/conductors").await.expect_fault(404);
    assert!(early.contains("1.49"), "{early}");
    let drivers = api.get("/v1/drivers").await.expect(200);
    assert_eq!(
        column(&drivers, "drivers", "hosts"),
        [json!(["boot-1"]), json!(["boot-1"]), json!(["boot-1"])]
    );
}

#[tokio::test]
async fn a_host_name_may_end_with_json() {
    let api = Api::with(|operator| operator.conductor.hostname = "boot.json".into());
    assert_eq!(api.get("/v1/conductors/boot.json").await.expect(200)["hostname"], "boot.json");
    assert_eq!(api.get("/v1/conductors/boot.json.json").await.expect(200)["hostname"], "boot.json");
    assert_eq!(api.get("/v1/conductors/boot").await.status, 404);
}

#[tokio::test]
async fn a_node_belongs_to_the_conductor_of_its_group() {
    let mut inventory = None;
    let api = Api::with(|operator| {
        operator.conductor.group = "rack-1".parse().expect("a group");
        inventory = Some(operator.inventory.clone());
    });
    let values = |node: &Value| json!([node["conductor_group"], node["conductor"]]);
    let ours = json!(["rack-1", "boot-1"]);
    let node = api.create_node(json!({"name": "n1"})).await;
    let named = api.create_node(json!({"name": "n2", "conductor_group": "RACK-1"})).await;
    for uuid in [&node, &named] {
        assert_eq!(values(&api.get(&format!("/v1/nodes/{uuid}")).await.expect(200)), ours);
    }
    // From before the appliance had this group.
    let earlier: volboot::model::Node = serde_json::from_value(json!({
        "uuid": "5c9dcd04-2073-49bc-9618-99ae634d8971",
        "created_at": "2026-01-02T03:04:05Z",
        "name": "n3",
        "driver": "fake-hardware",
        "storage_interface": "noop",
        "provision_state": "enroll",
    }))
    .expect("a node");
    inventory.expect("the API's inventory").create(&earlier).await.expect("creates");
    assert_eq!(values(&api.get("/v1/nodes/n3").await.expect(200)), json!(["", null]));
    for (query, expected) in [
        ("conductor_group=rack-1", &["n1", "n2"][..]),
        ("conductor_group=Rack-1", &["n1", "n2"]),
        ("conductor_group=", &["n3"]),
        ("conductor_group=a%20b", &[]),
        ("conductor=boot-1", &["n1", "n2"]),
        ("conductor=none", &[]),
        ("conductor=", &["n3", "n1", "n2"]),
        ("sort_key=conductor_group", &["n3", "n1", "n2"]),
    ] {
        let page = api.get(&format!("/v1/nodes?{query}&fields=name")).await.expect(200);
        assert_eq!(column(&page, "nodes", "name"), expected, "{query}");
    }
    let patch = |value: Value| json!([{"op": "add", "path": "/conductor_group", "value": value}]);
    let text = "No valid host was found. Reason: No conductor service registered which supports driver fake-hardware \
                for conductor group \"rack-2\".";
    assert_eq!(api.patch("/v1/nodes/n1", patch(json!("Rack-2"))).await.expect_fault(400), text);
    let body = json!({"driver": "fake-hardware", "conductor_group": "rack-2"});
    assert_eq!(api.post("/v1/nodes", body).await.expect_fault(400), text);
    let other = json!([{"op": "add", "path": "/extra/a", "value": 1}]);
    let kept = api.patch("/v1/nodes/n3", other).await.expect(200);
    assert_eq!(values(&kept), json!(["", null]), "another change leaves the group as it is");
    assert_eq!(values(&api.patch("/v1/nodes/n3", patch(json!("RACK-1"))).await.expect(200)), ours);
    let remove = json!([{"op": "remove", "path": "/conductor_group"}]);
    assert_eq!(values(&api.patch("/v1/nodes/n1", remove).await.expect(200)), ours);
    assert_eq!(values(&api.patch("/v1/nodes/n1", patch(Value::Null)).await.expect(200)), ours);
    for (version, body, status) in [
        ("1.45", json!({"driver": "fake-hardware", "conductor_group": "rack-1"}), 406),
        ("1.45", json!({"driver": "fake-hardware", "conductor_group": ""}), 201),
        ("1.46", json!({"driver": "fake-hardware", "conductor_group": "a b"}), 400),
    ] {
        assert_eq!(api.with_version(version).post("/v1/nodes", body.clone()).await.status, status, "{body}");
    }
    for (version, query) in
        [("1.45", "conductor_group=x"), ("1.48", "conductor=x"), ("1.48", "fields=conductor")]
    {
        assert_eq!(api.with_version(version).get(&format!("/v1/nodes?{query}")).await.status, 406, "{query}");
    }
    for key in ["conductor", "allocation_uuid"] {
        assert_eq!(api.get(&format!("/v1/nodes?sort_key={key}")).await.status, 400, "{key}");
    }
}

#[tokio::test]
async fn a_node_has_no_bios_settings() {
    let api = Api::new();
    let node = api.create_node(json!({"name": "n1", "bios_interface": "no-bios"})).await;
    assert_eq!(api.get("/v1/nodes/n1").await.expect(200)["bios_interface"], "no-bios");
    assert_eq!(api.get("/v1/nodes/n1/bios").await.expect(200), json!({"bios": []}));
    let missing = api.get("/v1/nodes/n1/bios/boot_mode").await.expect_fault(404);
    assert_eq!(missing, format!("Node {node} doesn't have a BIOS setting 'boot_mode'"));
    for (path, status) in [
        ("/v1/nodes/none/bios", 404),
        ("/v1/nodes/none/bios/x", 404),
        ("/v1/nodes/n1/bios?detail=True", 400),
        ("/v1/nodes/n1/bios/x?y=1", 400),
    ] {
        assert_eq!(api.get(path).await.status, status, "{path}");
    }
    let patch = json!([{"op": "add", "path": "/bios_interface", "value": "redfish"}]);
    api.patch("/v1/nodes/n1", patch).await.expect_fault(400);
    let early = api.with_version("1.39");
    for path in ["/v1/nodes/n1/bios", "/v1/nodes/n1/bios/x"] {
        let fault = early.get(path).await.expect_fault(404);
        assert!(fault.contains("1.40"), "{path}: {fault}");
    }
    let body = json!({"driver": "fake-hardware", "bios_interface": "no-bios"});
    assert_eq!(early.post("/v1/nodes", body).await.status, 406);
    assert!(early.get("/v1/nodes/n1").await.expect(200).get("bios_interface").is_none());
    let driver = |api: Api| async move { api.get("/v1/drivers/fake-hardware").await.expect(200) };
    assert_eq!(driver(early).await.get("default_bios_interface"), None);
    let driver = driver(api).await;
    assert_eq!(
        (&driver["default_bios_interface"], &driver["enabled_bios_interfaces"]),
        (&json!("no-bios"), &json!(["no-bios"]))
    );
}

#[tokio::test]
async fn detail_selects_all_fields_of_a_list() {
    let api = Api::new();
    let chassis = api.post("/v1/chassis", json!({})).await.expect(201)["uuid"].clone();
    let node = api.create_node(json!({"chassis_uuid": chassis})).await;
    let group = json!({"node_uuid": node, "name": "bond0"});
    api.post("/v1/portgroups", group).await.expect(201);
    let group = api.get("/v1/portgroups/bond0").await.expect(200)["uuid"].clone();
    let port = json!({"node_uuid": node, "address": "52:54:00:ab:cd:01", "portgroup_uuid": group});
    api.post("/v1/ports", port).await.expect(201);
    let (chassis, group) = (chassis.as_str().expect("a UUID"), group.as_str().expect("a UUID"));
    for (list, path) in [
        ("nodes", "/v1/nodes".to_owned()),
        ("ports", "/v1/ports".into()),
        ("portgroups", "/v1/portgroups".into()),
        ("chassis", "/v1/chassis".into()),
        ("ports", format!("/v1/nodes/{node}/ports")),
        ("portgroups", format!("/v1/nodes/{node}/portgroups")),
        ("ports", format!("/v1/portgroups/{group}/ports")),
        ("nodes", format!("/v1/chassis/{chassis}/nodes")),
    ] {
        let items = |body: Value| body[list].as_array().expect("a list").clone();
        let all = items(api.get(&format!("{path}?detail=True")).await.expect(200));
        assert_eq!(all, items(api.get(&format!("{path}/detail")).await.expect(200)), "{path}");
        let summary = items(api.get(&path).await.expect(200));
        assert_eq!(summary, items(api.get(&format!("{path}?detail=False")).await.expect(200)), "{path}");
        assert!(
            summary[0].as_object().map(serde_json::Map::len) < all[0].as_object().map(serde_json::Map::len),
            "{path}"
        );
        for flag in ["True", "False"] {
            let fault =
                api.with_version("1.42").get(&format!("{path}?detail={flag}")).await.expect_fault(400);
            assert!(fault.contains("1.43"), "{path}: {fault}");
        }
        let both = api.get(&format!("{path}?detail=True&fields=uuid")).await.expect_fault(400);
        assert_eq!(both, "Can not specify ?detail=True and fields in the same request.", "{path}");
        assert_eq!(api.get(&format!("{path}?detail=False&fields=uuid")).await.status, 200, "{path}");
        assert_eq!(api.get(&format!("{path}?detail=perhaps")).await.status, 400, "{path}");
        assert_eq!(api.get(&format!("{path}/detail?detail=True")).await.status, 400, "{path}");
    }
}
