//! Reload by SIGHUP: a new configuration takes effect, and connections and transfers survive.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;

use serde_json::Value;

use crate::daemon::{Daemon, LIMIT, site};
use crate::firmware::{edit_config, receive, send_read_request, tftp_get};

/// A connection with keep-alive.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the connection opens");
        stream.set_read_timeout(Some(LIMIT)).expect("the option is set");
        Self(BufReader::new(stream))
    }

    fn get(&mut self, path: &str) -> (u16, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    /// Sends a request; returns the status and the body of the response.
    fn send(&mut self, request: &str) -> (u16, String) {
        self.0.get_mut().write_all(request.as_bytes()).expect("the bytes are sent");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(
                self.0.read_line(&mut head).expect("the response arrives"),
                0,
                "closed after {head:?}"
            );
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
fn reload_applies_changes_and_keeps_connections() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let mut machine = Connection::open(daemon.http);
    assert!(machine.get("/boot/52-54-00-00-00-01").1.contains("exit 1"));
    assert_eq!(machine.get("/images/undionly.kpxe").0, 404, "the directory does not exist yet");
    let url = format!("http://{}/", daemon.http);
    assert!(tftp_get(daemon.tftp, "boot.ipxe").contains(&url));

    std::fs::create_dir(site.path().join("images")).expect("the directory is created");
    std::fs::write(site.path().join("images/undionly.kpxe"), "iPXE").expect("the file is written");
    edit_config(
        site.path(),
        &[
            ("images = []", &format!("images = [\"{}\"]", site.path().join("images").display())),
            ("[http]\n", "[boot]\nunknown = \"shell\"\n[http]\nurl = \"http://boot.example.org\"\n"),
        ],
    );
    daemon.hang_up();
    daemon.wait_for_log("configuration reloaded");
    assert!(machine.get("/boot/52-54-00-00-00-01").1.contains("shell"));
    assert_eq!(machine.get("/images/undionly.kpxe"), (200, "iPXE".to_owned()));
    assert_eq!(tftp_get(daemon.tftp, "undionly.kpxe"), "iPXE");
    assert!(tftp_get(daemon.tftp, "boot.ipxe").contains(" http://boot.example.org/boot/"));

    edit_config(site.path(), &[("[http]\n", "[http]\nallow = [\"192.0.2.0/24\"]\n")]);
    daemon.hang_up();
    daemon.wait_for_log("configuration reloaded");
    assert!(machine.get("/boot/52-54-00-00-00-01").1.contains("is not in any network of [http] allow"));
    assert_eq!(machine.get("/healthz").0, 200);
    daemon.stop();
}

#[test]
fn api_uses_the_current_storage_interfaces() {
    let site = site("enabled_storage_interfaces = [\"noop\"]\n");
    let mut daemon = Daemon::start(site.path());
    let mut client = Connection::open(daemon.api);
    let body = r#"{"driver": "fake-hardware", "storage_interface": "external"}"#;
    let create = format!(
        "POST /v1/nodes HTTP/1.1\r\nHost: x\r\nX-OpenStack-Ironic-API-Version: 1.33\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(client.send(&create).0, 400);
    edit_config(site.path(), &[("[\"noop\"]", "[\"noop\", \"external\"]")]);
    daemon.hang_up();
    daemon.wait_for_log("configuration reloaded");
    assert_eq!(client.send(&create).0, 201);
    daemon.stop();
}

#[test]
fn invalid_configuration_changes_nothing_and_logs_all_errors() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    edit_config(
        site.path(),
        &[("[http]\n", "[boot]\nunknown = \"shell\"\ntires = 3\n[http]\nallow = \"all\"\n")],
    );
    daemon.hang_up();
    let line = daemon.wait_for_log("reload failed; the previous configuration stays in effect");
    assert_eq!(line["level"], "ERROR");
    let error = line["error"].as_str().expect("text");
    assert!(error.contains("http.allow: expected a list of strings"), "{error}");
    assert!(error.contains("boot.tires: unknown key; did you mean boot.tries?"), "{error}");
    assert!(Connection::open(daemon.http).get("/boot/52-54-00-00-00-01").1.contains("exit 1"));

    std::fs::remove_file(site.path().join("volboot.toml")).expect("the file is removed");
    daemon.hang_up();
    let line = daemon.wait_for_log("reload failed; the previous configuration stays in effect");
    assert_eq!(line["cause"], "No such file or directory (os error 2)");
    assert!(Connection::open(daemon.http).get("/boot/52-54-00-00-00-01").1.contains("exit 1"));
    daemon.stop();
}

#[test]
fn running_transfer_keeps_its_image() {
    let site = site("");
    let images = site.path().join("images");
    std::fs::create_dir(&images).expect("the directory is created");
    std::fs::write(images.join("undionly.kpxe"), vec![b'a'; 1000]).expect("the file is written");
    let images_key = format!("images = [\"{}\"]", images.display());
    edit_config(site.path(), &[("images = []", &images_key)]);
    let mut daemon = Daemon::start(site.path());
    let (socket, first, peer) = send_read_request(daemon.tftp, "undionly.kpxe", "");
    assert_eq!(first, [&[0, 3, 0, 1], &[b'a'; 512][..]].concat());

    std::fs::write(images.join("undionly.kpxe"), "iPXE").expect("the file is written");
    daemon.hang_up();
    daemon.wait_for_log("configuration reloaded");
    assert_eq!(tftp_get(daemon.tftp, "undionly.kpxe"), "iPXE");
    socket.send_to(&[0, 4, 0, 1], peer).expect("the bytes are sent");
    // Block 1 may be retransmitted if the reload took longer than the time-out for its ACK.
    let last = std::iter::repeat_with(|| receive(&socket).0).find(|packet| packet[3] == 2).expect("block 2");
    assert_eq!(last, [&[0, 3, 0, 2], &[b'a'; 488][..]].concat());
    socket.send_to(&[0, 4, 0, 2], peer).expect("the bytes are sent");
    daemon.stop();
}

#[test]
fn restart_only_keys_are_logged() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    edit_config(
        site.path(),
        &[
            ("[tftp]\nlisten = \"127.0.0.1:0\"", "[tftp]\nlisten = \"127.0.0.1:69\""),
            ("store.redb", "other.redb"),
        ],
    );
    daemon.hang_up();
    for key in ["store.path", "tftp.listen"] {
        let line = daemon.wait_for_log("configuration key changed; takes effect after a restart");
        assert_eq!(line["key"], key);
    }
    daemon.wait_for_log("configuration reloaded");
    assert!(tftp_get(daemon.tftp, "boot.ipxe").starts_with("#!ipxe"), "the TFTP server is on the old port");
    assert!(!site.path().join("other.redb").exists());
    daemon.stop();
}

