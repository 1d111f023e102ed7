//! [`Switched`]: a real server with a node whose machine has a scripted BMC, and the commands that switch it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::daemon::{Daemon, LIMIT, site, volboot};
use crate::fake_bmc::FakeBmc;

/// A server with the node web-1, whose machine has a scripted BMC.
pub(crate) struct Switched {
    pub(crate) daemon: Daemon,
    pub(crate) bmc: FakeBmc,
    pub(crate) site: TempDir,
    _runtime: Runtime,
}

pub(crate) fn command(api: &str, arguments: &[&str]) -> Command {
    let mut command = volboot(arguments);
    command.env_remove("VOLBOOT_USER").env("VOLBOOT_API", api);
    command
}

/// Sends a request with a JSON body, and returns the response.
pub(crate) fn send(address: SocketAddr, method: &str, path: &str, body: &str) -> String {
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
    /// Starts the server with these sections in its configuration.
    pub(crate) fn start(sections: &str) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let bmc = runtime.block_on(async { FakeBmc::start() });
        let site = site(sections);
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

    /// Sends a request to the API.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) {
        let response = send(self.daemon.api, method, path, &body.to_string());
        assert!(response.starts_with("HTTP/1.0 2"), "{method} {path}: {response}");
    }

    /// Runs a command. Returns its exit code and its output.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = command(&format!("http://{}", self.daemon.api), arguments).output().expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("text"))
    }

    /// Boots the node beside its machine, which does `act` once it is on.
    pub(crate) fn boot(&self, arguments: &[&str], act: impl FnOnce()) -> (Option<i32>, String) {
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

    /// Sends a request of the machine.
    pub(crate) fn request(&self, path: &str) -> String {
        send(self.daemon.http, "GET", path, "")
    }

    /// Reads a resource of the API.
    pub(crate) fn read(&self, path: &str) -> Value {
        let response = send(self.daemon.api, "GET", path, "");
        let body = response.split_once("\r\n\r\n").expect("a body").1;
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {response}"))
    }

    /// Waits until the node is on and no operation on it is under way.
    pub(crate) fn wait_until_on(&self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let node = self.read("/v1/nodes/web-1");
            if node["reservation"].is_null() && node["power_state"] == "power on" {
                return;
            }
            assert!(Instant::now() < deadline, "{node}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
