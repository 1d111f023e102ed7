//! Reload: SIGHUP puts another configuration in the place of the one that holds, and drops nobody.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::daemon::{Daemon, LIMIT, site};
use crate::firmware::{ask, hear, rewrite, tftp};

/// A connection that is kept open between requests.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(LIMIT)).expect("is set");
        Self(BufReader::new(stream))
    }

    fn get(&mut self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    /// The status and the body of one answer.
    fn ask(&mut self, request: &str) -> (u16, String) {
        self.0.get_mut().write_all(request.as_bytes()).expect("is sent");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).expect("is answered"), 0, "closed after {head:?}");
        }
        let head = head.to_ascii_lowercase();
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        let (_, length) = head.split_once("\r\ncontent-length: ").expect("a length");
        let length = length.split("\r\n").next().expect("a length").parse().expect("a number");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a body");
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

#[test]
fn what_can_change_changes_and_connections_stay() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let mut machine = Kept::open(daemon.http);
    assert!(machine.get("/boot/52-54-00-00-00-01").1.contains("exit 1"));
    assert_eq!(machine.get("/images/undionly.kpxe").0, 404, "of a directory that is not there yet");
    let url = format!("http://{}/", daemon.http);
    assert!(tftp(daemon.tftp, "boot.ipxe").contains(&url));

    std::fs::create_dir(site.path().join("images")).expect("is made");
    std::fs::write(site.path().join("images/undionly.kpxe"), "iPXE").expect("is written");
    rewrite(
        site.path(),
        &[
            ("images = []", &format!("images = [\"{}\"]", site.path().join("images").display())),
            ("[http]\n", "[boot]\nunknown = \"shell\"\n[http]\nurl = \"http://boot.example.org\"\n"),
        ],
    );
    daemon.hang_up();
    daemon.line("reloaded");
    assert!(machine.get("/boot/52-54-00-00-00-01").1.contains("shell"));
    assert_eq!(machine.get("/images/undionly.kpxe"), (200, "iPXE".to_owned()));
    assert_eq!(tftp(daemon.tftp, "undionly.kpxe"), "iPXE");
    assert!(tftp(daemon.tftp, "boot.ipxe").contains(" http://boot.example.org/boot/"));

    rewrite(site.path(), &[("[http]\n", "[http]\nallow = [\"192.0.2.0/24\"]\n")]);
    daemon.hang_up();
    daemon.line("reloaded");
    assert!(machine.get("/boot/52-54-00-00-00-01").1.contains("in no network of [http] allow"));
    assert_eq!(machine.get("/healthz").0, 200);
    daemon.stop();
}

#[test]
fn people_get_the_storage_interfaces_that_hold_now() {
    let site = site("enabled_storage_interfaces = [\"noop\"]\n");
    let mut daemon = Daemon::start(site.path());
    let mut people = Kept::open(daemon.api);
    let body = r#"{"driver": "fake-hardware", "storage_interface": "external"}"#;
    let create = format!(
        "POST /v1/nodes HTTP/1.1\r\nHost: x\r\nX-OpenStack-Ironic-API-Version: 1.33\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(people.ask(&create).0, 400);
    rewrite(site.path(), &[("[\"noop\"]", "[\"noop\", \"external\"]")]);
    daemon.hang_up();
    daemon.line("reloaded");
    assert_eq!(people.ask(&create).0, 201);
    daemon.stop();
}

#[test]
fn a_bad_file_changes_nothing_and_all_its_faults_are_told() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    rewrite(
        site.path(),
        &[("[http]\n", "[boot]\nunknown = \"shell\"\ntires = 3\n[http]\nallow = \"everybody\"\n")],
    );
    daemon.hang_up();
    let line = daemon.line("not reloaded: the previous configuration holds");
    assert_eq!(line["level"], "ERROR");
    let error = line["error"].as_str().expect("text");
    assert!(error.contains("http.allow: expected a list of texts"), "{error}");
    assert!(error.contains("boot.tires: there is no such key; did you mean boot.tries?"), "{error}");
    assert!(Kept::open(daemon.http).get("/boot/52-54-00-00-00-01").1.contains("exit 1"));

    std::fs::remove_file(site.path().join("volboot.toml")).expect("is removed");
    daemon.hang_up();
    let line = daemon.line("not reloaded: the previous configuration holds");
    assert_eq!(line["cause"], "No such file or directory (os error 2)");
    assert!(Kept::open(daemon.http).get("/boot/52-54-00-00-00-01").1.contains("exit 1"));
    daemon.stop();
}

