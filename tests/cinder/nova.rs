//! Nova boots its server from a volume: Nova's own driver for Ironic, from `init_host` to `destroy`, against volboot with a
//! real Keystone, Cinder and target, and an emulated machine.
//!
//! The user of the server owns the volume, and Nova attaches the volume with the user's token. volboot's user in Cinder is
//! an administrator of another project. Nova's database and placement are the only parts that are missing.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::Test;
use crate::compute::Compute;
use crate::fixture::Fixture;
use crate::lab::api::Api;
use crate::lab::bmc::Bmc;
use crate::lab::dhcp::{Dhcp, Rom};
use crate::lab::hypervisor::Hypervisor;
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::volume::{Recipe, Volume};
use crate::machine::Machine;
use crate::setup::{MACS, Setup, initiator};

pub(crate) const TESTS: &[Test] = &[
    ("nova_boots_a_server_from_a_cinder_volume", with_cinder),
    ("nova_boots_a_server_with_storage_external", with_external),
    ("nova_switches_a_server_through_its_bmc", with_bmc),
];

/// The inventory that Nova reports to placement.
const INVENTORY: [&str; 6] = [
    "connect",
    "init_host",
    "get_available_nodes",
    "node_is_available",
    "get_available_resource",
    "update_provider_tree",
];
/// From the scheduler's choice of the node to the active instance.
const DEPLOYMENT: [&str; 10] = [
    "prepare_for_spawn",
    "prepare_networks",
    "get_volume_connector",
    "reserve_volume",
    "attach_block_devices",
    "spawn",
    "instance_exists",
    "list_instance_uuids",
    "is_running",
    "inventory_is_reserved",
];
/// The operations of a running instance.
const OPERATION: [&str; 10] = [
    "reboot",
    "reboot_soft",
    "power_off",
    "is_shut_down",
    "power_on",
    "is_running",
    "power_off_soft",
    "is_shut_down",
    "attach_interface",
    "detach_interface",
];
/// The operations that Ironic 39 refuses too, with driver `fake-hardware` and the interfaces in `tests/clients/ironic.conf`.
const REFUSED: [(&str, &str); 3] = [
    ("trigger_crash_dump", "BadRequestException: Failed to inject NMI"),
    ("get_serial_console", "ConsoleTypeUnavailable"),
    ("rescue", "InstanceRescueFailure"),
];

const SERVER: &str = "4f2b1c1e-0000-4000-8000-000000000001";
/// The node's `ip` connector, if it has one, which Nova sends as the host.
const ADDRESS: &str = "10.99.0.50";
/// The server's address in the tenant's network, which Nova sends otherwise.
const TENANT_ADDRESS: &str = "10.99.0.77";
/// The first microversion with traits.
const VERSION: &str = "1.37";
/// The time limit of a boot, even on a busy host.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// The steps of a run, each with its name in the output.
struct Run<'a, 'b> {
    setup: &'a mut Setup<'b>,
    compute: Compute,
    image: Volume,
    node: String,
    volume: String,
    /// The host name that Nova sends to Cinder.
    host: &'static str,
    done: usize,
    failed: Vec<String>,
}

