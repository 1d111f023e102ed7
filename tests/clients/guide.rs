//! The guide `clients.md`, typed as it stands; only addresses and the folder of the role are replaced.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::ansible::{ControlNode, Play, roles_path};
use crate::daemon::{Daemon, site};
use crate::documents::{block, command, file};
use crate::keystone::FakeKeystone;

/// The addresses in the guide: volboot's and Keystone's.
const ADDRESSES: [&str; 2] = ["127.0.0.1:6385", "127.0.0.1:5000"];

/// A volboot with the guide's files.
struct Guide {
    daemon: Daemon,
    control: ControlNode,
    _site: TempDir,
}

impl Guide {
    /// Starts volboot with additional keys of `[api]`, and writes the guide's files.
    fn start(site: TempDir, api_section: &str, keystone: Option<SocketAddr>) -> Self {
        let config = site.path().join("volboot.toml");
        let text = std::fs::read_to_string(&config).expect("the file exists");
        // The last section of the file is `[api]`.
        std::fs::write(&config, text + api_section).expect("the file is writable");
        let daemon = Daemon::start(site.path());
        let keystone = keystone.map_or_else(|| ADDRESSES[1].to_owned(), |address| address.to_string());
        let clouds = file("clouds.yaml").replace(ADDRESSES[0], &daemon.api.to_string());
        let control = ControlNode::new(&clouds.replace(ADDRESSES[1], &keystone));
        for name in ["enroll.py", "site.yml"] {
            control.write(name, file(name));
        }
        Self { daemon, control, _site: site }
    }

    /// Types commands into one shell, which must succeed, and returns the output.
    #[track_caller]
    fn type_commands(&self, commands: &[String]) -> String {
        let output = self
            .control
            .shell(&commands.join(
                "
",
            ))
            .output()
            .expect("the shell runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands:?}: {stderr}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs the guide's playbook with another cloud of its `clouds.yaml`.
    fn play_in_cloud(&self, cloud: &str) -> Play {
        let mut command = self.control.ansible_playbook();
        let (name, value) = ControlNode::sdk_for_collection();
        command.env(name, value).env("CHAP_PASSWORD", "at-least-12-bytes");
        Play::run(command.args(["site.yml", "-e", &format!("cloud={cloud}")]))
    }
}

#[test]
fn cli_and_sdk_work_as_documented() {
    let guide = Guide::start(site(""), "", None);
    let [_install, commands @ ..] = &*block("pip install python-openstackclient") else {
        panic!("no commands")
    };
    let output = guide.type_commands(commands);
    assert!(output.contains("manual-management"), "{output}");
    assert_eq!(guide.type_commands(&[command("python3 enroll.py")]), "web-2 is active\n");
}

#[test]
fn playbook_works_as_documented() {
    let guide = Guide::start(site(""), "", None);
    let [_install, roles] = &*block("pip install ansible") else { panic!("no variable") };
    let roles = roles.replace("/usr/share/volboot/ansible/roles", roles_path().to_str().expect("text"));
    let (name, value) = ControlNode::sdk_for_collection();
    let [check, play] = &*block("ansible-playbook --check") else { panic!("no commands") };
    let sdk = format!("export {name}={}", value.display());
    let expect_changes = |command: &String, count: usize| {
        let output = guide.type_commands(&[roles.clone(), sdk.clone(), command.clone()]);
        assert!(output.contains(&format!(" changed={count} ")), "{output}");
    };
    // The last task has no check mode.
    expect_changes(check, 2);
    expect_changes(play, 3);
    expect_changes(play, 0);
}

#[test]
fn playbook_works_with_passwords() {
    let site = site("");
    let passwords = site.path().join("htpasswd");
    let hash = bcrypt::hash("secret", 4).expect("bcrypt hashes the password");
    std::fs::write(&passwords, format!("ann:{hash}\n")).expect("the file is writable");
    let section = format!("auth = \"http_basic\"\nhtpasswd_file = \"{}\"\n", passwords.display());
    let guide = Guide::start(site, &section, None);
    assert_eq!(guide.play_in_cloud("volboot-basic").changes(), 3);
    assert_eq!(guide.play_in_cloud("volboot-basic").changes(), 0);
    let refused = guide.play_in_cloud("volboot");
    assert!(refused.expect_failure().contains("Authorization required"), "{}", refused.output);
}

#[test]
fn playbook_works_with_keystone_tokens() {
    let keystone = FakeKeystone::start();
    let section = format!("auth = \"keystone\"\n[keystone]\nauth_url = \"http://{}/v3\"\n", keystone.address);
    let guide = Guide::start(site(""), &section, Some(keystone.address));
    assert_eq!(guide.play_in_cloud("volboot-keystone").changes(), 3);
    assert_eq!(guide.play_in_cloud("volboot-keystone").changes(), 0);
    let api = guide.daemon.api;
    let refused = guide.play_in_cloud("volboot");
    assert!(refused.expect_failure().contains(&api.to_string()), "{}", refused.output);
}

/// The guide names the versions that `tests/clients/install` installs.
#[test]
fn documented_versions_are_those_of_the_tests() {
    let requirements = include_str!("requirements.txt");
    let install = include_str!("install");
    for part in ["pip install python-openstackclient", "pip install ansible"] {
        let command = command(part);
        for requirement in command.split_whitespace().skip(2) {
            let (name, version) = requirement.split_once("==").expect("a version");
            let variable = match name {
                "ansible" => "ansible",
                "openstacksdk" => "ansible_sdk",
                _ => "",
            };
            let pinned = requirements.lines().any(|line| line == requirement)
                || install.lines().any(|line| line == format!("{variable}={version}"));
            assert!(pinned, "{requirement} is not installed");
        }
    }
    let guide = include_str!("../../packaging/doc/clients.md");
    for name in ["python-openstackclient", "python-ironicclient", "openstacksdk", "ansible-core"] {
        let version = requirements.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("=="));
        assert!(guide.contains(version.expect("a pinned version")), "{name}");
    }
}
