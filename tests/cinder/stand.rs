//! The usual set-up of a test: volboot with an empty store, a volume, and nodes that are deployed with it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::ground::Ground;
use crate::lab::api::Api;
use crate::lab::cinder::await_until;
use crate::lab::daemon::{self, Daemon};
use crate::machine::Machine;

/// The network card of the first node, and of a second.
pub(crate) const MACS: [&str; 2] = ["52:54:00:12:34:56", "52:54:00:12:34:57"];

/// volboot as it is told of the cloud; `endpoint` if it is to ask somewhere else. The machines here have no cards, so
/// nobody could find them in the kernel's tables.
fn sections(endpoint: Option<&str>) -> String {
    let endpoint = endpoint.map(|url| format!("endpoint_override = \"{url}\"\n")).unwrap_or_default();
    format!(
        "[boot]\nverify_mac = \"off\"\n\
         [cinder]\nauth_type = \"password\"\nauth_url = \"http://127.0.0.1:5000/v3\"\n\
         username = \"volboot\"\npassword = \"lab-secret\"\nuser_domain_id = \"default\"\n\
         project_name = \"boot\"\nproject_domain_id = \"default\"\nregion_name = \"RegionOne\"\n{endpoint}"
    )
}

/// volboot, and what it knows.
pub(crate) struct Stand<'a> {
    /// What it stands on.
    pub(crate) ground: &'a mut Ground,
    /// volboot.
    pub(crate) volboot: Daemon,
    api: Api,
    endpoint: Option<String>,
}

/// A machine and the node that it is.
pub(crate) struct Node {
    /// What asks for its script.
    pub(crate) machine: Machine,
    uuid: String,
}

impl<'a> Stand<'a> {
    /// Starts volboot without any records.
    pub(crate) fn new(ground: &'a mut Ground) -> Result<Self> {
        Self::behind(ground, None)
    }

    /// The same, if Cinder is to be asked at another address.
    pub(crate) fn behind(ground: &'a mut Ground, endpoint: Option<String>) -> Result<Self> {
        let store = daemon::store(&ground.lab);
        if store.exists() {
            fs::remove_file(store)?;
        }
        let volboot = start(ground, endpoint.as_deref())?;
        Ok(Self { ground, volboot, api: Api::new()?, endpoint })
    }

    /// Starts volboot again, with its records.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.volboot = start(self.ground, self.endpoint.as_deref())?;
        Ok(())
    }

    /// Enrols a node with these volumes, and deploys it.
    pub(crate) fn deploy(&self, which: usize, volumes: &[&str]) -> Result<Node> {
        self.deploy_with(which, volumes, &[])
    }

    /// The same with further connectors, each a kind and an id.
    pub(crate) fn deploy_with(
        &self,
        which: usize,
        volumes: &[&str],
        connectors: &[(&str, &str)],
    ) -> Result<Node> {
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
        // On a busy host, Cinder's answer to the first question may be later than volboot waits for it.
        let mut last = String::new();
        await_until("the node to be deployable", || {
            let deployed = self.provision(&node, "active");
            last = deployed.as_ref().err().map(ToString::to_string).unwrap_or_default();
            Ok(deployed.is_ok())
        })
        .context(last)?;
        Ok(node)
    }

    /// Ends a node's deployment: its volumes are to be let go.
    pub(crate) fn undeploy(&self, node: &Node) -> Result<()> {
        self.provision(node, "deleted")
    }

    /// Forgets a node.
    pub(crate) fn delete(&self, node: &Node) -> Result<()> {
        self.api.send(&Method::DELETE, &format!("nodes/{}", node.uuid), &Value::Null).map(drop)
    }

    /// What speaks against a node's storage.
    pub(crate) fn storage_fault(&self, node: &Node) -> Result<String> {
        let shown = self.api.send(&Method::GET, &format!("nodes/{}/validate", node.uuid), &Value::Null)?;
        Ok(shown["storage"]["reason"].as_str().unwrap_or_default().to_owned())
    }

    /// Sees that people are told what became of a node's boot: its verdict and its timeline, together, have all of
    /// these words.
    pub(crate) fn people_are_told(&self, node: &Node, words: &[&str]) -> Result<()> {
        let mut told = String::new();
        await_until("what the machine was told to be told to people", || {
            let path = format!("nodes/{}/boot-history", node.uuid);
            told = self.api.send(&Method::GET, &path, &Value::Null)?.to_string();
            Ok(words.iter().all(|words| told.contains(words)))
        })
        .with_context(|| format!("it is told: {told}"))
    }

    /// Undeploys a node and sees that nothing of it is left in Cinder.
    pub(crate) fn ends_well(&self, node: &Node, volume: &str) -> Result<()> {
        self.end_well(node, &[volume.to_owned()])
    }

    /// The same, with several volumes.
    pub(crate) fn end_well(&self, node: &Node, volumes: &[String]) -> Result<()> {
        self.undeploy(node)?;
        for volume in volumes {
            self.ground.owner.await_status(volume, "available")?;
        }
        for volume in volumes {
            self.is_free(volume)?;
            self.ground.owner.delete_volume(volume)?;
        }
        Ok(())
    }

    /// Sees that a volume is `available` and that nobody has an attachment of it, nor of any other.
    pub(crate) fn is_free(&self, volume: &str) -> Result<()> {
        self.ground.owner.await_status(volume, "available")?;
        let left = self.ground.owner.all_attachments()?;
        ensure!(left.is_empty(), "attachments are left over: {left:?}");
        Ok(())
    }

    /// Sees that a volume is `in-use` by exactly one attachment, and gives its id.
    pub(crate) fn is_attached_once(&self, volume: &str) -> Result<String> {
        // After a boot without Cinder volboot exports it once more, and then it is neither for a moment.
        let mut attached = String::new();
        await_until("the volume to be attached once", || {
            self.ground.owner.await_status(volume, "in-use")?;
            match self.ground.owner.attachments(volume)?.as_slice() {
                [one] => {
                    one["id"].as_str().unwrap_or_default().clone_into(&mut attached);
                    Ok(one["status"] == "attached")
                }
                other => bail!("not one attachment: {other:?}"),
            }
        })?;
        Ok(attached)
    }

    fn provision(&self, node: &Node, verb: &str) -> Result<()> {
        let path = format!("nodes/{}/states/provision", node.uuid);
        self.api.send(&Method::PUT, &path, &json!({ "target": verb })).map(drop)
    }
}

/// The name by which a node logs in.
pub(crate) fn initiator(which: usize) -> String {
    format!("iqn.2026-01.lab.volboot:node-{which}")
}

fn start(ground: &Ground, endpoint: Option<&str>) -> Result<Daemon> {
    let binary = Path::new(env!("CARGO_BIN_EXE_volboot"));
    Daemon::start(&ground.lab, binary, &sections(endpoint), None)
}