impl<'a, 'b> Run<'a, 'b> {
    /// Enrolls a node for Nova, with this host name, and starts Nova's compute service. Without a `bmc`, the machine is
    /// switched by hand; with one, it stays on after its boot.
    fn start(
        setup: &'a mut Setup<'b>,
        storage: &str,
        host: &'static str,
        bmc: Option<&Value>,
    ) -> Result<Self> {
        // The image's name is unique among the tests of this file.
        let name = if bmc.is_some() { "spawned" } else { storage };
        let recipe = Recipe { halts: bmc.is_none(), ..Recipe::new(name, Firmware::Bios) };
        let image = Volume::bootable(&setup.fixture.lab, &recipe)?;
        let volume = setup.fixture.owner.create_volume("chap")?;
        setup.fixture.cloud.fill(&volume, image.image())?;
        let api = &setup.api;
        let node = api.create(
            "nodes",
            &json!({
                "driver": if bmc.is_some() { "redfish" } else { "fake-hardware" }, "driver_info": bmc.unwrap_or(&json!({})),
                "name": "node-0", "storage_interface": storage, "resource_class": "baremetal",
                "properties": {
                    "capabilities": "iscsi_boot:True", "cpu_arch": "x86_64", "cpus": 1, "memory_mb": 1024, "local_gb": 1,
                },
            }),
        )?;
        api.create_port(&node, MACS[0])?;
        api.create_connector(&node, &initiator(0))?;
        if host == ADDRESS {
            let address = json!({"node_uuid": node, "type": "ip", "connector_id": ADDRESS});
            api.create("volume/connectors", &address)?;
        }
        let traits = json!({"traits": ["CUSTOM_BFV", "HW_CPU_X86_VMX"]});
        api.send_at(VERSION, &Method::PUT, &format!("nodes/{node}/traits"), &traits)?;
        for verb in ["manage", "provide"] {
            let path = format!("nodes/{node}/states/provision");
            api.send(&Method::PUT, &path, &json!({"target": verb}))?;
            wait_until_idle(api, &node)?;
        }
        let compute = Compute::start(&setup.fixture.lab, &node, &volume, SERVER)?;
        Ok(Self { setup, compute, image, node, volume, host, done: 0, failed: Vec::new() })
    }

    /// Records the result of a step.
    fn record(&mut self, step: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                self.done += 1;
                eprintln!("  {step}: ok");
            }
            Err(error) => {
                eprintln!("  {step}: {error:#}");
                self.failed.push(format!("{step}: {error:#}"));
            }
        }
    }

    /// Performs steps of Nova.
    fn perform(&mut self, steps: &[&str]) {
        for step in steps {
            let result = self.compute.perform(step).map(drop);
            self.record(step, result);
        }
    }

    /// Performs a step that has to fail with this error, as with Ironic.
    fn expect_refusal(&mut self, step: &str, expected: &str) {
        let result = match self.compute.perform(step) {
            Ok(_) => Err(anyhow::anyhow!("succeeded")),
            Err(error) if format!("{error:#}").starts_with(expected) => Ok(()),
            Err(error) => Err(error),
        };
        self.record(&format!("{step} (refused, as by Ironic)"), result);
    }

    /// Powers on the machine, which has to boot the volume.
    fn boot(&mut self, step: &str) {
        let boot = || {
            let mut machine = MachineSpec::new(Firmware::Bios, MACS[0]).power_on(&self.setup.fixture.lab)?;
            machine.wait_for(&[&self.image.boot_line()], BOOT_LIMIT)?;
            anyhow::Ok(())
        };
        let result = boot();
        self.record(step, result);
    }

    /// Expects Nova's attachment as Nova made it, and no other one.
    fn check_attachment(&mut self, step: &str) {
        let check = || {
            let Fixture { owner, admin, .. } = &*self.setup.fixture;
            let holder = admin.holder(&self.volume)?;
            ensure!(holder["server_id"] == SERVER && holder["device"] == "/dev/sda", "{holder}");
            ensure!(holder["host_name"] == self.host, "{holder}");
            let attachments = owner.attachments(&self.volume)?;
            ensure!(attachments.len() == 1 && attachments[0]["status"] == "attached", "{attachments:?}");
            anyhow::Ok(())
        };
        let result = check();
        self.record(step, result);
    }

    /// Expects that a machine without an instance boots nothing.
    fn check_refusal(&mut self) {
        let refuse = || Machine::new(MACS[0])?.expect_refusal().map(drop);
        self.record("the machine no longer boots", refuse());
    }

    /// From the running instance to the end, and to the report.
    fn finish(mut self) -> Result<()> {
        self.perform(&OPERATION);
        for (step, expected) in REFUSED {
            self.expect_refusal(step, expected);
        }
        self.check_attachment("the attachment is as Nova made it");
        self.perform(&["destroy", "node_is_clean", "instance_is_gone"]);
        self.check_refusal();
        self.check_attachment("the attachment outlives the instance");
        self.perform(&["delete_attachment"]);
        let is_free = self.setup.expect_free(&self.volume);
        self.record("the volume is free", is_free);
        self.perform(&["inventory_is_available"]);
        eprintln!("  {} steps of {}", self.done, self.done + self.failed.len());
        ensure!(self.failed.is_empty(), "{}\n{}", self.failed.join("\n"), self.compute.tail());
        let path = format!("nodes/{}", self.node);
        self.setup.api.send(&Method::DELETE, &path, &json!({})).context("cannot delete the node")?;
        self.setup.fixture.owner.delete_volume(&self.volume)
    }
}

