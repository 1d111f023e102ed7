//! Volumes that another client attached for a node: Nova for the node's instance, or an Ironic for the node.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::Test;
use crate::fixture::Fixture;
use crate::lab::cinder::await_until;
use crate::setup::{Node, Setup, initiator};

pub(crate) const TESTS: &[Test] = &[
    ("a_volume_that_nova_attached_is_borrowed_and_stays_attached", borrowed),
    ("a_volume_of_a_virtual_machine_is_refused", virtual_machine),
    ("without_the_role_admin_novas_attachment_is_refused", without_admin),
    ("an_attachment_of_an_ironic_is_adopted", adopted),
];

const SERVER: &str = "4f2b1c1e-0000-4000-8000-000000000001";
const ADDRESS: &str = "10.99.0.50";
const DEVICE: &str = "/dev/sda";

/// The connector that Nova's driver for Ironic has for a node, with the device name that Nova adds.
fn connector_of_nova(host: &str) -> Value {
    json!({
        "initiator": initiator(0), "ip": ADDRESS, "host": host, "multipath": false, "platform": "x86_64",
        "os_type": "baremetal", "mountpoint": DEVICE,
    })
}

impl Setup<'_> {
    /// Enrolls a node with this volume and an instance.
    fn enroll_for_server(&self, volume: &str) -> Result<Node> {
        let node = self.enroll(0, &[volume], &[("ip", ADDRESS)])?;
        let patch = json!([
            {"op": "add", "path": "/instance_uuid", "value": SERVER},
            {"op": "add", "path": "/instance_info/display_name", "value": "web 1"},
        ]);
        self.api.send(&Method::PATCH, &format!("nodes/{}", node.uuid), &patch)?;
        Ok(node)
    }

    /// Deletes an attachment for its client, and the volume.
    fn release(&self, volume: &str, attachment: &str) -> Result<()> {
        self.fixture.owner.detach(attachment)?;
        self.expect_free(volume)?;
        self.fixture.owner.delete_volume(volume)
    }

    /// Expects that the volume is attached by this attachment alone, for the server and with the device.
    fn expect_attached(&self, volume: &str, attachment: &str) -> Result<()> {
        self.fixture.owner.await_status(volume, "in-use")?;
        let holder = self.fixture.admin.holder(volume)?;
        ensure!(
            holder["attachment_id"] == attachment
                && holder["server_id"] == SERVER
                && holder["device"] == DEVICE,
            "{holder}"
        );
        let attachments = self.fixture.owner.attachments(volume)?;
        ensure!(attachments.len() == 1, "{attachments:?}");
        Ok(())
    }
}

/// The target loses its exports, the portal moves, and volboot restarts between the boots of one borrowed volume.
fn borrowed(fixture: &mut Fixture) -> Result<()> {
    let mut setup = Setup::as_administrator(fixture)?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let attachment = setup.fixture.owner.attach_for_server(&volume, SERVER, &connector_of_nova(ADDRESS))?;
    let node = setup.enroll_for_server(&volume)?;
    let note = format!("volume {volume} is attached by server {SERVER} (this node's instance)");
    let report = setup.storage_report(&node)?;
    ensure!(report == json!({"result": true, "reason": note}), "{report}");
    setup.activate(&node)?;

    let before = node.machine.boot_from_cinder()?;
    setup.expect_attached(&volume, &attachment)?;
    ensure!(setup.fixture.admin.holder(&volume)?["host_name"] == ADDRESS);
    let server = format!("server {SERVER} (this node's instance)");
    setup.expect_history(&node, &[&format!("attached by {server}")])?;
    let preview = setup.api.get(&format!("nodes/{}/boot-preview", node.uuid))?;
    ensure!(preview["outcome"] == "boot" && preview["volumes"][0]["attached_by"] == *server, "{preview}");
    let page = setup.api.get_page(&format!("ui/nodes/{}", node.uuid))?.replace("&#39;", "'");
    ensure!(page.contains(&format!("attached by {server}")), "{page}");
    setup.fixture.cloud.restart_target(&setup.fixture.lab)?;
    ensure!(before.log_in().is_err(), "the target still has the export");
    node.machine.boot_from_cinder()?;
    let [_, second] = setup.fixture.cloud.portals();
    setup.fixture.cloud.move_portals()?;
    ensure!(node.machine.boot_from_cinder()?.hooks[0].portals() == [second.as_str()]);
    setup.volboot.stop()?;
    setup.restart()?;
    node.machine.boot_from_cinder()?;
    setup.expect_attached(&volume, &attachment)?;

    setup.undeploy(&node)?;
    setup.delete_node(&node)?;
    setup.expect_attached(&volume, &attachment)?;
    setup.release(&volume, &attachment)
}

/// The node's `instance_uuid` names a virtual machine, whose disk a compute host has attached.
fn virtual_machine(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::as_administrator(fixture)?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let connector = connector_of_nova("compute-1");
    let attachment = setup.fixture.owner.attach_for_server(&volume, SERVER, &connector)?;
    let node = setup.enroll_for_server(&volume)?;
    let report = setup.storage_report(&node)?;
    let reason = report["reason"].as_str().context("no reason")?;
    ensure!(report["result"] == false, "{report}");
    ensure!(reason.contains(&format!("in use by server {SERVER} on host \"compute-1\"")), "{report}");
    let refusal = node.machine.expect_refusal()?;
    ensure!(refusal.contains("on host \"compute-1\""), "{refusal}");
    setup.expect_attached(&volume, &attachment)?;
    setup.release(&volume, &attachment)
}

/// A member of the volume's project sees the attachment and its server, and not the host.
fn without_admin(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let attachment = setup.fixture.owner.attach_for_server(&volume, SERVER, &connector_of_nova(ADDRESS))?;
    let node = setup.enroll_for_server(&volume)?;
    for reason in [node.machine.expect_refusal()?, setup.read_storage_fault(&node)?] {
        ensure!(reason.contains(&format!("in use by server {SERVER}")), "{reason}");
        ensure!(reason.contains("role admin"), "{reason}");
    }
    setup.expect_attached(&volume, &attachment)?;
    setup.release(&volume, &attachment)
}

/// Cinder asks Nova before it deletes the attachment, and the lab has no Nova. The record stays and says so.
fn adopted(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let node = setup.enroll(0, &[&volume], &[])?;
    let connector = json!({"initiator": initiator(0), "host": node.uuid});
    setup.fixture.owner.attach_as_ironic(&volume, &node.uuid, &connector)?;
    setup.fixture.owner.await_status(&volume, "in-use")?;
    let before = setup.fixture.admin.holder(&volume)?;
    ensure!(before["host_name"].is_null() && before["device"] == "ironic_mountpoint", "{before}");
    setup.activate(&node)?;
    node.machine.boot_from_cinder()?;
    let after = setup.fixture.admin.holder(&volume)?;
    ensure!(
        after["attachment_id"] == before["attachment_id"] && after["device"] == before["device"],
        "{after}"
    );
    setup.undeploy(&node)?;
    await_until("the page to say why the attachment stays", || {
        let page = setup.api.get_page(&format!("ui/nodes/{}", node.uuid))?;
        Ok(page.contains("before that it asks Nova, which probably does not answer"))
    })?;
    let attachment = setup.expect_single_attachment(&volume)?;
    setup.release(&volume, &attachment)
}
