//! A machine behind a BMC: volboot switches it on, it boots from its volume, and volboot switches it off.
//!
//! The BMC is sushy-tools, the machine a domain of libvirt. Its first boot device is a local disk with another boot loader, so
//! that only the boot override leads to the volume.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::json;

use crate::lab;
use crate::lab::bmc::{Bmc, client_program};
use crate::lab::daemon::API;
use crate::lab::dhcp::Rom;
use crate::lab::hypervisor::Hypervisor;
use crate::lab::machine::Firmware;
use crate::lab::network::SERVER;
use crate::lab::process::Process;
use crate::lab::target::Export;
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site, start_storage};

/// The time-out of a command that switches the machine.
const POWER_LIMIT: Duration = Duration::from_secs(120);

/// Starts a `volboot` command for the site's API.
fn volboot(arguments: &[&str]) -> Result<Process> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_volboot"));
    command.args(arguments).env("VOLBOOT_API", format!("http://{API}"));
    Process::start("a volboot command", &mut command, None)
}

/// Runs `openstack baremetal` to its end.
fn openstack(arguments: &str) -> Result<String> {
    let mut command = client_program("openstack")?;
    command.args(["--os-auth-type", "none", "--os-endpoint", &format!("http://{API}"), "baremetal"]);
    let output = command.args(arguments.split(' ')).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openstack baremetal {arguments}: {stderr}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reports a step of the machine, from the server's own host.
fn report(step: &str) -> Result<()> {
    let mut stream = TcpStream::connect((SERVER, 8080))?;
    stream.set_read_timeout(Some(POWER_LIMIT))?;
    write!(stream, "GET /boot/{MAC}/event?step={step} HTTP/1.0\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    ensure!(response.contains(" 200 "), "{response}");
    Ok(())
}

#[test]
fn a_machine_is_switched_on_boots_from_its_volume_and_is_switched_off() -> Result<()> {
    lab::run(|lab| {
        let stays_on = |name| Recipe { halts: false, ..Recipe::new(name, Firmware::Bios) };
        let volume = Volume::bootable(lab, &stays_on("alpha"))?;
        let local_disk = Volume::bootable(lab, &stays_on("local"))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let mut site = Site::open(lab, Rom::FetchesScript, "[boot]\nwindow = \"15m\"\n")?;
        let node = site.register(&[&export])?;
        let hypervisor = Hypervisor::start(lab)?;
        let mut domain = hypervisor.define(MAC, &local_disk)?;
        let _bmc = Bmc::start(lab, &hypervisor)?;
        let patch = json!([
            {"op": "replace", "path": "/driver", "value": "redfish"},
            {"op": "add", "path": "/driver_info", "value": Bmc::driver_info(&domain)},
        ]);
        site.api.send(&Method::PATCH, &format!("nodes/{node}"), &patch)?;
        ensure!(hypervisor.read_state(&domain)? == "shut off");

        let mut boot = volboot(&["boot", "node-1"])?;
        boot.wait_for(&["power on; the machine boots"], POWER_LIMIT)?;
        domain.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        report("up")?;
        boot.wait_for(&["booted after "], POWER_LIMIT)?;
        ensure!(hypervisor.read_state(&domain)? == "running");
        ensure!(!domain.has_shown(&local_disk.boot_line()), "the boot override has no effect");

        // The machine is up: only a further power-on by volboot opens the boot window again.
        openstack("node reboot node-1")?;
        domain.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;

        let mut off = volboot(&["power", "off", "node-1"])?;
        off.wait_for(&["node node-1: power off"], POWER_LIMIT)?;
        ensure!(hypervisor.read_state(&domain)? == "shut off");
        let shown = openstack("node show node-1 -f json --fields power_state last_error")?;
        ensure!(shown.contains("\"power_state\": \"power off\""), "{shown}");
        site.volboot.stop()
    })
}