/// Sends an invalid HTTP request, which is logged at debug level.
fn send_invalid_request(daemon: &Daemon) {
    let mut stream = TcpStream::connect(daemon.http).expect("the connection opens");
    stream.set_read_timeout(Some(LIMIT)).expect("the option is set");
    stream.write_all(b"invalid\r\n\r\n").expect("the bytes are sent");
    stream.read_to_end(&mut Vec::new()).expect("the server closes the connection");
}

#[test]
fn log_filter_follows_valid_configurations_only() {
    let site = site("log = \"info\"\n");
    let mut daemon = Daemon::start(site.path());
    let changed = "log filter changed";
    edit_config(site.path(), &[("\"info\"", "\"debug\"")]);
    daemon.hang_up();
    assert_eq!(daemon.wait_for_log(changed)["filter"], "debug");
    daemon.wait_for_log("configuration reloaded");
    send_invalid_request(&daemon);
    assert_eq!(daemon.wait_for_log("connection failed")["level"], "DEBUG");

    for invalid in ["log = \"inof\"", "log = \"warn\"\ntires = 3"] {
        edit_config(site.path(), &[("log = \"debug\"", invalid)]);
        daemon.hang_up();
        daemon.wait_for_log("reload failed; the previous configuration stays in effect");
        send_invalid_request(&daemon);
        assert_eq!(daemon.wait_for_log("connection failed")["level"], "DEBUG");
        edit_config(site.path(), &[(invalid, "log = \"debug\"")]);
    }
    daemon.stop();
}

