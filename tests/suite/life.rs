//! How the process starts, stops, and survives.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use crate::daemon::{Daemon, LIMIT, site, volboot};

fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("is set");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("is answered");
    answer
}

#[test]
fn it_serves_all_doors_and_ends_in_order() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    assert!(get(daemon.http, "/healthz").ends_with("\r\n\r\nok\n"));
    assert!(get(daemon.http, "/boot.ipxe").contains("\r\ncontent-type: text/plain; charset=utf-8\r\n"));
    daemon.stop();
}

#[test]
fn one_line_per_boot_request_tells_the_outcome() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    get(daemon.http, "/boot/52-54-00-00-00-01?try=3");
    let line = daemon.line("boot request");
    assert_eq!(line["mac"], "52:54:00:00:00:01");
    assert_eq!(line["outcome"], "unknown");
    assert_eq!(line["attempt"], 3);
    assert!(line["micros"].is_u64(), "{line}");
}

#[test]
fn a_running_request_is_finished_before_the_end() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let mut stream = TcpStream::connect(daemon.api).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("is set");
    let body = r#"{"driver": "fake-hardware"}"#;
    write!(
        stream,
        "POST /v1/nodes HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .expect("is sent");
    // The server asks for the body when it has begun to work on the request.
    let mut begun = [0; 25];
    stream.read_exact(&mut begun).expect("is answered");
    assert_eq!(&begun, b"HTTP/1.1 100 Continue\r\n\r\n");
    daemon.terminate();
    daemon.line("stopping");
    stream.write_all(body.as_bytes()).expect("is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("is answered");
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn who_asks_every_ten_seconds_keeps_the_connection() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let mut stream = TcpStream::connect(daemon.api).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("is set");
    for pause in [Duration::ZERO, Duration::from_secs(11)] {
        // As OpenStack's clients do while they wait for a node.
        std::thread::sleep(pause);
        stream.write_all(b"HEAD /v1 HTTP/1.1\r\nHost: x\r\n\r\n").expect("is sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("is answered");
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&head));
    }
}

#[test]
fn a_client_that_says_nothing_does_not_keep_it_from_ending() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let mut silent = TcpStream::connect(daemon.http).expect("connects");
    silent.write_all(b"GET / HT").expect("is sent");
    get(daemon.http, "/healthz");
    daemon.stop();
}

fn fails(arguments: &[&str]) -> String {
    fails_with(1, arguments)
}

fn fails_with(code: i32, arguments: &[&str]) -> String {
    let output = volboot(arguments).stdout(Stdio::null()).output().expect("runs");
    assert_eq!(output.status.code(), Some(code));
    let text = String::from_utf8(output.stderr).expect("text");
    // The log of what was found on the way is JSON; the error is for a person.
    text.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_port_that_is_taken_is_one_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("an address");
    let site = site("");
    let path = site.path().join("volboot.toml");
    let config = std::fs::read_to_string(&path).expect("text");
    let http = format!("[http]\nlisten = \"{address}\"");
    std::fs::write(&path, config.replace("[http]\nlisten = \"127.0.0.1:0\"", &http)).expect("is written");
    let error = fails(&["serve", "--config", path.to_str().expect("text")]);
    assert_eq!(
        error,
        format!("volboot: cannot listen on {address} (http): Address already in use (os error 98)")
    );
}

/// The service manager has to tell it from faults that pass: see `RestartPreventExitStatus=` in the unit.
#[test]
fn a_store_of_a_newer_version_is_one_clear_error_with_a_code_of_its_own() {
    let site = site("");
    Daemon::start(site.path()).stop();
    let store = site.path().join("store.redb");
    let database = redb::Database::open(&store).expect("opens");
    let write = database.begin_write().expect("begins");
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    write.open_table(meta).expect("is there").insert("schema", 99).expect("is put");
    write.commit().expect("is written");
    drop(database);
    let config = site.path().join("volboot.toml");
    let error = fails_with(3, &["serve", "--config", config.to_str().expect("text")]);
    let words = "has schema 99, this volboot knows up to 1: install the newer volboot again";
    assert_eq!(error, format!("volboot: {} {words}", store.display()));
}

#[test]
fn a_store_that_is_in_use_is_one_clear_error() {
    let site = site("");
    let _first = Daemon::start(site.path());
    let error = fails(&["serve", "--config", site.path().join("volboot.toml").to_str().expect("text")]);
    let store = site.path().join("store.redb");
    assert_eq!(
        error,
        format!("volboot: {} is in use by another process: is volboot running already?", store.display())
    );
}

#[test]
fn a_configuration_is_checked_without_starting_anything() {
    let site = site("");
    let path = site.path().join("volboot.toml");
    let name = path.to_str().expect("text");
    let good = volboot(&["check-config", "--config", name]).output().expect("runs");
    assert!(good.status.success());
    assert_eq!(String::from_utf8(good.stdout).expect("text"), format!("{name}: no faults\n"));
    std::fs::write(&path, "[http]\nlisten = 7\n[boot]\ntires = 3\n").expect("is written");
    let expected = format!(
        "volboot: {name}: 2 faults:\n  http.listen: expected a text\n  \
         boot.tires: there is no such key; did you mean boot.tries?"
    );
    assert_eq!(fails(&["check-config", "--config", name]), expected);
    assert_eq!(fails(&["serve", "--config", name]), expected);
}

#[test]
fn it_starts_again_after_it_was_killed() {
    let site = site("");
    for _ in 0..3 {
        let mut daemon = Daemon::start(site.path());
        daemon.kill();
    }
}

#[test]
fn the_binaries_of_a_host_are_shown_to_people_and_to_programs() {
    let site = site("");
    let path = site.path().join("volboot.toml");
    let config = std::fs::read_to_string(&path).expect("text");
    let images = format!("images = [\"{}\"]", site.path().display());
    std::fs::write(&path, config.replace("images = []", &images)).expect("is written");
    std::fs::write(site.path().join("snponly.efi"), b"MZ\x001.21.1+ (g4bd64)\0").expect("is written");
    let name = path.to_str().expect("text");
    let output = |arguments: &[&str]| {
        let output = volboot(arguments).output().expect("runs");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    };

    let shown = output(&["images", "--config", name]);
    let (found, missing) = shown.split_once("\nNot found in ").expect("both");
    let row = found.lines().nth(1).expect("a row");
    assert!(row.starts_with("snponly.efi  UEFI x86_64  1.21.1+ (g4bd64)  "), "{row}");
    assert_eq!(missing.lines().count(), 6, "{missing}");
    assert!(missing.contains("\nipxe-arm64.efi  UEFI arm64"), "{missing}");

    let shown: serde_json::Value =
        serde_json::from_str(&output(&["images", "--json", "--config", name])).expect("json");
    assert_eq!(shown["found"][0]["version"], "1.21.1+ (g4bd64)");
    assert_eq!(shown["found"][0]["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(shown["missing"][0]["name"], "undionly.kpxe");
}