/// Between the boots, the target loses its exports and the portal moves.
fn with_cinder(fixture: &mut Fixture) -> Result<()> {
    let mut setup = Setup::as_administrator(fixture)?;
    let _dhcp = Dhcp::start(&setup.fixture.lab, Rom::FetchesScript)?;
    let mut run = Run::start(&mut setup, "cinder", TENANT_ADDRESS, None)?;
    run.perform(&INVENTORY);
    run.perform(&DEPLOYMENT);
    run.boot("the machine boots");
    run.setup.fixture.cloud.restart_target(&run.setup.fixture.lab)?;
    run.boot("the machine boots after the loss of the export");
    run.setup.fixture.cloud.move_portals()?;
    run.boot("the machine boots from the moved portal");
    run.finish()
}

/// The targets that Nova creates have the connection.
fn with_external(fixture: &mut Fixture) -> Result<()> {
    let mut setup = Setup::as_administrator(fixture)?;
    let _dhcp = Dhcp::start(&setup.fixture.lab, Rom::FetchesScript)?;
    let mut run = Run::start(&mut setup, "external", ADDRESS, None)?;
    run.perform(&INVENTORY);
    run.perform(&DEPLOYMENT);
    run.boot("the machine boots");
    run.finish()
}

/// The server is up from its volume at the end of the spawn, and off after its end; Nova alone switches the machine. The
/// machine's first boot device is a local disk with another boot loader.
fn with_bmc(fixture: &mut Fixture) -> Result<()> {
    let mut setup = Setup::as_administrator(fixture)?;
    let lab = &setup.fixture.lab;
    let _dhcp = Dhcp::start(lab, Rom::FetchesScript)?;
    let hypervisor = Hypervisor::start(lab)?;
    let disk = Volume::bootable(lab, &Recipe { halts: false, ..Recipe::new("local-disk", Firmware::Bios) })?;
    let mut domain = hypervisor.define(MACS[0], &disk)?;
    let _bmc = Bmc::start(lab, &hypervisor)?;
    let mut run = Run::start(&mut setup, "cinder", TENANT_ADDRESS, Some(&Bmc::driver_info(&domain)))?;
    run.perform(&INVENTORY);
    run.perform(&DEPLOYMENT);
    let line = run.image.boot_line();
    for (command, step) in [
        (None, "the spawned server is up from its volume"),
        (Some("reboot"), "the server is up after a reboot"),
    ] {
        run.perform(command.as_slice());
        let booted = domain.wait_for(&[&line], BOOT_LIMIT).map(drop);
        run.record(step, booted);
    }
    run.perform(&["is_running", "power_off", "is_shut_down", "power_on", "is_running"]);
    let booted = domain.wait_for(&[&line], BOOT_LIMIT).map(drop);
    run.record("the server is up after a power-on", booted);
    run.perform(&["destroy", "node_is_clean", "instance_is_gone", "delete_attachment"]);
    let is_off = hypervisor.read_state(&domain).and_then(|state| {
        ensure!(state == "shut off", "{state}");
        ensure!(!domain.has_shown(&disk.boot_line()), "the machine has booted its local disk");
        Ok(())
    });
    run.record("the machine is off", is_off);
    let is_free = run.setup.expect_free(&run.volume);
    run.record("the volume is free", is_free);
    ensure!(run.failed.is_empty(), "{}\n{}", run.failed.join("\n"), run.compute.tail());
    run.setup.api.send(&Method::DELETE, &format!("nodes/{}", run.node), &json!({}))?;
    run.setup.fixture.owner.delete_volume(&run.volume)
}

/// Waits until a verb has ended: with a BMC, it works in the background.
fn wait_until_idle(api: &Api, node: &str) -> Result<()> {
    let deadline = Instant::now() + BOOT_LIMIT;
    loop {
        let node = api.get(&format!("nodes/{node}"))?;
        if node["reservation"].is_null() {
            ensure!(node["last_error"].is_null(), "{node}");
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{node}");
        thread::sleep(Duration::from_millis(100));
    }
}
