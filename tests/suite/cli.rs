//! The client subcommands (status, nodes, show, follow, enroll) against a real server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use crate::daemon::{Daemon, LIMIT, site, volboot};
use crate::switched::send;

/// Runs a subcommand; returns whether it succeeded, and its output.
fn run(daemon: &Daemon, arguments: &[&str]) -> (bool, String) {
    let api = format!("http://{}", daemon.api);
    let mut command = volboot(arguments);
    for name in ["VOLBOOT_USER", "OS_TOKEN"] {
        command.env_remove(name);
    }
    let output = command.env("VOLBOOT_API", api).output().expect("the command runs");
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).expect("text"))
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the connection opens");
    stream.set_read_timeout(Some(LIMIT)).expect("the option is set");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("the bytes are sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("the response arrives");
    response
}

/// Repeats a subcommand until its output contains `expected`: events arrive asynchronously.
fn wait_for_output(daemon: &Daemon, arguments: &[&str], expected: &str) -> String {
    let deadline = Instant::now() + LIMIT;
    loop {
        let (ok, text) = run(daemon, arguments);
        if ok && text.contains(expected) {
            return text;
        }
        assert!(Instant::now() < deadline, "{expected:?} is not in\n{text}");
    }
}

const ENROLL: [&str; 8] = [
    "enroll",
    "web-1",
    "--mac",
    "52:54:00:00:00:01",
    "--iqn",
    "iqn.2017-08.org.openstack.web-1",
    "--target",
    "iscsi:192.0.2.2::3260:1:iqn.2010-10.org.example:root",
];

#[test]
fn enroll_then_boot_history() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let boot_path = "/boot/52-54-00-00-00-01?platform=efi&try=1";
    assert!(get(daemon.http, boot_path).contains("no node has a port with the address"));
    wait_for_output(&daemon, &["nodes"], "no node has a port with the address 52:54:00:00:00:01");

    let (ok, text) = run(&daemon, &ENROLL);
    assert!(ok && text.contains("boots as iqn.2017-08.org.openstack.web-1"), "{text}");
    // Duplicate name: the enrollment fails as a whole.
    let mut duplicate = ENROLL;
    duplicate[3] = "52:54:00:00:00:02";
    let (ok, text) = run(&daemon, &duplicate);
    assert!(!ok && text.contains("A node with name web-1 already exists"), "{text}");
    duplicate[1] = "web-2";
    let (ok, text) = run(&daemon, &duplicate);
    assert!(!ok && text.contains("connector ID iqn.2017-08.org.openstack.web-1 already exists"), "{text}");

    assert!(get(daemon.http, boot_path).contains("sanhook"));
    assert!(
        get(daemon.http, "/boot/52-54-00-00-00-01/event?step=hook-0&rc=0xf0a6039&try=1").contains("noted")
    );
    let text = wait_for_output(&daemon, &["show", "web-1"], "refused the TCP connection");
    assert!(
        text.starts_with(
            "failed: connecting to volume iqn.2010-10.org.example:root: storage refused the TCP connection at the \
             portal's port [0xf0a6039]; try 1 of 10, retrying\nCheck that the iSCSI target listens"
        ),
        "{text}"
    );
    get(daemon.http, "/boot/52-54-00-00-00-01/event?step=up");
    let text = wait_for_output(&daemon, &["nodes", "--json"], "\"booted\"");
    let response: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(response["nodes"].as_array().map(Vec::len), Some(1));
    let (ok, text) = run(&daemon, &["status"]);
    assert!(ok && text.contains("machines booted"), "{text}");
    let (ok, text) = run(&daemon, &["show", "web-9"]);
    assert!(!ok && text.contains("Node web-9 could not be found."), "{text}");

    // The history survives a graceful restart and a kill.
    daemon.stop();
    let mut daemon = Daemon::start(site.path());
    let before = wait_for_output(&daemon, &["show", "52:54:00:00:00:01"], "operating system is up");
    daemon.kill();
    let daemon = Daemon::start(site.path());
    assert_eq!(wait_for_output(&daemon, &["show", "52:54:00:00:00:01"], "operating system is up"), before);
}

