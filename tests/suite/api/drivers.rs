//! Drivers and their interfaces.

use serde_json::{Value, json};

use super::{Api, column};

#[tokio::test]
async fn drivers_list_their_interfaces() {
    let api = Api::new();
    let list = api.get("/v1/drivers").await.expect(200);
    assert_eq!(column(&list, "drivers", "name"), ["fake-hardware", "manual-management", "redfish"]);
    assert_eq!(list["drivers"][0]["default_boot_interface"], Value::Null);
    let detailed = api.get("/v1/drivers?detail=True").await.expect(200);
    let one = api.get("/v1/drivers/manual-management").await.expect(200);
    assert_eq!(detailed["drivers"][1], one);
    let link = |path: &str| {
        json!([
            {"rel": "self", "href": format!("http://boot.example:6385/v1/drivers/{path}")},
            {"rel": "bookmark", "href": format!("http://boot.example:6385/drivers/{path}")},
        ])
    };
    let expected = json!({
        "name": "manual-management",
        "type": "dynamic",
        "hosts": ["boot-1"],
        "links": link("manual-management"),
        "properties": link("manual-management/properties"),
        "default_bios_interface": "no-bios",
        "enabled_bios_interfaces": ["no-bios"],
        "default_boot_interface": "ipxe",
        "enabled_boot_interfaces": ["ipxe"],
        "default_console_interface": "no-console",
        "enabled_console_interfaces": ["no-console"],
        "default_deploy_interface": "direct",
        "enabled_deploy_interfaces": ["direct"],
        "default_inspect_interface": "no-inspect",
        "enabled_inspect_interfaces": ["no-inspect"],
        "default_management_interface": "noop",
        "enabled_management_interfaces": ["noop"],
        "default_network_interface": "noop",
        "enabled_network_interfaces": ["noop"],
        "default_power_interface": "fake",
        "enabled_power_interfaces": ["fake"],
        "default_raid_interface": "no-raid",
        "enabled_raid_interfaces": ["no-raid"],
        "default_rescue_interface": "no-rescue",
        "enabled_rescue_interfaces": ["no-rescue"],
        "default_storage_interface": "noop",
        "enabled_storage_interfaces": ["noop", "external", "cinder"],
        "default_vendor_interface": "no-vendor",
        "enabled_vendor_interfaces": ["no-vendor"],
    });
    assert_eq!(one, expected);
    let body_at_1_1 = api.with_version("1.1").get("/v1/drivers/fake-hardware").await.expect(200);
    assert_eq!(body_at_1_1.as_object().expect("an object").len(), 3);
    let mut grown = Vec::new();
    for version in ["1.29", "1.30", "1.32", "1.33", "1.37", "1.38", "1.39", "1.40"] {
        let driver = api.with_version(version).get("/v1/drivers/fake-hardware").await.expect(200);
        grown.push(driver.as_object().expect("an object").len());
    }
    assert_eq!(grown, [4, 23, 23, 25, 25, 27, 27, 29]);
    assert_eq!(
        api.get("/v1/drivers/none").await.expect_fault(404),
        "Could not find the following driver(s) or hardware type(s): none."
    );
    assert_eq!(api.get("/v1/drivers?type=classic").await.expect(200), json!({"drivers": []}));
    assert_eq!(api.get("/v1/drivers?type=other").await.status, 400);
    assert_eq!(api.with_version("1.29").get("/v1/drivers?type=dynamic").await.status, 406);
    for path in ["/v1/drivers/fake-hardware/properties", "/v1/drivers/properties?driver_name=fake-hardware"] {
        assert_eq!(api.get(path).await.expect(200), json!({}), "{path}");
    }
    let path = "/v1/drivers/fake-hardware/raid/logical_disk_properties";
    let properties = api.get(path).await.expect(200);
    let properties = properties.as_object().expect("an object");
    assert_eq!(properties.len(), 10);
    for required in ["raid_level", "size_gb"] {
        assert!(properties[required].as_str().expect("a text").ends_with("Required."));
    }
    api.get("/v1/drivers/none/raid/logical_disk_properties").await.expect_fault(404);
    assert_eq!(api.with_version("1.11").get(path).await.status, 406);
}
