//! The daemon's boot listener: each rejected request is a log line, and each address has a limited number of them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::daemon::{Daemon, LIMIT, site};

/// Sends a request; `headers` has complete lines.
fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("sets the time-out");
    write!(stream, "GET {path} HTTP/1.0\r\n{headers}\r\n").expect("sends");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("responds");
    response
}

#[test]
fn rejected_request_is_a_paced_log_line() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    for (path, reason) in [
        ("/boot/52-54-00?macs=", "cannot parse the path"),
        ("/boot//event?step=up", "the request names no network card"),
        ("/images/snponly.efi", "this host lacks snponly.efi"),
        ("/bootx64.efi", "no such path"),
    ] {
        get(daemon.http, path, "");
        let line = daemon.wait_for_log("request rejected");
        let path = path.split('?').next().expect("a path");
        assert_eq!(
            (line["path"].as_str(), line["remote"].as_str()),
            (Some(path), Some("127.0.0.1")),
            "{line}"
        );
        assert!(line["reason"].as_str().is_some_and(|text| text.starts_with(reason)), "{line}");
        assert_eq!(line["level"], "WARN");
    }
    // The burst is used up: the next lines have level debug. A forged line stays within its own, and is short.
    for _ in 0..20 {
        get(daemon.http, &format!("/x%0Aforged{}", "y".repeat(4000)), "");
    }
    get(daemon.http, "/boot/52-54-00-00-00-07", "");
    loop {
        let line = daemon.next_line();
        if line["message"] == "boot request" {
            break;
        }
        assert_ne!(line["message"], "request rejected", "{line}");
    }
}

#[test]
fn autoexec_ipxe_names_the_host_by_which_the_machine_reached_volboot() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    for (headers, expected) in [
        (String::new(), format!("http://{}/", daemon.http)),
        ("Host: boot.example.org:8080\r\n".to_owned(), "http://boot.example.org:8080/".to_owned()),
        (
            format!(
                "Host: {}\r\nX-Forwarded-Host: boot.example.org\r\nX-Forwarded-Proto: https\r\n",
                daemon.http
            ),
            "https://boot.example.org/".to_owned(),
        ),
        ("Host: a${b}c\r\n".to_owned(), format!("http://{}/", daemon.http)),
    ] {
        let script = get(daemon.http, "/autoexec.ipxe", &headers);
        assert!(script.contains(&format!(" {expected}boot/${{netX/mac:hexhyp}}?")), "{headers}: {script}");
    }
}
