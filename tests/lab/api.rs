//! A minimal client of volboot's API, for the set-up of machines.
//!
//! The client runs on the lab's thread: its sockets are in the lab's network. It keeps no idle connection, since a test
//! may have killed the server meanwhile.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::daemon::API;
use super::target::{Export, LUN};

/// The first microversion with all fields for boot from volume.
const VERSION: &str = "1.33";
const LIMIT: Duration = Duration::from_secs(60);

/// A client of volboot's API and pages.
#[allow(dead_code, reason = "each including test program uses a part")]
pub(crate) struct Api {
    runtime: Runtime,
    client: Client,
}

impl Api {
    /// A client for the volboot of this lab.
    pub(crate) fn new() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        volboot::tls::install_provider();
        let client = Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(LIMIT).build()?;
        Ok(Self { runtime, client })
    }

    /// Creates a node that may boot from volumes; returns its UUID.
    pub(crate) fn create_node(&self, name: &str) -> Result<String> {
        self.create(
            "nodes",
            &json!({
                "driver": "manual-management",
                "name": name,
                "storage_interface": "external",
                "properties": { "capabilities": "iscsi_boot:True" },
            }),
        )
    }

    /// Creates a port with a node's MAC address.
    pub(crate) fn create_port(&self, node: &str, mac: &str) -> Result<String> {
        self.create("ports", &json!({ "node_uuid": node, "address": mac }))
    }

    /// Creates a connector with a node's initiator name.
    pub(crate) fn create_connector(&self, node: &str, iqn: &str) -> Result<String> {
        self.create("volume/connectors", &json!({ "node_uuid": node, "type": "iqn", "connector_id": iqn }))
    }

    /// Creates a node's volume target; index 0 is the boot volume.
    pub(crate) fn create_target(
        &self,
        node: &str,
        index: u32,
        export: &Export,
        loader: Option<&str>,
    ) -> Result<String> {
        let mut properties = json!({
            "target_portal": export.portal,
            "target_iqn": export.iqn,
            "target_lun": LUN,
            "auth_method": "CHAP",
            "auth_username": export.account.username,
            "auth_password": export.account.password,
        });
        if let Some(loader) = loader {
            properties["uefi_loader"] = json!(loader);
        }
        self.create(
            "volume/targets",
            &json!({
                "node_uuid": node,
                "volume_type": "iscsi",
                "boot_index": index,
                "volume_id": export.iqn,
                "properties": properties,
            }),
        )
    }

    /// Sets a node's maintenance, with a reason.
    pub(crate) fn set_maintenance(&self, node: &str, reason: &str) -> Result<()> {
        let body = json!({ "reason": reason });
        self.send(&Method::PUT, &format!("nodes/{node}/maintenance"), &body).map(drop)
    }

    /// Clears a node's maintenance.
    pub(crate) fn clear_maintenance(&self, node: &str) -> Result<()> {
        self.send(&Method::DELETE, &format!("nodes/{node}/maintenance"), &json!({})).map(drop)
    }

    /// Creates a node's boot volume target with these properties.
    pub(crate) fn create_target_with(&self, node: &str, volume: &str, properties: &Value) -> Result<String> {
        self.create(
            "volume/targets",
            &json!({
                "node_uuid": node, "volume_type": "iscsi", "boot_index": 0, "volume_id": volume,
                "properties": properties,
            }),
        )
    }

    /// Deletes a volume target.
    pub(crate) fn delete_target(&self, target: &str) -> Result<()> {
        self.send(&Method::DELETE, &format!("volume/targets/{target}"), &json!({})).map(drop)
    }

    /// GETs a path.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        self.send(&Method::GET, path, &json!({}))
    }

    /// Reads a page for operators, such as `ui/`.
    pub(crate) fn get_page(&self, path: &str) -> Result<String> {
        self.runtime.block_on(async {
            let response = self.client.get(format!("http://{API}/{path}")).send().await?;
            Ok(response.error_for_status()?.text().await?)
        })
    }

    /// Creates a resource; returns its UUID.
    pub(crate) fn create(&self, collection: &str, body: &Value) -> Result<String> {
        let resource = self.send(&Method::POST, collection, body)?;
        let uuid = resource["uuid"].as_str().with_context(|| format!("no uuid in {resource}"))?;
        Ok(uuid.to_owned())
    }

    /// Sends a request; an error status is an error.
    pub(crate) fn send(&self, method: &Method, path: &str, body: &Value) -> Result<Value> {
        self.send_at(VERSION, method, path, body)
    }

    /// Like [`send`](Self::send), with another microversion.
    pub(crate) fn send_at(&self, version: &str, method: &Method, path: &str, body: &Value) -> Result<Value> {
        let request = self.client.request(method.clone(), format!("http://{API}/v1/{path}"));
        let request = request.header("X-OpenStack-Ironic-API-Version", version).json(body);
        let (status, text) = self.runtime.block_on(async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.text().await?))
        })?;
        if !status.is_success() {
            bail!("{method} /v1/{path}: {status}: {text}");
        }
        if text.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
    }
}