#[test]
fn environment_overrides_the_configured_log_filter() {
    let site = site("log = \"debug\"\n");
    let mut daemon = Daemon::start(site.path());
    send_invalid_request(&daemon);
    daemon.wait_for_log("connection failed");
    daemon.stop();

    let mut daemon = Daemon::start_with(site.path(), |command| {
        command.env("VOLBOOT_LOG", "info");
    });
    send_invalid_request(&daemon);
    daemon.hang_up();
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &Value| line["message"] != "configuration reloaded") {
        lines.push(daemon.next_line());
    }
    assert!(lines.iter().all(|line| line["level"] != "DEBUG"), "{lines:?}");
    let precedence = "VOLBOOT_LOG overrides the configured log filter";
    assert!(
        lines.iter().any(|line| line["message"] == precedence && line["configured"] == "debug"),
        "{lines:?}"
    );
    daemon.stop();

    // An invalid VOLBOOT_LOG is ignored.
    let mut daemon = Daemon::start_with(site.path(), |command| {
        command.env("VOLBOOT_LOG", "inof");
    });
    send_invalid_request(&daemon);
    daemon.wait_for_log("connection failed");
    daemon.stop();
}

/// Makes a named pipe: reading it blocks until a writer has opened and closed it.
fn make_pipe(path: &Path) {
    let status = Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
    assert!(status.success());
}

/// Waits until the daemon reads the pipe. The daemon's read blocks until the result is dropped.
fn hold_pipe_open(path: &Path) -> File {
    let (path, (opened, writer)) = (path.to_owned(), channel());
    std::thread::spawn(move || opened.send(File::options().write(true).open(path)));
    writer.recv_timeout(LIMIT).expect("the daemon reads the pipe").expect("the pipe opens")
}

/// Names a pipe as the certificate of the operator listener.
fn configure_certificate_pipe(site: &Path) -> PathBuf {
    let pipe = site.join("certificate.pem");
    make_pipe(&pipe);
    let keys = format!("[api]\ncertificate = \"{0}\"\nkey = \"{0}\"\n", pipe.display());
    edit_config(site, &[("[api]\n", &keys)]);
    pipe
}

#[test]
fn stop_ends_a_reload_whose_file_read_hangs() {
    for is_config in [true, false] {
        let site = site("");
        let mut daemon = Daemon::start(site.path());
        let pipe = if is_config {
            let config = site.path().join("volboot.toml");
            std::fs::remove_file(&config).expect("the file is removed");
            make_pipe(&config);
            config
        } else {
            configure_certificate_pipe(site.path())
        };
        daemon.hang_up();
        let _writer = hold_pipe_open(&pipe);
        daemon.stop();
    }
}

#[test]
fn newer_reload_replaces_one_that_hangs() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let pipe = configure_certificate_pipe(site.path());
    daemon.hang_up();
    let writer = hold_pipe_open(&pipe);
    edit_config(
        site.path(),
        &[("certificate = ", "# "), ("key = ", "# "), ("[http]\n", "[boot]\nunknown = \"shell\"\n[http]\n")],
    );
    daemon.hang_up();
    daemon.wait_for_log("configuration reloaded");
    assert!(Connection::open(daemon.http).get("/boot/52-54-00-00-00-01").1.contains("shell"));
    drop(writer);
    daemon.stop();
}
