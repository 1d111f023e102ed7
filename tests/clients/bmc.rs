//! Nodes with driver `redfish` against sushy-tools, an emulator of BMCs: the openstack client, openstacksdk, `volboot power`, and
//! the commands of the guide `operations.md`.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::daemon::{Daemon, site, volboot};
use crate::documents::block;
use crate::openstack::OpenStackClient;
use crate::python::{clean_command, environment_path, python_program, python_script};

/// The time limit of each step: the emulator takes up to eleven seconds to switch a system.
const LIMIT: Duration = Duration::from_secs(90);
const SYSTEM: &str = "27946b59-9e44-4fa7-8e91-f3527a1ef094";

/// A running emulator with one system; killed on drop.
struct Emulator {
    process: Child,
    url: String,
    _state: TempDir,
}

impl Emulator {
    fn start() -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let (config, passwords) = (state.path().join("emulator.conf"), state.path().join("htpasswd"));
        let hash = bcrypt::hash("secret", 4).expect("bcrypt hashes the password");
        std::fs::write(&passwords, format!("admin:{hash}\nvolboot:{hash}\n")).expect("the file is writable");
        let settings = format!(
            "SUSHY_EMULATOR_FAKE_DRIVER = True\nSUSHY_EMULATOR_STATE_DIR = '{state}'\nSUSHY_EMULATOR_AUTH_FILE = \
             '{passwords}'\nSUSHY_EMULATOR_FAKE_SYSTEMS = [{{'uuid': '{SYSTEM}', 'name': 'web-1', 'power_state': 'Off', \
             'external_notifier': False, 'nics': [{{'mac': '52:54:00:00:00:01', 'ip': '192.0.2.9'}}]}}]\n",
            state = state.path().display(),
            passwords = passwords.display(),
        );
        std::fs::write(&config, settings).expect("the file is writable");
        let mut process = python_program("sushy-emulator")
            .args(["--interface", "127.0.0.1", "--port", &find_port().to_string(), "--config"])
            .arg(&config)
            // Its databases, as far as they are not in the state directory.
            .env("TMPDIR", state.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program is installed");
        let mut lines = BufReader::new(process.stderr.take().expect("the output is piped")).lines();
        let mut output = Vec::new();
        let url = loop {
            let line =
                lines.next().unwrap_or_else(|| panic!("the emulator ended: {output:#?}")).expect("text");
            output.push(line.clone());
            if let Some((_, rest)) = line.split_once("Running on ") {
                break rest.split_whitespace().next().expect("a URL").to_owned();
            }
        };
        // The emulator must not block on its log.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, url, _state: state }
    }
}

/// A free port. The emulator takes the port 0 for its default.
fn find_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port exists");
    listener.local_addr().expect("is bound").port()
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until a node's operation has ended, and checks its power state.
#[track_caller]
fn wait_for_power(client: &OpenStackClient, state: &str) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let node = client.show_node("web-1", "power_state target_power_state last_error");
        if node["target_power_state"].is_null() && node["power_state"] == state {
            assert!(node["last_error"].is_null(), "{node}");
            return;
        }
        assert!(Instant::now() < deadline, "{node}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_machine_is_switched_through_an_emulated_bmc() {
    let emulator = Emulator::start();
    let client = OpenStackClient::new(None);
    let (url, system) = (&emulator.url, format!("/redfish/v1/Systems/{SYSTEM}"));
    client.run_ok(&format!(
        "node create --driver redfish --name web-1 --driver-info redfish_address={url} --driver-info \
         redfish_system_id={system} --driver-info redfish_username=admin --driver-info redfish_password=wrong"
    ));
    client.run_error("node manage web-1 --wait 60");
    let failed = client.show_node("web-1", "last_error");
    let error = failed["last_error"].as_str().expect("an error");
    assert!(error.contains(&format!("BMC {url} refused the login of user admin: 401")), "{error}");
    client.run_ok("node set web-1 --driver-info redfish_password=secret");
    let shown = client.show_node("web-1", "driver_info");
    assert_eq!(shown["driver_info"]["redfish_password"], "******");
    client.run_ok("node manage web-1 --wait 60");
    wait_for_power(&client, "power off");
    let report = client.run_json("node validate web-1");
    for interface in ["power", "management"] {
        let row = report.as_array().expect("a list").iter().find(|row| row["Interface"] == interface);
        assert_eq!(row.expect("a row")["Result"], true, "{interface}");
    }
    client.run_ok("node boot device set web-1 pxe --persistent");
    let device = client.run_json("node boot device show web-1");
    assert_eq!((&device["boot_device"], &device["persistent"]), (&json!("pxe"), &json!(true)));
    client.run_ok("node power on web-1");
    wait_for_power(&client, "power on");
    client.run_ok("node reboot web-1");
    wait_for_power(&client, "power on");
    client.run_ok("node power off web-1 --soft --power-timeout 60");
    wait_for_power(&client, "power off");
    let api = format!("http://{}", client.api());
    let power = |arguments: &[&str]| {
        let output = volboot(arguments).env("VOLBOOT_API", &api).output().expect("the command runs");
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    assert_eq!(power(&["power", "on", "web-1"]), (Some(0), "node web-1: power on\n".to_owned()));
    assert_eq!(power(&["power", "status", "web-1"]), (Some(0), "node web-1: power on\n".to_owned()));
    assert_eq!(power(&["power", "off", "web-1"]), (Some(0), "node web-1: power off\n".to_owned()));
    let sdk = python_script("bmc.py").args([&api, "web-1"]).output().expect("the script runs");
    assert!(sdk.status.success(), "{}", String::from_utf8_lossy(&sdk.stderr));
    drop(emulator);
    let (code, text) = power(&["power", "on", "web-1"]);
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains("cannot be reached: Connection refused"), "{text}");
}

/// Only the BMC's address is replaced. The emulated machine has no firmware, so that its boot ends with the verdict on an
/// ignored boot override.
#[test]
fn the_commands_of_the_guide_work_as_they_stand() {
    let emulator = Emulator::start();
    let site = site("[power]\nfirst_request_timeout = \"5s\"");
    let daemon = Daemon::start(site.path());
    let commands = block("volboot boot web-1").join("\n").replace("https://192.0.2.5", &emulator.url);
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_volboot")).parent().expect("a folder");
    let path = std::env::var("PATH").expect("is set");
    let path = format!("{}:{}:{path}", environment_path().join("bin").display(), programs.display());
    let mut shell = clean_command("sh");
    shell.args(["-e", "-c", &commands]).env("PATH", path).env("HOME", site.path());
    let api = format!("http://{}", daemon.api);
    shell.env("OS_AUTH_TYPE", "none").env("OS_ENDPOINT", &api).env("VOLBOOT_API", &api);
    let output = shell.output().expect("the shell runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.contains("boot device set to pxe for the next boot\npower on; the machine boots\n"),
        "{text}"
    );
    assert!(text.contains("node web-1: stopped: the firmware did not boot from the network"), "{text}");
    assert_eq!(output.status.code(), Some(1), "{text}");
}
