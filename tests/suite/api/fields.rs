//! Fields: each one of the tables is read from the record.

use serde_json::{Value, json};
use volboot::model::{Allocation, Chassis, Node, Port, PortGroup, VolumeConnector, VolumeTarget};
use volboot::store::Resource;

use super::Api;

const UUID: &str = "00000000-0000-0000-0000-000000000001";

/// The stored form of a record with UUID, times and `extra`, and further values.
fn record<R: Resource>(more: Value) -> R {
    let time = "2026-01-02T03:04:05Z";
    let mut record = json!({"uuid": UUID, "created_at": time, "updated_at": time, "extra": {"a": 1}});
    for (key, value) in more.as_object().into_iter().flatten() {
        record[key] = value.clone();
    }
    serde_json::from_value(record).expect("a record")
}

#[tokio::test]
async fn every_field_of_a_complete_record_is_shown() {
    let mut inventory = None;
    let api = Api::with(|operator| inventory = Some(operator.inventory.clone()));
    let inventory = inventory.expect("the API's inventory");
    let chassis: Chassis = record(json!({"description": "rack"}));
    let node: Node = record(json!({
        "name": "web-1",
        "driver": "fake-hardware",
        "instance_uuid": UUID,
        "allocation_uuid": UUID,
        "chassis_uuid": UUID,
        "resource_class": "large",
        "storage_interface": "cinder",
        "provision_state": "deploying",
        "target_provision_state": "active",
        "provision_updated_at": "2026-01-02T03:04:05Z",
        "power_state": "power on",
        "target_power_state": "power off",
        "reservation": "boot-1",
        "maintenance": true,
        "maintenance_reason": "a fan",
        "automated_clean": false,
        "protected": true,
        "protected_reason": "a database",
        "owner": "a project",
        "description": "a web server",
        "last_error": "no volume",
    }));
    let group: PortGroup = record(json!({
        "node_uuid": UUID,
        "name": "bond",
        "address": "52:54:00:00:00:01",
        "mode": "active-backup",
        "standalone_ports_supported": true,
    }));
    let port: Port = record(json!({
        "node_uuid": UUID,
        "address": "52:54:00:00:00:02",
        "pxe_enabled": true,
        "portgroup_uuid": UUID,
        "physical_network": "physnet1",
    }));
    let connector: VolumeConnector = record(json!({
        "node_uuid": UUID,
        "type": "iqn",
        "connector_id": "iqn.2026-01.example:web-1",
    }));
    let target: VolumeTarget = record(json!({
        "node_uuid": UUID,
        "volume_type": "iscsi",
        "volume_id": "root",
        "boot_index": 0,
    }));
    let allocation: Allocation = record(json!({
        "name": "web",
        "resource_class": "large",
        "node_uuid": UUID,
        "last_error": "no node",
    }));
    inventory.create(&chassis).await.expect("a chassis");
    inventory.create(&node).await.expect("a node");
    inventory.create(&group).await.expect("a port group");
    inventory.create(&port).await.expect("a port");
    inventory.create(&connector).await.expect("a connector");
    inventory.create(&target).await.expect("a target");
    inventory.create(&allocation).await.expect("an allocation");
    // Only Ironic's conductors set these.
    let unset_in_nodes = ["fault", "inspection_finished_at", "inspection_started_at"];
    for (path, expected) in [
        ("chassis", &[][..]),
        ("nodes", &unset_in_nodes),
        ("portgroups", &[]),
        ("ports", &[]),
        ("volume/connectors", &[]),
        ("volume/targets", &[]),
        ("allocations", &[]),
    ] {
        let shown = api.get(&format!("/v1/{path}/{UUID}")).await.expect(200);
        let fields = shown.as_object().expect("an object").iter();
        let unset: Vec<_> = fields.filter(|(_, value)| value.is_null()).map(|(name, _)| name).collect();
        assert_eq!(unset, expected, "{path}: fields that `ApiResource::field` does not read");
    }
}
