//! Start, graceful shutdown, crash, start-up errors, and the offline subcommands.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use crate::daemon::{Daemon, LIMIT, site, volboot};
use crate::firmware::edit_config;

fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the connection opens");
    stream.set_read_timeout(Some(LIMIT)).expect("the option is set");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("the bytes are sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("the response arrives");
    response
}

#[test]
fn all_listeners_serve_and_shutdown_is_clean() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    assert!(get(daemon.http, "/healthz").ends_with("\r\n\r\nok\n"));
    assert!(get(daemon.http, "/boot.ipxe").contains("\r\ncontent-type: text/plain; charset=utf-8\r\n"));
    daemon.stop();
}

#[test]
fn boot_request_is_one_log_line() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    get(daemon.http, "/boot/52-54-00-00-00-01?try=3");
    let line = daemon.wait_for_log("boot request");
    assert_eq!(line["mac"], "52:54:00:00:00:01");
    assert_eq!(line["outcome"], "unknown");
    assert_eq!(line["attempt"], 3);
    assert!(line["duration_us"].is_u64(), "{line}");
}

#[test]
fn shutdown_completes_a_running_request() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let mut stream = TcpStream::connect(daemon.api).expect("the connection opens");
    stream.set_read_timeout(Some(LIMIT)).expect("the option is set");
    let body = r#"{"driver": "fake-hardware"}"#;
    write!(
        stream,
        "POST /v1/nodes HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .expect("the bytes are sent");
    // "100 Continue" shows that the handler runs.
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).expect("the response arrives");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    daemon.terminate();
    daemon.wait_for_log("stopping");
    stream.write_all(body.as_bytes()).expect("the bytes are sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("the response arrives");
    assert!(response.starts_with("HTTP/1.1 201 Created\r\n"), "{response}");
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn polling_client_keeps_its_connection() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let mut stream = TcpStream::connect(daemon.api).expect("the connection opens");
    stream.set_read_timeout(Some(LIMIT)).expect("the option is set");
    for pause in [Duration::ZERO, Duration::from_secs(11)] {
        // OpenStack's clients poll at this interval while waiting for a node.
        std::thread::sleep(pause);
        stream.write_all(b"HEAD /v1 HTTP/1.1\r\nHost: x\r\n\r\n").expect("the bytes are sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the response arrives");
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&head));
    }
}

#[test]
fn idle_client_does_not_delay_shutdown() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let mut idle = TcpStream::connect(daemon.http).expect("the connection opens");
    idle.write_all(b"GET / HT").expect("the bytes are sent");
    get(daemon.http, "/healthz");
    daemon.stop();
}

fn error_of(arguments: &[&str]) -> String {
    error_with_code(1, arguments)
}

fn error_with_code(code: i32, arguments: &[&str]) -> String {
    let output = volboot(arguments).stdout(Stdio::null()).output().expect("the command runs");
    assert_eq!(output.status.code(), Some(code));
    let text = String::from_utf8(output.stderr).expect("text");
    // Log lines are JSON; the error is plain text.
    text.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>().join("\n")
}

#[test]
fn port_in_use_is_one_error_line() {
    let blocker = TcpListener::bind("127.0.0.1:0").expect("the socket binds");
    let address = blocker.local_addr().expect("an address");
    let site = site("");
    let path = site.path().join("volboot.toml");
    let config = std::fs::read_to_string(&path).expect("text");
    let http = format!("[http]\nlisten = \"{address}\"");
    std::fs::write(&path, config.replace("[http]\nlisten = \"127.0.0.1:0\"", &http))
        .expect("the file is written");
    let error = error_of(&["serve", "--config", path.to_str().expect("text")]);
    assert_eq!(
        error,
        format!("volboot: cannot listen on {address} (http): Address already in use (os error 98)")
    );
}

/// The exit code keeps the service manager from a restart: see `RestartPreventExitStatus=` in the unit.
#[test]
fn store_of_a_newer_version_is_one_error_line_with_exit_code_3() {
    let site = site("");
    Daemon::start(site.path()).stop();
    let store = site.path().join("store.redb");
    let database = redb::Database::open(&store).expect("the store opens");
    let write = database.begin_write().expect("the transaction starts");
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    write.open_table(meta).expect("the table exists").insert("schema", 99).expect("the value is stored");
    write.commit().expect("the commit succeeds");
    drop(database);
    let config = site.path().join("volboot.toml");
    let error = error_with_code(3, &["serve", "--config", config.to_str().expect("text")]);
    let problem = "has schema 99, this volboot supports up to 3: install the newer volboot again";
    assert_eq!(error, format!("volboot: {} {problem}", store.display()));
}

