//! The commands of the guide about fallbacks, typed as they stand, against a real server; and the fallback after a kill.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::daemon::{Daemon, site};

const GUIDE: &str = include_str!("../../../packaging/doc/volumes.md");

/// The commands of the guide's section.
fn commands() -> Vec<&'static str> {
    let (_, section) = GUIDE.split_once("\n## Fallback\n").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("the next section");
    section.lines().filter_map(|line| line.strip_prefix("$ ")).collect()
}

/// Types a line at a shell that finds volboot.
fn type_line(daemon: &Daemon, line: &str) -> Output {
    let binary = Path::new(env!("CARGO_BIN_EXE_volboot")).parent().expect("a folder");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).env("PATH", path).env("VOLBOOT_API", format!("http://{}", daemon.api));
    shell.env("VOLBOOT_CHAP_PASSWORD", "a-long-secret").output().expect("the command runs")
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the connection opens");
    stream.set_read_timeout(Some(crate::daemon::LIMIT)).expect("the option is set");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("the bytes are sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("the response arrives");
    response
}

fn text(output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{stdout}{stderr}")
}

#[test]
fn the_commands_of_the_guide_work_as_they_stand() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let enroll = "volboot enroll web-1 --mac 52:54:00:00:00:01 --iqn iqn.2017-08.org.openstack.web-1 \
                  --volume 7f0e5a3c-1f6e-4d7b-9f0a-2c1f5b8d9e10";
    assert!(type_line(&daemon, enroll).status.success());
    let commands = commands();
    assert_eq!(commands.len(), 5, "{commands:?}");
    let expected = [
        "fallback volume 7f0e5a3c-1f6e-4d7b-9f0a-2c1f5b8d9e11: 0 of 3 failed boots in a row",
        "It cannot come into force: the operating system on the node's boot volume has never reported up.",
        "0 of 3 failed boots",
        "fallback volume 7f0e5a3c-1f6e-4d7b-9f0a-2c1f5b8d9e10",
    ];
    for (command, expected) in commands.iter().zip(expected) {
        let output = type_line(&daemon, command);
        assert!(output.status.success() && text(&output).contains(expected), "{command}: {}", text(&output));
    }
    // The machine may run from the former boot volume. After a second promotion, from the boot volume.
    let output = type_line(&daemon, commands[4]);
    assert!(text(&output).contains("may run from its fallback"), "{}", text(&output));
    assert!(type_line(&daemon, commands[3]).status.success());
    let output = type_line(&daemon, commands[4]);
    assert!(
        output.status.success() && text(&output).contains("node web-1: no fallback"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_secret_of_a_fallback_is_in_no_answer_and_survives_a_kill() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let uri = |name: &str| format!("iscsi:192.0.2.2::3260:1:iqn.2010-10.org.example:{name}");
    let enroll = format!(
        "volboot enroll web-1 --mac 52:54:00:00:00:01 --iqn iqn.2017-08.org.openstack.web-1 --target {}",
        uri("root")
    );
    assert!(type_line(&daemon, &enroll).status.success());
    let set = format!("volboot fallback web-1 --target {} --chap-user ann --json", uri("spare"));
    let output = type_line(&daemon, &set);
    assert!(output.status.success(), "{}", text(&output));
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(shown["fallback"], serde_json::json!({"target": uri("spare"), "auth_username": "ann"}));
    daemon.kill();
    let daemon = Daemon::start(site.path());
    for line in [
        "volboot fallback web-1",
        "volboot promote web-1",
        "volboot fallback web-1 --json",
        "volboot nodes --json",
    ] {
        let output = type_line(&daemon, line);
        assert!(
            output.status.success() && !text(&output).contains("a-long-secret"),
            "{line}: {}",
            text(&output)
        );
    }
    // The promoted volume has its credentials.
    let script = get(daemon.http, "/boot/52-54-00-00-00-01?platform=efi&try=1");
    assert!(script.contains("set username:hex 61:6e:6e") && script.contains("example:spare"), "{script}");
    for line in [
        "volboot fallback web-1 --volume x --target y",
        "volboot fallback web-1 --with-data",
        "volboot fallback web-1 off --shared",
    ] {
        assert_eq!(type_line(&daemon, line).status.code(), Some(2), "{line}");
    }
}
