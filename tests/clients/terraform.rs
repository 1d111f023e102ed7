//! The requests of terraform-provider-ironic 5e7209d4 (2022), recorded; the provider is neither maintained nor packaged.
//!
//! A plan with a node, an allocation and a deployment is applied and destroyed. Between allocation and deployment, the
//! operator creates the records for which the provider has no resources.

use reqwest::Client;
use serde_json::{Value, json};

use crate::daemon::{Daemon, site};

/// The provider's default.
const VERSION: &str = "1.52";

/// The provider with a running volboot.
struct Provider {
    daemon: Daemon,
    client: Client,
}

impl Provider {
    /// Sends a request that must be answered with this status, and returns the answer.
    #[track_caller]
    fn send(&self, method: &str, path: &str, body: &Value, status: u16) -> impl Future<Output = Value> {
        let url = format!("http://{}/v1{path}", self.daemon.api);
        let request = self.client.request(method.parse().expect("a method"), url);
        let request = request.header("X-OpenStack-Ironic-API-Version", VERSION);
        let request = if body.is_null() { request } else { request.json(body) };
        let name = format!("{method} {path}");
        async move {
            let response = request.send().await.expect("an answer");
            let received = response.status().as_u16();
            let text = response.text().await.expect("text");
            assert_eq!(received, status, "{name}: {text}");
            serde_json::from_str(&text).unwrap_or_default()
        }
    }

    async fn get(&self, path: &str) -> Value {
        self.send("GET", path, &Value::Null, 200).await
    }

    async fn create(&self, path: &str, body: Value) -> Value {
        self.send("POST", path, &body, 201).await
    }

    async fn set_provision_state(&self, node: &str, body: Value) {
        self.send("PUT", &format!("{node}/states/provision"), &body, 202).await;
    }
}

#[tokio::test]
async fn plan_is_applied_and_destroyed() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    volboot::tls::install_provider();
    let provider = Provider { daemon, client: Client::new() };
    // The provider waits for the API and for a conductor.
    provider.send("GET", "", &Value::Null, 200).await;
    assert_ne!(provider.get("/drivers").await["drivers"], json!([]));

    let properties = json!({ "capabilities": "iscsi_boot:True", "root_device": {} });
    let node = provider
        .create(
            "/nodes",
            json!({
                "driver": "manual-management", "name": "tf-1", "properties": properties,
                "resource_class": "bare", "storage_interface": "external",
            }),
        )
        .await;
    let uuid = node["uuid"].as_str().expect("a UUID").to_owned();
    let path = format!("/nodes/{uuid}");
    let port = json!({ "address": "52:54:00:12:34:56", "node_uuid": uuid, "pxe_enabled": true });
    provider.create("/ports", port).await;
    for (target, state) in [("manage", "manageable"), ("provide", "available")] {
        provider.set_provision_state(&path, json!({ "target": target })).await;
        assert_eq!(provider.get(&path).await["provision_state"], state);
    }
    // `ironic_port_v1` asks for a field of 1.53.
    let port = json!({ "address": "52:54:00:12:34:57", "is_smartnic": false, "node_uuid": uuid });
    provider.send("POST", "/ports", &port, 406).await;

    let allocation = json!({ "candidate_nodes": [uuid], "name": "web", "resource_class": "bare" });
    let allocation = provider.create("/allocations", allocation).await;
    let of_allocation = format!("/allocations/{}", allocation["uuid"].as_str().expect("a UUID"));
    let allocation = provider.get(&of_allocation).await;
    assert_eq!((&allocation["state"], &allocation["node_uuid"]), (&json!("active"), &json!(uuid)));

    let connector =
        json!({ "node_uuid": uuid, "type": "iqn", "connector_id": "iqn.2017-08.org.openstack.tf-1" });
    provider.create("/volume/connectors", connector).await;
    let connection = json!({
        "target_portal": "10.0.0.1:3260", "target_iqn": "iqn.2026-01.org.example:tf-1", "target_lun": 1,
    });
    let target = json!({
        "node_uuid": uuid, "volume_type": "iscsi", "boot_index": 0, "volume_id": "tf-1", "properties": connection,
    });
    provider.create("/volume/targets", target).await;

    let info = json!([{ "op": "add", "path": "/instance_info", "value": {} }]);
    provider.send("PATCH", &path, &info, 200).await;
    let capabilities = json!({ "boot_option": "local" });
    let info = json!([{ "op": "add", "path": "/instance_info/capabilities", "value": capabilities }]);
    provider.send("PATCH", &path, &info, 200).await;
    // The provider sends an ISO image, compressed and in base64; here it has one byte.
    let drive = "H4sIAAAAAAAC/6sAAIMW3IwBAAAA";
    provider.set_provision_state(&path, json!({ "target": "active", "configdrive": drive })).await;
    let node = provider.get(&path).await;
    assert_eq!((&node["provision_state"], &node["power_state"]), (&json!("active"), &json!("power on")));

    provider.set_provision_state(&path, json!({ "target": "deleted" })).await;
    provider.send("GET", &of_allocation, &Value::Null, 404).await;
    assert_eq!(provider.get(&path).await["provision_state"], "available");
    provider.send("DELETE", &path, &Value::Null, 204).await;
}
