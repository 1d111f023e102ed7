//! The fallback of a real machine: an image that restarts before it is up, and the volume that the machine falls back to.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::lab::daemon::API;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::network::SERVER;
use crate::lab::target::{Export, LUN, portal};
use crate::lab::volume::{Recipe, Volume};
use crate::lab::{self, Lab};
use crate::neighbours::hyphenated;
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site, start_storage};

/// Failed boots before the fallback.
const AFTER: usize = 2;

/// Runs a volboot command against the API. Returns its output.
fn volboot(arguments: &[&str], chap_password: &str) -> Result<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_volboot"));
    command.args(arguments).env("VOLBOOT_API", format!("http://{API}"));
    let output =
        command.env("VOLBOOT_CHAP_PASSWORD", chap_password).output().context("cannot run volboot")?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{arguments:?}: {stderr}");
    ensure!(
        !stdout.contains(chap_password) && !stderr.contains(chap_password),
        "{arguments:?} shows the secret"
    );
    Ok(stdout.into_owned())
}

/// Sends a request from volboot's own host. Returns the response.
fn request(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}

fn falls_back(lab: &Lab, firmware: Firmware, rom: Rom) -> Result<()> {
    let own = Volume::bootable(lab, &Recipe { restarts: true, ..Recipe::new("own", firmware) })?;
    let spare = Volume::bootable(lab, &Recipe::new("spare", firmware))?;
    let exports = [Export::new(&own, INITIATOR), Export::new(&spare, INITIATOR)];
    let config = format!("[boot]\nfallback_after = {AFTER}\nfallback_min_uptime = \"1s\"\n");
    let site = Site::open(lab, rom, &config)?;
    let node = site.register(&[&exports[0]])?;
    let _storage = start_storage(lab, &[&exports[0], &exports[1]])?;

    let account = &exports[1].account;
    let uri = format!("iscsi:{}::3260:{LUN}:{}", SERVER, exports[1].iqn);
    ensure!(portal() == format!("{SERVER}:3260"), "the target is at another portal");
    let set = ["fallback", "node-1", "--target", &uri, "--chap-user", &account.username];
    let shown = volboot(&set, &account.password)?;
    ensure!(shown.contains("0 of 2 failed boots") && shown.contains("never reported up"), "{shown}");
    // The node's operating system was up before the new image.
    let event = format!("/boot/{}/event?step=up", hyphenated(MAC));
    let noted = request(&format!("{SERVER}:8080"), &event)?;
    ensure!(noted.ends_with("noted\n"), "{noted}");

    let mut machine = MachineSpec { restarts: true, ..MachineSpec::new(firmware, MAC) }.power_on(lab)?;
    let mut failed = 0;
    let notice = "boots from its fallback, volume";
    while machine.wait_for(&[&own.boot_line(), notice], BOOT_LIMIT)?.index == 0 {
        failed += 1;
        ensure!(failed <= AFTER, "the machine boots its own volume again");
    }
    ensure!(failed == AFTER, "the fallback came after {failed} failed boots");
    machine.wait_for(&[&spare.boot_line()], BOOT_LIMIT)?;

    let shown = volboot(&["fallback", "node-1"], &account.password)?;
    ensure!(shown.contains("in force since") && shown.contains("the last 2 boots"), "{shown}");
    let metrics = request(API, "/metrics")?;
    ensure!(metrics.contains("\nvolboot_nodes_in_fallback 1\n"), "{metrics}");
    ensure!(!metrics.contains(&account.password), "the metrics show the secret");
    let timeline = volboot(&["show", "node-1"], &account.password)?;
    ensure!(timeline.contains(notice), "{timeline}");
    let page = site.api.get_page(&format!("ui/machines/{MAC}"))?;
    ensure!(page.contains("in force") && page.contains("did not report up"), "the page shows no fallback");
    ensure!(!page.contains(&account.password), "the page shows the secret");

    let promoted = volboot(&["promote", "node-1"], &account.password)?;
    ensure!(promoted.contains("0 of 2 failed boots"), "{promoted}");
    let targets = site.api.get(&format!("nodes/{node}/volume/targets?detail=True"))?;
    let properties = &targets["targets"][0]["properties"];
    ensure!(properties["target_iqn"] == json!(exports[1].iqn), "{properties}");
    drop(machine);
    let mut machine = MachineSpec { restarts: true, ..MachineSpec::new(firmware, MAC) }.power_on(lab)?;
    let first = machine.wait_for(&[&spare.boot_line(), &own.boot_line(), notice], BOOT_LIMIT)?;
    ensure!(first.index == 0, "the promoted volume is not the boot volume");
    Ok(())
}

#[test]
fn a_bios_machine_whose_image_restarts_is_up_on_its_fallback() -> Result<()> {
    lab::run(|lab| falls_back(lab, Firmware::Bios, Rom::FetchesScript))
}

#[test]
fn a_uefi_machine_whose_image_restarts_is_up_on_its_fallback() -> Result<()> {
    lab::run(|lab| falls_back(lab, Firmware::Uefi, Rom::FetchesScript))
}
