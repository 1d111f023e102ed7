//! What others do wrong at the HTTP doors: each a clear 4xx or a closed connection, within limits.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, LIMIT, site};

/// Sends bytes and gives what comes back until the connection closes.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("is set");
    // The other side may have seen enough before all is sent.
    if let Err(error) = stream.write_all(bytes) {
        assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.lines().next().unwrap_or_default()
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let long = format!("GET /boot/{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(64 << 10));
    assert_eq!(
        status(&exchange(daemon.http, long.as_bytes())),
        "HTTP/1.1 431 Request Header Fields Too Large"
    );
    let huge = format!("GET /boot.ipxe HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(64 << 10));
    assert_eq!(
        status(&exchange(daemon.http, huge.as_bytes())),
        "HTTP/1.1 431 Request Header Fields Too Large"
    );
    let many = format!("GET /boot.ipxe HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert_eq!(
        status(&exchange(daemon.http, many.as_bytes())),
        "HTTP/1.1 431 Request Header Fields Too Large"
    );
}

#[test]
fn what_is_no_http_is_refused() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    assert_eq!(
        status(&exchange(daemon.http, b"\x16\x03\x01\x02\x00\x01\r\n\r\n")),
        "HTTP/1.1 400 Bad Request"
    );
}

#[test]
fn a_client_that_never_finishes_its_headers_is_cut_off() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let began = Instant::now();
    let answer = exchange(daemon.http, b"GET /boot.ipxe HTTP/1.1\r\nHost: x\r\n");
    assert!(began.elapsed() < Duration::from_secs(15), "after {:?}: {answer}", began.elapsed());
    assert!(!answer.contains("200 OK"), "{answer}");
}