#[test]
fn follow_prints_events_and_does_not_block_shutdown() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let mut follower = volboot(&["follow", "--api", &format!("http://{}", daemon.api)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let mut lines = BufReader::new(follower.stdout.take().expect("the output is piped")).lines();
    // Boot requests are repeated until the subscription is active.
    let (stop_sender, stop) = std::sync::mpsc::channel::<()>();
    let http = daemon.http;
    let requests = std::thread::spawn(move || {
        while stop.recv_timeout(std::time::Duration::from_millis(50)).is_err() {
            get(http, "/boot/52-54-00-00-00-07?try=1");
        }
    });
    let line = lines.next().expect("a line").expect("text");
    stop_sender.send(()).expect("the thread runs");
    requests.join().expect("the thread ends");
    assert!(line.contains("52:54:00:00:00:07  boot request, try 1; unknown machine"), "{line}");
    // An open event stream does not delay the shutdown.
    daemon.stop();
    let mut errors = BufReader::new(follower.stderr.take().expect("the output is piped")).lines();
    assert_eq!(errors.next().expect("a line").expect("text"), "volboot: connection lost, reconnecting");
    follower.kill().expect("the process is killed");
    follower.wait().expect("the process exits");
}

#[test]
fn loop_detector_delays_the_machine() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    assert!(run(&daemon, &ENROLL).0);
    let request =
        |journey: &str| get(daemon.http, &format!("/boot/52-54-00-00-00-01?journey={journey}&try=1"));
    // Requests outside a boot session do not count.
    for _ in 0..12 {
        assert!(get(daemon.http, "/boot/52-54-00-00-00-01?try=1").contains("sanhook"));
    }
    for journey in ["a1", "a2", "a3", "a4", "a5"] {
        assert!(request(journey).contains("sanhook"));
        assert!(request(journey).contains("sanhook"), "a repeated request is the same boot session");
    }
    let delayed = request("a6");
    assert!(
        delayed.contains("boot loop: 6 boot sessions in a row without a hooked volume")
            && delayed.contains("\nsleep 60 "),
        "{delayed}"
    );
    assert!(request("a6").contains("boot loop: 6 boot sessions"));
    wait_for_output(&daemon, &["nodes"], "looping");
    let verdict = "waiting: boot loop: 6 boot sessions in a row without a hooked volume";
    wait_for_output(&daemon, &["show", "web-1"], verdict);
    // A hooked volume resets the count.
    get(daemon.http, "/boot/52-54-00-00-00-01/event?step=hooked&try=1");
    assert!(request("a7").contains("sanhook"));
}

#[test]
fn health_readiness_and_log_filter() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    assert!(get(daemon.api, "/healthz").ends_with("ok\n"));
    let ready = get(daemon.api, "/readyz");
    assert!(ready.starts_with("HTTP/1.0 200 OK") && ready.contains("\"store\":\"ok\""), "{ready}");
    let put =
        |filter: &str| send(daemon.api, "PUT", "/v1/appliance/log", &format!("{{\"filter\": \"{filter}\"}}"));
    assert!(put("volboot=shout").starts_with("HTTP/1.0 400"));
    assert!(put("volboot::http=debug,info").starts_with("HTTP/1.0 204"));
    assert_eq!(daemon.wait_for_log("log filter changed")["filter"], "volboot::http=debug,info");
    daemon.hang_up();
    assert_eq!(daemon.wait_for_log("log filter changed")["filter"], "info");
    daemon.wait_for_log("configuration reloaded");
}

#[test]
fn unreachable_api_is_a_clear_error() {
    let output = volboot(&["status", "--api", "http://127.0.0.1:1"]).output().expect("the command runs");
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(text.starts_with("volboot: cannot connect to volboot at http://127.0.0.1:1: "), "{text}");
    let output =
        volboot(&["check", "web-1", "--api", "http://127.0.0.1:1"]).output().expect("the command runs");
    assert_eq!(output.status.code(), Some(5));
}
