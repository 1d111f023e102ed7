//! Tests of malformed HTTP: each request gets a 4xx response or a closed connection, within the limits.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, LIMIT, site};

/// Sends bytes, and reads until the connection closes.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("sets the time-out");
    // volboot may close the connection before all bytes are sent.
    if let Err(error) = stream.write_all(bytes) {
        assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
    }
    let mut response = Vec::new();
    match stream.read_to_end(&mut response) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8_lossy(&response).into_owned()
}

fn status_line(response: &str) -> &str {
    response.lines().next().unwrap_or_default()
}

#[test]
fn too_large_head_is_rejected() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let long = format!("GET /boot/{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(64 << 10));
    assert_eq!(
        status_line(&exchange(daemon.http, long.as_bytes())),
        "HTTP/1.1 431 Request Header Fields Too Large"
    );
    let huge = format!("GET /boot.ipxe HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(64 << 10));
    assert_eq!(
        status_line(&exchange(daemon.http, huge.as_bytes())),
        "HTTP/1.1 431 Request Header Fields Too Large"
    );
    let many = format!("GET /boot.ipxe HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert_eq!(
        status_line(&exchange(daemon.http, many.as_bytes())),
        "HTTP/1.1 431 Request Header Fields Too Large"
    );
}

#[test]
fn bytes_other_than_http_are_rejected() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    assert_eq!(
        status_line(&exchange(daemon.http, b"\x16\x03\x01\x02\x00\x01\r\n\r\n")),
        "HTTP/1.1 400 Bad Request"
    );
}

#[test]
fn incomplete_head_times_out() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let start = Instant::now();
    let response = exchange(daemon.http, b"GET /boot.ipxe HTTP/1.1\r\nHost: x\r\n");
    assert!(start.elapsed() < Duration::from_secs(15), "after {:?}: {response}", start.elapsed());
    assert!(!response.contains("200 OK"), "{response}");
}

#[test]
fn request_without_a_host_or_with_two_is_rejected() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    for address in [daemon.http, daemon.api] {
        for (head, expected) in [
            ("HTTP/1.1\r\n", "HTTP/1.1 400 Bad Request"),
            ("HTTP/1.1\r\nHost: a\r\nHost: a\r\n", "HTTP/1.1 400 Bad Request"),
            ("HTTP/1.0\r\nHost: a\r\nHost: b\r\n", "HTTP/1.0 400 Bad Request"),
            ("HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", "HTTP/1.1 200 OK"),
            ("HTTP/1.0\r\n", "HTTP/1.0 200 OK"),
        ] {
            let response = exchange(address, format!("GET /healthz {head}\r\n").as_bytes());
            assert_eq!(status_line(&response), expected, "{head}");
        }
    }
}