#[test]
fn a_running_transfer_keeps_its_image_while_others_get_the_new_one() {
    let site = site("");
    let images = site.path().join("images");
    std::fs::create_dir(&images).expect("is made");
    std::fs::write(images.join("undionly.kpxe"), vec![b'a'; 1000]).expect("is written");
    let images_key = format!("images = [\"{}\"]", images.display());
    rewrite(site.path(), &[("images = []", &images_key)]);
    let mut daemon = Daemon::start(site.path());
    let (socket, first, peer) = ask(daemon.tftp, "undionly.kpxe", "");
    assert_eq!(first, [&[0, 3, 0, 1], &[b'a'; 512][..]].concat());

    std::fs::write(images.join("undionly.kpxe"), "iPXE").expect("is written");
    daemon.hang_up();
    daemon.line("reloaded");
    assert_eq!(tftp(daemon.tftp, "undionly.kpxe"), "iPXE");
    socket.send_to(&[0, 4, 0, 1], peer).expect("is sent");
    // Block 1 may come a second time, if the reload took longer than the wait for its ACK.
    let last = std::iter::repeat_with(|| hear(&socket).0).find(|packet| packet[3] == 2).expect("block 2");
    assert_eq!(last, [&[0, 3, 0, 2], &[b'a'; 488][..]].concat());
    socket.send_to(&[0, 4, 0, 2], peer).expect("is sent");
    daemon.stop();
}

#[test]
fn keys_that_need_a_restart_are_named() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    rewrite(
        site.path(),
        &[
            ("[tftp]\nlisten = \"127.0.0.1:0\"", "[tftp]\nlisten = \"127.0.0.1:69\""),
            ("store.redb", "other.redb"),
        ],
    );
    daemon.hang_up();
    for key in ["store.path", "tftp.listen"] {
        let line = daemon.line("changed in the configuration, but takes effect when volboot is restarted");
        assert_eq!(line["key"], key);
    }
    daemon.line("reloaded");
    assert!(tftp(daemon.tftp, "boot.ipxe").starts_with("#!ipxe"), "where it was");
    assert!(!site.path().join("other.redb").exists());
    daemon.stop();
}

/// A connection that ends in the middle of nothing HTTP knows: what is told of it at the level `debug`.
fn babble(daemon: &Daemon) {
    let mut stream = TcpStream::connect(daemon.http).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("is set");
    stream.write_all(b"babble\r\n\r\n").expect("is sent");
    stream.read_to_end(&mut Vec::new()).expect("is closed");
}

#[test]
fn what_is_logged_is_the_configurations_to_say_and_a_bad_file_leaves_it() {
    let site = site("log = \"info\"\n");
    let mut daemon = Daemon::start(site.path());
    let changed = "the log tells something else from now on";
    rewrite(site.path(), &[("\"info\"", "\"debug\"")]);
    daemon.hang_up();
    assert_eq!(daemon.line(changed)["filter"], "debug");
    daemon.line("reloaded");
    babble(&daemon);
    assert_eq!(daemon.line("a connection ended early")["level"], "DEBUG");

    for wrong in ["log = \"inof\"", "log = \"warn\"\ntires = 3"] {
        rewrite(site.path(), &[("log = \"debug\"", wrong)]);
        daemon.hang_up();
        daemon.line("not reloaded: the previous configuration holds");
        babble(&daemon);
        assert_eq!(daemon.line("a connection ended early")["level"], "DEBUG");
        rewrite(site.path(), &[(wrong, "log = \"debug\"")]);
    }
    daemon.stop();
}

#[test]
fn the_configuration_says_from_the_start_what_is_logged_unless_the_environment_does() {
    let site = site("log = \"debug\"\n");
    let mut daemon = Daemon::start(site.path());
    babble(&daemon);
    daemon.line("a connection ended early");
    daemon.stop();

    let mut daemon = Daemon::start_with(site.path(), |command| {
        command.env("VOLBOOT_LOG", "info");
    });
    babble(&daemon);
    daemon.hang_up();
    let mut told = Vec::new();
    while told.last().is_none_or(|line: &Value| line["message"] != "reloaded") {
        told.push(daemon.next_line());
    }
    assert!(told.iter().all(|line| line["level"] != "DEBUG"), "{told:?}");
    let precedence = "VOLBOOT_LOG has precedence over what is configured to be logged";
    assert!(
        told.iter().any(|line| line["message"] == precedence && line["configured"] == "debug"),
        "{told:?}"
    );
    daemon.stop();

    // What cannot be used is no reason to say nothing.
    let mut daemon = Daemon::start_with(site.path(), |command| {
        command.env("VOLBOOT_LOG", "inof");
    });
    babble(&daemon);
    daemon.line("a connection ended early");
    daemon.stop();
}
