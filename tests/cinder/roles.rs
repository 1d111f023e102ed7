//! Authorization by Keystone: OpenStack's client against our API, as users with different roles.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::Test;
use crate::fixture::Fixture;
use crate::lab::Lab;
use crate::lab::cinder::client::PASSWORD;
use crate::lab::cinder::{LIMIT, Service};
use crate::lab::daemon::API;
use crate::lab::process::Process;
use crate::python::python_program;

pub(crate) const TESTS: &[Test] = &[
    ("openstack_client_commands_need_the_role", openstack_client_commands_need_the_role),
    ("cached_tokens_stay_valid_without_keystone", cached_tokens_stay_valid_without_keystone),
];

const KEYSTONE: &str = "http://127.0.0.1:5000/v3";

/// Starts volboot with this cloud and with Keystone authentication.
fn start_volboot(lab: &Lab, name: &str) -> Result<Process> {
    let config = lab.path().join(format!("{name}.toml"));
    let store = lab.path().join(format!("{name}.redb"));
    let text = format!(
        "[store]\npath = \"{}\"\n[tftp]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [api]\nlisten = \"{API}\"\nauth = \"keystone\"\n[cinder]\nauth_url = \"{KEYSTONE}\"\n\
         username = \"volboot\"\npassword = \"{PASSWORD}\"\nproject_name = \"boot\"\n",
        store.display()
    );
    fs::write(&config, text)?;
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_volboot")));
    command.arg("serve").arg("--config").arg(&config);
    let mut volboot = Process::start("volboot", &mut command, None)?;
    volboot.wait_for(&[r#""message":"ready""#], LIMIT)?;
    Ok(volboot)
}

/// A user of the OpenStack CLI.
struct CliUser {
    user: &'static str,
    /// The project scope; `None` is system scope.
    project: Option<&'static str>,
}

impl CliUser {
    /// Runs a command; returns its output or its error message.
    fn run(&self, command_line: &str) -> Result<Result<String, String>> {
        let mut command = python_program("openstack");
        command.args(["--os-auth-url", KEYSTONE, "--os-username", self.user, "--os-password", PASSWORD]);
        command.args(["--os-user-domain-id", "default", "--os-baremetal-api-version", "1.33"]);
        match self.project {
            Some(project) => {
                command.args(["--os-project-name", project, "--os-project-domain-id", "default"])
            }
            None => command.args(["--os-system-scope", "all"]),
        };
        let output =
            command.args(command_line.split(' ')).output().context("run tests/clients/install first")?;
        let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
    }

    fn expect_success(&self, command_line: &str) -> Result<String> {
        match self.run(command_line)? {
            Ok(output) => Ok(output),
            Err(error) => bail!("{}: {command_line}: {error}", self.user),
        }
    }

    fn expect_error(&self, command_line: &str, message: &str) -> Result<()> {
        match self.run(command_line)? {
            Ok(output) => bail!("{}: {command_line} succeeded: {output}", self.user),
            Err(error) => {
                ensure!(error.contains(message), "{}: {command_line}: {error}", self.user);
                Ok(())
            }
        }
    }
}

fn openstack_client_commands_need_the_role(fixture: &mut Fixture) -> Result<()> {
    let _volboot = start_volboot(&fixture.lab, "roles")?;
    let in_service = |user| CliUser { user, project: Some("service") };
    let admin = CliUser { user: "admin", project: Some("admin") };
    // The commands of README.
    admin.expect_success("service create --name volboot baremetal")?;
    admin.expect_success(&format!("endpoint create --region RegionOne baremetal public http://{API}"))?;

    let owner = in_service("owner");
    let node = owner
        .expect_success("baremetal node create --driver manual-management --name web-1 -f value -c uuid")?;

    let worker = in_service("worker");
    let target = format!(
        "baremetal volume target create --node {node} --type iscsi --boot-index 0 --volume-id root \
         --property auth_password=hunter2 -f json"
    );
    let target = worker.expect_success(&target)?;
    ensure!(target.contains("******") && !target.contains("hunter2"), "{target}");
    worker.expect_error("baremetal node delete web-1", "the role admin is required")?;

    let viewer = in_service("viewer");
    ensure!(viewer.expect_success("baremetal node list -f value -c Name")? == "web-1");
    ensure!(!viewer.expect_success("baremetal volume target list --long -f json")?.contains("hunter2"));
    viewer.expect_error("baremetal node maintenance set web-1", "the role member is required")?;

    let auditor = CliUser { user: "system-viewer", project: None };
    ensure!(auditor.expect_success("baremetal node list -f value -c Name")? == "web-1");

    // An administrator of a project outside [api] projects.
    let stranger = CliUser { user: "stranger", project: Some("boot") };
    stranger.expect_error("baremetal node list", "nor in one of [api] projects")?;

    owner.expect_success("baremetal node delete web-1").map(drop)
}

fn cached_tokens_stay_valid_without_keystone(fixture: &mut Fixture) -> Result<()> {
    let _volboot = start_volboot(&fixture.lab, "away")?;
    let viewer = CliUser { user: "viewer", project: Some("service") };
    let token = viewer.expect_success("token issue -f value -c id")?;
    let expect_status = |token: &str, status: &str| {
        let response = send_request(token)?;
        ensure!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
        anyhow::Ok(response)
    };
    expect_status(&token, "200")?;
    let refused = expect_status("nonsense", "401")?.to_ascii_lowercase();
    ensure!(refused.contains(&format!("www-authenticate: keystone uri=\"{KEYSTONE}\"")), "{refused}");
    fixture.cloud.stop(Service::Keystone)?;
    expect_status(&token, "200")?;
    expect_status("nonsense", "503")?;
    fixture.cloud.restart(Service::Keystone)?;
    expect_status("nonsense", "401")?;
    Ok(())
}

/// Sends a request with this token; returns the whole response.
fn send_request(token: &str) -> Result<String> {
    let mut stream = TcpStream::connect(API)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "GET /v1/nodes HTTP/1.1\r\nHost: {API}\r\nX-Auth-Token: {token}\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}
