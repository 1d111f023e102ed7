//! volboot's API as a client uses it: just enough of OpenStack Ironic's to set a machine up.
//!
//! The client lives on one thread, so that its sockets are in the lab's network. It keeps no connection: whom it was to
//! may have been killed since.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::daemon::API;
use super::target::{Export, LUN, portal};

/// The first version with everything that boot from volume needs.
const VERSION: (&str, &str) = ("X-OpenStack-Ironic-API-Version", "1.33");
const LIMIT: Duration = Duration::from_secs(60);

/// A client of volboot's API.
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

    /// Enrols a machine that may boot from volumes; returns its UUID.
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

    /// Tells a node's MAC.
    pub(crate) fn create_port(&self, node: &str, mac: &str) -> Result<String> {
        self.create("ports", &json!({ "node_uuid": node, "address": mac }))
    }

    /// Tells a node's initiator name.
    pub(crate) fn create_connector(&self, node: &str, iqn: &str) -> Result<String> {
        self.create("volume/connectors", &json!({ "node_uuid": node, "type": "iqn", "connector_id": iqn }))
    }

    /// Gives a node a volume: the one it boots from has index 0.
    pub(crate) fn create_target(
        &self,
        node: &str,
        index: u32,
        export: &Export,
        loader: Option<&str>,
    ) -> Result<String> {
        let mut properties = json!({
            "target_portal": portal(),
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

    /// Takes a node out of service, with a reason.
    pub(crate) fn set_maintenance(&self, node: &str, reason: &str) -> Result<()> {
        let body = json!({ "reason": reason });
        self.send(&Method::PUT, &format!("nodes/{node}/maintenance"), &body).map(drop)
    }

    /// Ends what [`Api::set_maintenance`] began.
    pub(crate) fn clear_maintenance(&self, node: &str) -> Result<()> {
        self.send(&Method::DELETE, &format!("nodes/{node}/maintenance"), &json!({})).map(drop)
    }

    /// Gives a node the volume it boots from, with these properties.
    pub(crate) fn create_target_as(&self, node: &str, volume: &str, properties: &Value) -> Result<String> {
        self.create(
            "volume/targets",
            &json!({
                "node_uuid": node, "volume_type": "iscsi", "boot_index": 0, "volume_id": volume,
                "properties": properties,
            }),
        )
    }

    /// Takes a volume from its node.
    pub(crate) fn delete_target(&self, target: &str) -> Result<()> {
        self.send(&Method::DELETE, &format!("volume/targets/{target}"), &json!({})).map(drop)
    }

    /// What is shown under a path.
    pub(crate) fn show(&self, path: &str) -> Result<Value> {
        self.send(&Method::GET, path, &json!({}))
    }

    /// Makes something from all its fields; returns its UUID.
    pub(crate) fn create(&self, collection: &str, body: &Value) -> Result<String> {
        let created = self.send(&Method::POST, collection, body)?;
        let uuid = created["uuid"].as_str().with_context(|| format!("no uuid in {created}"))?;
        Ok(uuid.to_owned())
    }

    /// Asks for something; a refusal is an error.
    pub(crate) fn send(&self, method: &Method, path: &str, body: &Value) -> Result<Value> {
        let request = self.client.request(method.clone(), format!("http://{API}/v1/{path}"));
        let request = request.header(VERSION.0, VERSION.1).json(body);
        let (status, text) = self.runtime.block_on(async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.text().await?))
        })?;
        if !status.is_success() {
            bail!("{method} /v1/{path} was answered {status}: {text}");
        }
        if text.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
    }
}
