//! People with tokens: OpenStack's own client against our API, each user with the role Keystone says they have.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::Test;
use crate::ground::Ground;
use crate::lab::Lab;
use crate::lab::cinder::client::PASSWORD;
use crate::lab::cinder::{LIMIT, Service};
use crate::lab::daemon::API;
use crate::lab::process::Process;
use crate::python::program;

pub(crate) const TESTS: &[Test] = &[
    (
        "openstack_s_client_may_what_the_role_of_its_user_allows",
        openstack_s_client_may_what_the_role_of_its_user_allows,
    ),
    (
        "a_token_that_was_shown_before_counts_while_keystone_is_away",
        a_token_that_was_shown_before_counts_while_keystone_is_away,
    ),
];

const KEYSTONE: &str = "http://127.0.0.1:5000/v3";

/// volboot with this cloud behind it, asking Keystone whose tokens it is shown.
fn open(lab: &Lab, name: &str) -> Result<Process> {
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

/// Somebody at a terminal.
struct Person {
    user: &'static str,
    /// A project, or none for the whole system.
    project: Option<&'static str>,
}

impl Person {
    /// What a command prints, or what it complains of.
    fn run(&self, words: &str) -> Result<Result<String, String>> {
        let mut command = program("openstack");
        command.args(["--os-auth-url", KEYSTONE, "--os-username", self.user, "--os-password", PASSWORD]);
        command.args(["--os-user-domain-id", "default", "--os-baremetal-api-version", "1.33"]);
        match self.project {
            Some(project) => {
                command.args(["--os-project-name", project, "--os-project-domain-id", "default"])
            }
            None => command.args(["--os-system-scope", "all"]),
        };
        let output = command.args(words.split(' ')).output().context("run tests/clients/install first")?;
        let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
    }

    fn says(&self, words: &str) -> Result<String> {
        match self.run(words)? {
            Ok(said) => Ok(said),
            Err(complaint) => bail!("{}: {words}: {complaint}", self.user),
        }
    }

    fn complains(&self, words: &str, of: &str) -> Result<()> {
        match self.run(words)? {
            Ok(said) => bail!("{}: {words} was done: {said}", self.user),
            Err(complaint) => {
                ensure!(complaint.contains(of), "{}: {words}: {complaint}", self.user);
                Ok(())
            }
        }
    }
}

fn openstack_s_client_may_what_the_role_of_its_user_allows(ground: &mut Ground) -> Result<()> {
    let _volboot = open(&ground.lab, "roles")?;
    let in_service = |user| Person { user, project: Some("service") };
    let admin = Person { user: "admin", project: Some("admin") };
    // As the README has it.
    admin.says("service create --name volboot baremetal")?;
    admin.says(&format!("endpoint create --region RegionOne baremetal public http://{API}"))?;

    let owner = in_service("owner");
    let node =
        owner.says("baremetal node create --driver manual-management --name web-1 -f value -c uuid")?;

    let worker = in_service("worker");
    let target = format!(
        "baremetal volume target create --node {node} --type iscsi --boot-index 0 --volume-id root \
         --property auth_password=hunter2 -f json"
    );
    let target = worker.says(&target)?;
    ensure!(target.contains("******") && !target.contains("hunter2"), "{target}");
    worker.complains("baremetal node delete web-1", "it takes the role admin")?;

    let viewer = in_service("viewer");
    ensure!(viewer.says("baremetal node list -f value -c Name")? == "web-1");
    ensure!(!viewer.says("baremetal volume target list --long -f json")?.contains("hunter2"));
    viewer.complains("baremetal node maintenance set web-1", "it takes the role member")?;

    let auditor = Person { user: "system-viewer", project: None };
    ensure!(auditor.says("baremetal node list -f value -c Name")? == "web-1");

    // An administrator, but of a project that does not count.
    let stranger = Person { user: "stranger", project: Some("boot") };
    stranger.complains("baremetal node list", "nor in one of [api] projects")?;

    owner.says("baremetal node delete web-1").map(drop)
}

fn a_token_that_was_shown_before_counts_while_keystone_is_away(ground: &mut Ground) -> Result<()> {
    let _volboot = open(&ground.lab, "away")?;
    let viewer = Person { user: "viewer", project: Some("service") };
    let token = viewer.says("token issue -f value -c id")?;
    let answers = |token: &str, status: &str| {
        let answer = shown(token)?;
        ensure!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        anyhow::Ok(answer)
    };
    answers(&token, "200")?;
    let refused = answers("nonsense", "401")?.to_ascii_lowercase();
    ensure!(refused.contains(&format!("www-authenticate: keystone uri=\"{KEYSTONE}\"")), "{refused}");
    ground.cloud.stop(Service::Keystone)?;
    answers(&token, "200")?;
    answers("nonsense", "503")?;
    ground.cloud.start_again(Service::Keystone)?;
    answers("nonsense", "401")?;
    Ok(())
}

/// The whole answer to who shows this token.
fn shown(token: &str) -> Result<String> {
    let mut stream = TcpStream::connect(API)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "GET /v1/nodes HTTP/1.1\r\nHost: {API}\r\nX-Auth-Token: {token}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
