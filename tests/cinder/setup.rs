//! The usual setup of a test: volboot with an empty store, and deployed nodes with volumes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::lab::api::Api;
use crate::lab::cinder::await_until;
use crate::lab::daemon::{self, Daemon};
use crate::machine::Machine;

/// The MAC addresses of the first and the second node.
pub(crate) const MACS: [&str; 2] = ["52:54:00:12:34:56", "52:54:00:12:34:57"];

/// The user of Cinder that owns the volumes, and the user's project.
const OWNER: (&str, &str) = ("volboot", "boot");
/// An administrator of another project.
const ADMINISTRATOR: (&str, &str) = ("owner", "service");

/// The configuration of volboot for this cloud; `endpoint` overrides Cinder's URL. The neighbour check is off,
/// because the machines here have no network cards.
fn sections((user, project): (&str, &str), endpoint: Option<&str>) -> String {
    let endpoint = endpoint.map(|url| format!("endpoint_override = \"{url}\"\n")).unwrap_or_default();
    format!(
        "[boot]\nverify_mac = \"off\"\n\
         [cinder]\nauth_type = \"password\"\nauth_url = \"http://127.0.0.1:5000/v3\"\n\
         username = \"{user}\"\npassword = \"lab-secret\"\nuser_domain_id = \"default\"\n\
         project_name = \"{project}\"\nproject_domain_id = \"default\"\nregion_name = \"RegionOne\"\n{endpoint}"
    )
}

/// The sections for the owner of the volumes, with this URL of Cinder.
pub(crate) fn owner_sections(endpoint: &str) -> String {
    sections(OWNER, Some(endpoint))
}

/// volboot on the shared fixture.
pub(crate) struct Setup<'a> {
    /// What it stands on.
    pub(crate) fixture: &'a mut Fixture,
    /// The volboot process.
    pub(crate) volboot: Daemon,
    /// Its API.
    pub(crate) api: Api,
    user: (&'static str, &'static str),
    endpoint: Option<String>,
}

/// A node and its machine.
pub(crate) struct Node {
    /// The machine, which sends boot requests.
    pub(crate) machine: Machine,
    /// The node's UUID.
    pub(crate) uuid: String,
}

impl<'a> Setup<'a> {
    /// Starts volboot with an empty store.
    pub(crate) fn new(fixture: &'a mut Fixture) -> Result<Self> {
        Self::start(fixture, OWNER, None)
    }

    /// Like [`new`](Self::new), as an administrator of another project than the volumes'.
    pub(crate) fn as_administrator(fixture: &'a mut Fixture) -> Result<Self> {
        Self::start(fixture, ADMINISTRATOR, None)
    }

    /// Like [`new`](Self::new), with another URL of Cinder.
    pub(crate) fn with_endpoint(fixture: &'a mut Fixture, endpoint: Option<String>) -> Result<Self> {
        Self::start(fixture, OWNER, endpoint)
    }

    /// A running volboot, whose API is at the usual address.
    pub(crate) fn around(fixture: &'a mut Fixture, volboot: Daemon) -> Result<Self> {
        Ok(Self { fixture, volboot, api: Api::new()?, user: OWNER, endpoint: None })
    }

    fn start(
        fixture: &'a mut Fixture,
        user: (&'static str, &'static str),
        endpoint: Option<String>,
    ) -> Result<Self> {
        let store = daemon::store_path(&fixture.lab);
        if store.exists() {
            fs::remove_file(store)?;
        }
        let volboot = start(fixture, user, endpoint.as_deref())?;
        Ok(Self { fixture, volboot, api: Api::new()?, user, endpoint })
    }