#[test]
fn store_in_use_is_one_error_line() {
    let site = site("");
    let _first = Daemon::start(site.path());
    let error = error_of(&["serve", "--config", site.path().join("volboot.toml").to_str().expect("text")]);
    let store = site.path().join("store.redb");
    assert_eq!(
        error,
        format!("volboot: {} is in use by another process: is volboot running already?", store.display())
    );
}

#[test]
fn check_config_prints_all_errors() {
    let site = site("");
    let path = site.path().join("volboot.toml");
    let name = path.to_str().expect("text");
    let valid = volboot(&["check-config", "--config", name]).output().expect("the command runs");
    assert!(valid.status.success());
    assert_eq!(
        String::from_utf8(valid.stdout).expect("text"),
        format!("{name}: the configuration is valid\n")
    );
    std::fs::write(&path, "[http]\nlisten = 7\n[boot]\ntires = 3\n").expect("the file is written");
    let expected = format!(
        "volboot: {name}: 2 errors:\n  http.listen: expected a string\n  \
         boot.tires: unknown key; did you mean boot.tries?"
    );
    assert_eq!(error_of(&["check-config", "--config", name]), expected);
    assert_eq!(error_of(&["serve", "--config", name]), expected);
}

#[test]
fn warnings_are_printed_and_logged() {
    let site = site("");
    edit_config(
        site.path(),
        &[("[tftp]\nlisten = \"127.0.0.1:0\"", "[tftp]\nlisten = [\"127.0.0.1:0\", \"[::1]:0\"]")],
    );
    let name = site.path().join("volboot.toml");
    let name = name.to_str().expect("text");
    let output = volboot(&["check-config", "--config", name]).output().expect("the command runs");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    let expected = "http.listen: 127.0.0.1:0 is not reachable for machines that use TFTP at [::1]:0; ";
    assert!(text.starts_with(&format!("warning: {expected}")), "{text}");
    assert!(text.ends_with(&format!("{name}: the configuration is valid\n")), "{text}");
    // The line at the start is before the one of readiness. A reload repeats it.
    let mut daemon = Daemon::start(site.path());
    daemon.hang_up();
    let line = daemon.wait_for_log("configuration warning");
    assert!(line["warning"].as_str().is_some_and(|text| text.starts_with(expected)), "{line}");
}

#[test]
fn restart_after_kill() {
    let site = site("");
    for _ in 0..3 {
        let mut daemon = Daemon::start(site.path());
        daemon.kill();
    }
}

#[test]
fn images_are_listed_as_table_and_json() {
    let site = site("");
    let path = site.path().join("volboot.toml");
    let config = std::fs::read_to_string(&path).expect("text");
    let images = format!("images = [\"{}\"]", site.path().display());
    std::fs::write(&path, config.replace("images = []", &images)).expect("the file is written");
    std::fs::write(site.path().join("snponly.efi"), b"MZ\x001.21.1+ (g4bd64)\0")
        .expect("the file is written");
    let name = path.to_str().expect("text");
    let output = |arguments: &[&str]| {
        let output = volboot(arguments).output().expect("the command runs");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    };

    let table = output(&["images", "--config", name]);
    let (available, missing) = table.split_once("\nNot found in ").expect("two tables");
    let row = available.lines().nth(1).expect("a row");
    assert!(row.starts_with("snponly.efi  UEFI x86_64  7 9 16     1.21.1+ (g4bd64)  "), "{row}");
    assert_eq!(missing.lines().count(), 6, "{missing}");
    assert!(missing.contains("\nipxe-arm64.efi  UEFI arm64"), "{missing}");

    let list: serde_json::Value =
        serde_json::from_str(&output(&["images", "--json", "--config", name])).expect("json");
    assert_eq!(list["available"][0]["version"], "1.21.1+ (g4bd64)");
    assert_eq!(list["available"][0]["architectures"], serde_json::json!([7, 9, 16]));
    assert_eq!(list["available"][0]["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(list["missing"][0]["name"], "undionly.kpxe");
}
