//! The commands that people use: against the real server, through its API.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use crate::daemon::{Daemon, LIMIT, site, volboot};

/// What a command prints, and whether it went well.
fn run(daemon: &Daemon, arguments: &[&str]) -> (bool, String) {
    let api = format!("http://{}", daemon.api);
    let mut command = volboot(arguments);
    for name in ["VOLBOOT_USER", "OS_TOKEN"] {
        command.env_remove(name);
    }
    let output = command.env("VOLBOOT_API", api).output().expect("runs");
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).expect("text"))
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("is set");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("is answered");
    answer
}

/// Asks until the answer has this in it: what happened is known a moment later.
fn until(daemon: &Daemon, arguments: &[&str], expected: &str) -> String {
    let deadline = Instant::now() + LIMIT;
    loop {
        let (well, text) = run(daemon, arguments);
        if well && text.contains(expected) {
            return text;
        }
        assert!(Instant::now() < deadline, "{expected} is not in\n{text}");
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
fn a_machine_is_enrolled_in_one_step_and_its_boot_is_told() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let stranger = "/boot/52-54-00-00-00-01?platform=efi&try=1";
    assert!(get(daemon.http, stranger).contains("no node has a port with the address"));
    until(&daemon, &["nodes"], "no node has a port with the address 52:54:00:00:00:01");

    let (well, text) = run(&daemon, &ENROLL);
    assert!(well && text.contains("boots as iqn.2017-08.org.openstack.web-1"), "{text}");
    // Once more: the name is taken, and nothing is left of the second.
    let mut again = ENROLL;
    again[3] = "52:54:00:00:00:02";
    let (well, text) = run(&daemon, &again);
    assert!(!well && text.contains("A node with name web-1 already exists"), "{text}");
    again[1] = "web-2";
    let (well, text) = run(&daemon, &again);
    assert!(!well && text.contains("connector ID iqn.2017-08.org.openstack.web-1 already exists"), "{text}");

    assert!(get(daemon.http, stranger).contains("sanhook"));
    assert!(
        get(daemon.http, "/boot/52-54-00-00-00-01/event?step=hook-0&rc=0xf0a6039&try=1").contains("noted")
    );
    let text = until(&daemon, &["show", "web-1"], "refused the connection");
    assert!(
        text.starts_with(
            "stopped at connecting to volume iqn.2010-10.org.example:root, because the storage refused the connection \
             at the portal's port [0xf0a6039] (try 1 of 10, and it tries again)\nLook whether the iSCSI target runs"
        ),
        "{text}"
    );
    get(daemon.http, "/boot/52-54-00-00-00-01/event?step=up");
    let text = until(&daemon, &["nodes", "--json"], "\"booted\"");
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(told["nodes"].as_array().map(Vec::len), Some(1));
    let (well, text) = run(&daemon, &["status"]);
    assert!(well && text.contains("machines booted"), "{text}");
    let (well, text) = run(&daemon, &["show", "web-9"]);
    assert!(!well && text.contains("Node web-9 could not be found."), "{text}");

    // It is all there after a restart, in order or not.
    daemon.stop();
    let mut daemon = Daemon::start(site.path());
    let before = until(&daemon, &["show", "52:54:00:00:00:01"], "says that it is up");
    daemon.kill();
    let daemon = Daemon::start(site.path());
    assert_eq!(until(&daemon, &["show", "52:54:00:00:00:01"], "says that it is up"), before);
}

#[test]
fn what_happens_is_followed_until_the_server_ends() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let mut follower = volboot(&["follow", "--api", &format!("http://{}", daemon.api)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut lines = BufReader::new(follower.stdout.take().expect("is piped")).lines();
    // It follows from some moment on: until then, nobody hears it.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let door = daemon.http;
    let asking = std::thread::spawn(move || {
        while stopped.recv_timeout(std::time::Duration::from_millis(50)).is_err() {
            get(door, "/boot/52-54-00-00-00-07?try=1");
        }
    });
    let line = lines.next().expect("a line").expect("text");
    stop.send(()).expect("is heard");
    asking.join().expect("ends");
    assert!(line.contains("52:54:00:00:00:07  asked for its script, try 1; it is unknown"), "{line}");
    // Who follows does not keep the server from ending.
    daemon.stop();
    let mut told = BufReader::new(follower.stderr.take().expect("is piped")).lines();
    assert_eq!(
        told.next().expect("a line").expect("text"),
        "volboot: the connection has ended; trying again"
    );
    follower.kill().expect("is killed");
    follower.wait().expect("ends");
}

#[test]
fn a_machine_that_begins_again_and_again_is_told_to_wait() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    assert!(run(&daemon, &ENROLL).0);
    let ask = |journey: &str| get(daemon.http, &format!("/boot/52-54-00-00-00-01?journey={journey}&try=1"));
    // Whoever asks by itself asks as often as it likes.
    for _ in 0..12 {
        assert!(get(daemon.http, "/boot/52-54-00-00-00-01?try=1").contains("sanhook"));
    }
    for journey in ["a1", "a2", "a3", "a4", "a5"] {
        assert!(ask(journey).contains("sanhook"));
        assert!(ask(journey).contains("sanhook"), "the same journey is the same");
    }
    let held = ask("a6");
    assert!(
        held.contains("it began 6 times without ever hooking its volume") && held.contains("\nsleep 60 "),
        "{held}"
    );
    assert!(ask("a6").contains("it began 6 times"));
    until(&daemon, &["nodes"], "looping");
    // What hooks its volume is no loop.
    get(daemon.http, "/boot/52-54-00-00-00-01/event?step=hooked&try=1");
    assert!(ask("a7").contains("sanhook"));
}

#[test]
fn it_tells_whether_it_is_alive_and_ready_and_logs_what_it_is_told_to() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    assert!(get(daemon.api, "/healthz").ends_with("ok\n"));
    let ready = get(daemon.api, "/readyz");
    assert!(ready.starts_with("HTTP/1.0 200 OK") && ready.contains("\"store\":\"answers\""), "{ready}");
    let put = |filter: &str| {
        let mut stream = TcpStream::connect(daemon.api).expect("connects");
        let body = format!("{{\"filter\": \"{filter}\"}}");
        let length = body.len();
        write!(
            stream,
            "PUT /v1/appliance/log HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("is answered");
        answer
    };
    assert!(put("volboot=shout").starts_with("HTTP/1.0 400"));
    assert!(put("volboot::http=debug,info").starts_with("HTTP/1.0 204"));
    assert_eq!(daemon.line("the log tells something else from now on")["filter"], "volboot::http=debug,info");
    daemon.hang_up();
    assert_eq!(daemon.line("the log tells something else from now on")["filter"], "info");
    daemon.line("reloaded");
}

#[test]
fn who_asks_where_nobody_is_is_told_so() {
    let output = volboot(&["status", "--api", "http://127.0.0.1:1"]).output().expect("runs");
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(text.starts_with("volboot: volboot cannot be reached at http://127.0.0.1:1: "), "{text}");
}