    /// Restarts volboot on its store.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.volboot = start(self.fixture, self.user, self.endpoint.as_deref())?;
        Ok(())
    }

    /// Enrolls and deploys a node with these volumes.
    pub(crate) fn deploy(&self, which: usize, volumes: &[&str]) -> Result<Node> {
        self.deploy_with(which, volumes, &[])
    }

    /// Like [`deploy`](Self::deploy), with further connectors, each a type and an id.
    pub(crate) fn deploy_with(
        &self,
        which: usize,
        volumes: &[&str],
        connectors: &[(&str, &str)],
    ) -> Result<Node> {
        let node = self.enroll(which, volumes, connectors)?;
        self.activate(&node)?;
        Ok(node)
    }

    /// Enrolls an available node with these volumes and further connectors.
    pub(crate) fn enroll(&self, which: usize, volumes: &[&str], connectors: &[(&str, &str)]) -> Result<Node> {
        let mac = MACS[which];
        let uuid = self.api.create(
            "nodes",
            &json!({
                "driver": "manual-management",
                "name": format!("node-{which}"),
                "storage_interface": "cinder",
                "properties": { "capabilities": "iscsi_boot:True" },
            }),
        )?;
        self.api.create_port(&uuid, mac)?;
        self.api.create_connector(&uuid, &initiator(which))?;
        for (kind, id) in connectors {
            let body = json!({ "node_uuid": uuid, "type": kind, "connector_id": id });
            self.api.create("volume/connectors", &body)?;
        }
        for (index, volume) in volumes.iter().enumerate() {
            let body = json!({
                "node_uuid": uuid, "volume_type": "iscsi", "boot_index": index, "volume_id": volume,
            });
            self.api.create("volume/targets", &body)?;
        }
        let node = Node { machine: Machine::new(mac)?, uuid };
        for verb in ["manage", "provide"] {
            self.provision(&node, verb)?;
        }
        Ok(node)
    }

    /// Deploys a node.
    pub(crate) fn activate(&self, node: &Node) -> Result<()> {
        // On a busy host, Cinder's first response may exceed volboot's time-out.
        let mut last = String::new();
        await_until("the node to be deployable", || {
            let result = self.provision(node, "active");
            last = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
            Ok(result.is_ok())
        })
        .context(last)
    }

    /// Undeploys a node, which detaches its volumes.
    pub(crate) fn undeploy(&self, node: &Node) -> Result<()> {
        self.provision(node, "deleted")
    }

    /// Deletes a node.
    pub(crate) fn delete_node(&self, node: &Node) -> Result<()> {
        self.api.send(&Method::DELETE, &format!("nodes/{}", node.uuid), &Value::Null).map(drop)
    }

    /// Reads the storage fault of a node from its validation.
    pub(crate) fn read_storage_fault(&self, node: &Node) -> Result<String> {
        Ok(self.storage_report(node)?["reason"].as_str().unwrap_or_default().to_owned())
    }

    /// Reads what the validation of a node says about its storage, once Cinder has answered.
    pub(crate) fn storage_report(&self, node: &Node) -> Result<Value> {
        // On a busy host, Cinder's first response may exceed volboot's time-out.
        let mut storage = Value::Null;
        await_until("Cinder to answer a validation", || {
            storage = self.api.get(&format!("nodes/{}/validate", node.uuid))?["storage"].take();
            Ok(!storage["reason"].as_str().is_some_and(|reason| reason.contains("no answer within")))
        })?;
        Ok(storage)
    }

    /// Expects all of these texts in a node's boot history, which has the verdict and the timeline.
    pub(crate) fn expect_history(&self, node: &Node, texts: &[&str]) -> Result<()> {
        let mut history = String::new();
        await_until("the boot history to have the texts", || {
            let path = format!("nodes/{}/boot-history", node.uuid);
            history = self.api.send(&Method::GET, &path, &Value::Null)?.to_string();
            Ok(texts.iter().all(|text| history.contains(text)))
        })
        .with_context(|| format!("the boot history is {history}"))
    }

    /// Undeploys a node, expects its volume free in Cinder, and deletes the volume.
    pub(crate) fn tear_down_one(&self, node: &Node, volume: &str) -> Result<()> {
        self.tear_down(node, &[volume.to_owned()])
    }

    /// Like [`tear_down_one`](Self::tear_down_one), with several volumes.
    pub(crate) fn tear_down(&self, node: &Node, volumes: &[String]) -> Result<()> {
        self.undeploy(node)?;
        for volume in volumes {
            self.fixture.owner.await_status(volume, "available")?;
        }
        for volume in volumes {
            self.expect_free(volume)?;
            self.fixture.owner.delete_volume(volume)?;
        }
        Ok(())
    }

    /// Expects a volume in state `available`, and no attachment of any volume.
    pub(crate) fn expect_free(&self, volume: &str) -> Result<()> {
        self.fixture.owner.await_status(volume, "available")?;
        let attachments = self.fixture.owner.all_attachments()?;
        ensure!(attachments.is_empty(), "unexpected attachments: {attachments:?}");
        Ok(())
    }

    /// Expects a volume in state `in-use` with exactly one attachment; returns its id.
    pub(crate) fn expect_single_attachment(&self, volume: &str) -> Result<String> {
        // After an outage volboot repeats the export, during which the volume is `attaching` for a moment.
        let mut attachment = String::new();
        await_until("the volume to be attached once", || {
            self.fixture.owner.await_status(volume, "in-use")?;
            match self.fixture.owner.attachments(volume)?.as_slice() {
                [only] => {
                    only["id"].as_str().unwrap_or_default().clone_into(&mut attachment);
                    Ok(only["status"] == "attached")
                }
                other => bail!("expected one attachment, found {other:?}"),
            }
        })?;
        Ok(attachment)
    }

    fn provision(&self, node: &Node, verb: &str) -> Result<()> {
        let path = format!("nodes/{}/states/provision", node.uuid);
        self.api.send(&Method::PUT, &path, &json!({ "target": verb })).map(drop)
    }
}

/// The initiator name of a node.
pub(crate) fn initiator(which: usize) -> String {
    format!("iqn.2026-01.lab.volboot:node-{which}")
}

fn start(fixture: &Fixture, user: (&str, &str), endpoint: Option<&str>) -> Result<Daemon> {
    let binary = Path::new(env!("CARGO_BIN_EXE_volboot"));
    Daemon::start(&fixture.lab, binary, &sections(user, endpoint), None)
}
