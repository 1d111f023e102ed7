//! `volboot boot`, `power` and `roll` against a real server and a scripted BMC: each end has its exit code.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::daemon::{Daemon, LIMIT, site, volboot};
use crate::fake_bmc::{BmcCall, BmcTrouble, FakeBmc};

/// A server with the node web-1, whose machine has a scripted BMC.
struct Switched {
    daemon: Daemon,
    bmc: FakeBmc,
    site: TempDir,
    _runtime: Runtime,
}

fn command(api: &str, arguments: &[&str]) -> Command {
    let mut command = volboot(arguments);
    command.env_remove("VOLBOOT_USER").env("VOLBOOT_API", api);
    command
}

/// Sends a request with a JSON body, and returns the response.
fn send(address: SocketAddr, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the connection opens");
    stream.set_read_timeout(Some(LIMIT)).expect("the option is set");
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nX-OpenStack-Ironic-API-Version: 1.52\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("the bytes are sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("the response arrives");
    response
}

impl Switched {
    fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let bmc = runtime.block_on(async { FakeBmc::start() });
        let site = site("");
        let daemon = Daemon::start(site.path());
        let api = format!("http://{}", daemon.api);
        let enroll = [
            "enroll",
            "web-1",
            "--mac",
            "52:54:00:00:00:01",
            "--iqn",
            "iqn.2017-08.org.openstack.web-1",
            "--target",
            "iscsi:192.0.2.2::3260:1:iqn.2010-10.org.example:root",
        ];
        assert!(command(&api, &enroll).output().expect("the command runs").status.success());
        let switched = Self { daemon, bmc, site, _runtime: runtime };
        assert_eq!(switched.run(&["boot", "web-1"]).0, Some(6), "manual-management");
        let info = switched.bmc.driver_info();
        let patch = serde_json::json!([
            {"op": "replace", "path": "/driver", "value": "redfish"},
            {"op": "add", "path": "/driver_info", "value": info},
        ]);
        switched.call("PATCH", "/v1/nodes/web-1", &patch);
        switched
    }

    fn call(&self, method: &str, path: &str, body: &Value) {
        let response = send(self.daemon.api, method, path, &body.to_string());
        assert!(response.starts_with("HTTP/1.0 2"), "{method} {path}: {response}");
    }

    /// Runs a command. Returns its exit code and its output.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = command(&format!("http://{}", self.daemon.api), arguments).output().expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("text"))
    }

    /// Boots the node beside its machine, which does `act` once it is on.
    fn boot(&self, arguments: &[&str], act: impl FnOnce()) -> (Option<i32>, String) {
        let mut command = command(&format!("http://{}", self.daemon.api), arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        let deadline = Instant::now() + LIMIT;
        while !self.bmc.is_on() {
            assert!(Instant::now() < deadline, "the machine stays off");
            std::thread::sleep(Duration::from_millis(20));
        }
        act();
        let output = child.wait_with_output().expect("it ends");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("text"))
    }

    fn request(&self, path: &str) -> String {
        send(self.daemon.http, "GET", path, "")
    }
}

#[test]
fn each_end_of_a_boot_has_its_exit_code() {
    let site = Switched::start();
    let machine = |journey: &str| format!("/boot/52-54-00-00-00-01?journey={journey}&try=1");
    // A time-out: the machine is on, and nothing arrives.
    let (code, text) = site.run(&["boot", "web-1", "--timeout", "10s"]);
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("boot device set to pxe for the next boot\npower on; the machine boots\n"),
        "{text}"
    );
    assert!(
        text.contains("node web-1: time-out; the machine was switched on, and no request has arrived"),
        "{text}"
    );
    // Up.
    site.bmc.script(|bmc| bmc.is_on = false);
    let (code, text) = site.boot(&["boot", "web-1", "--json"], || {
        assert!(site.request(&machine("a1")).contains("sanhook"));
        site.request("/boot/52-54-00-00-00-01/event?step=up");
    });
    assert_eq!(code, Some(0), "{text}");
    let steps: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().expect("a step")).collect();
    assert_eq!(
        (names[0], names[1], *names.last().expect("a step")),
        ("boot_device", "power", "verdict"),
        "{text}"
    );
    assert!(names.contains(&"event"), "{text}");
    // Stopped.
    site.bmc.script(|bmc| bmc.is_on = false);
    let (code, text) = site.boot(&["boot", "web-1"], || {
        let deadline = Instant::now() + LIMIT;
        // While the node is reserved for the change, maintenance is refused.
        while !send(site.daemon.api, "PUT", "/v1/nodes/web-1/maintenance", "{}").starts_with("HTTP/1.0 202") {
            assert!(Instant::now() < deadline, "the node stays reserved");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(site.request(&machine("a2")).contains("maintenance"));
    });
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("maintenance"), "{text}");
    // The BMC fails.
    site.bmc.script(|bmc| bmc.sessions.clear());
    for call in [BmcCall::Login, BmcCall::Read] {
        site.bmc.fail(call, 9, BmcTrouble::Status(401, "Base.1.8.NoValidSession"));
    }
    let (code, text) = site.run(&["roll", "web-1", "web-2", "--at-once", "1"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("web-1: node web-1: Redfish exception occurred. Error: BMC"), "{text}");
    assert!(text.contains("1 of 2 nodes failed, 0 are up, 1 were left as they are"), "{text}");
    let (code, text) = site.run(&["power", "on", "web-1"]);
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains("refused the login of user root: 401"), "{text}");
    // The command line and the server.
    assert_eq!(site.run(&["boot", "web-9"]).0, Some(2));
    assert_eq!(site.run(&["boot"]).0, Some(2));
    let nowhere = command("http://127.0.0.1:1", &["boot", "web-1"]).output().expect("it runs");
    assert_eq!(nowhere.status.code(), Some(5));
}

/// A server that is killed during a change shows the change as failed at its next start.
#[test]
fn an_interrupted_change_is_failed_at_the_next_start() {
    let mut site = Switched::start();
    site.bmc.fail(BmcCall::Reset, 1, BmcTrouble::Hang);
    site.call("PUT", "/v1/nodes/web-1/states/power", &serde_json::json!({"target": "power on"}));
    site.daemon.kill();
    let daemon = Daemon::start(site.site.path());
    let node =
        send(daemon.api, "GET", "/v1/nodes/web-1?fields=reservation,target_power_state,last_error", "");
    assert!(node.contains("\"reservation\":null") && node.contains("\"target_power_state\":null"), "{node}");
    assert!(node.contains("The power change was not completed: volboot was restarted meanwhile"), "{node}");
}
